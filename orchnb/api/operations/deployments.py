"""Deployments, their schedules, and the runs created from them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchnb.api import models
from orchnb.api.answers import a, list_of
from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.coercion import (
    Filter,
    HasName,
    as_dict,
    as_id,
    as_list,
    as_state,
    as_tags,
    as_uuid,
)
from orchnb.api.operations.filters import called, named_words, with_words
from orchnb.api.operations.flows import check_flow_name, deleted_ids, id_of_flow, read_flows
from orchnb.api.operations.parameter_validation import check_parameters
from orchnb.api.operations.payloads import (
    UNCHANGED,
    Data,
    Unchanged,
    changes_of,
    fields_of,
    quoted,
    without_none,
)
from orchnb.api.operations.schedules import (
    ScheduleLike,
    as_schedule,
    as_schedules,
)
from orchnb.api.operations.suggestions import (
    Names,
    did_you_mean,
    first_pages,
    near_names,
    or_near,
    or_none,
)
from orchnb.api.operations.unanswered import created_with_keys
from orchnb.api.times import ToCome, to_come
from orchnb.http.calls import Call, nothing
from orchnb.http.calls import path as api_path  # two operations have an argument of that name

if TYPE_CHECKING:
    from orchnb.api.models import (
        AnyState,
        Deployment,
        DeploymentSchedule,
        FlowRun,
        FlowRunCreateResult,
    )


_deployment = a(lambda: models.Deployment)
_deployments = list_of(lambda: models.Deployment)
_schedules = list_of(lambda: models.DeploymentSchedule)
_flow_run = a(lambda: models.FlowRun)
_flow_runs = list_of(lambda: models.FlowRun)
_count = a(lambda: int)

# Prefect's server rejects these characters in names, and says only that it failed.
_BANNED = frozenset("/%&<>")


_results = a(lambda: models.FlowRunCreateResults)


def _missing(deployment_id: object) -> str:
    return f"deployment with the id {quoted(deployment_id)}"


@operation
def create_deployment(
    flow_id: UUID | str | HasName,
    name: str,
    *,
    version: str | None = None,
    version_info: Data | None = None,
    schedules: Iterable[ScheduleLike] | None = None,
    concurrency_limit: int | None = None,
    concurrency_options: Data | None = None,
    parameters: Mapping[str, Any] | None = None,
    description: str | None = None,
    work_queue_name: str | None = None,
    work_pool_name: str | None = None,
    tags: Iterable[str] | None = None,
    storage_document_id: UUID | str | None = None,
    path: str | None = None,
    entrypoint: str | None = None,
    infrastructure_document_id: UUID | str | None = None,
    parameter_openapi_schema: Data | None = None,
    paused: bool | None = None,
    pull_steps: Sequence[Mapping[str, Any]] | None = None,
    enforce_parameter_schema: bool | None = None,
    job_variables: Mapping[str, Any] | None = None,
    labels: Mapping[str, Any] | None = None,
    branch: str | None = None,
    base: UUID | str | None = None,
    root: UUID | str | None = None,
) -> Generator[Call[Any], Any, UUID]:
    """Create a deployment of a flow, or update the one with that name; return its id.

    An update leaves the fields that are not given unchanged, except schedules and parameters, which are
    always replaced.

    Args:
        flow_id: the flow's id or name, or anything with a ``name``. If no flow has that name, one is
            created.
        schedules: when to create runs: ``[{"cron": "0 6 * * *", "timezone": "Asia/Tokyo"}]``,
            ``[{"interval": timedelta(hours=1), "parameters": {...}}]``, or Prefect's schedule objects.
        parameters: default parameters for the deployment's runs.
        parameter_openapi_schema: the flow's parameters, as a JSON Schema. By default any parameters
            are accepted.
        work_pool_name: where runs execute; without one, the process that polls for them executes them.
        branch: ``branch``, ``base`` and ``root`` are for Prefect Cloud.

    Raises:
        ObjectNotFound: the work pool, or something else the deployment refers to, does not exist.
        ValueError: a schedule is invalid, or the name contains a character that is not allowed.
    """
    if not _BANNED.isdisjoint(name):
        raise ValueError(
            f"A deployment's name cannot contain any of {' '.join(sorted(_BANNED))}, as "
            f"{quoted(name)} does; the part before a / is the name of its flow"
        )
    scheduled = None if schedules is None else as_schedules(schedules)
    labelled = as_tags(tags)
    flow = yield from id_of_flow(flow_id)
    deployment: Deployment = yield from Call(
        "POST",
        api_path("/deployments/"),
        _deployment,
        repeatable=True,  # identified by its flow and name
        look="read_deployment_by_name",
        json=without_none(
            flow_id=str(flow),
            name=name,
            version=version,
            version_info=version_info,
            schedules=scheduled,
            concurrency_limit=concurrency_limit,
            concurrency_options=concurrency_options,
            parameters=as_dict(parameters, "parameters"),
            description=description,
            work_queue_name=work_queue_name,
            work_pool_name=work_pool_name,
            tags=labelled,
            storage_document_id=storage_document_id,
            path=path,
            entrypoint=entrypoint,
            infrastructure_document_id=infrastructure_document_id,
            parameter_openapi_schema=parameter_openapi_schema,
            paused=paused,
            pull_steps=None if pull_steps is None else as_list(pull_steps, "pull_steps"),
            enforce_parameter_schema=enforce_parameter_schema,
            job_variables=as_dict(job_variables, "job_variables"),
            labels=as_dict(labels, "labels"),
            branch=branch,
            base=base,
            root=root,
        ),
        missing=f"such object (referenced by deployment {quoted(name)})",
        refusal="The server could not create the deployment: something it refers to does not exist, or "
        "its job variables or parameters are invalid",
    )
    return deployment.id


@operation
def read_deployment(deployment_id: UUID | str) -> Call[Deployment]:
    """Read a deployment by its id.

    Raises:
        ObjectNotFound: there is no deployment with that id.
    """
    return Call(
        "GET",
        api_path("/deployments/{}", as_id(deployment_id, "deployment_id")),
        _deployment,
        missing=_missing(deployment_id),
    )


@operation
def read_deployment_by_name(name: str) -> Generator[Call[Any], Any, Deployment]:
    """Read a deployment by its name, which is ``flow/deployment``.

    Raises:
        ObjectNotFound: there is no deployment with that name; the message suggests similar names.
        ValueError: the name does not have that form; the message suggests similar names.
    """
    flow_name, _, deployment_name = name.partition("/")
    if not flow_name or not deployment_name:
        names = yield from or_none(_names())
        near = [each for each in names if name and name in each.split("/")] or near_names(
            name, names
        )
        words = f"A deployment's name has the form 'flow/deployment'; {quoted(name)} does not"
        raise ValueError(f"{words}. {did_you_mean(near[:3])}".strip())
    call = Call(
        "GET",
        api_path("/deployments/name/{}/{}", flow_name, deployment_name),
        _deployment,
        missing=f"deployment {quoted(name)}",
    )
    deployment: Deployment = yield from or_near(call, name, _names)
    return deployment


def _names() -> Names:
    deployments = yield from first_pages(lambda offset: read_deployments(offset=offset))
    ids = sorted({str(deployment.flow_id) for deployment in deployments})
    flows = yield from first_pages(
        lambda offset: read_flows(flow_filter={"id": {"any_": ids}}, offset=offset)
    )
    flow_names = {flow.id: flow.name for flow in flows}
    return [
        f"{flow_names[deployment.flow_id]}/{deployment.name}"
        for deployment in deployments
        if deployment.flow_id in flow_names
    ]


@operation
def read_deployments(
    *,
    flow_filter: Filter | None = None,
    flow_run_filter: Filter | None = None,
    task_run_filter: Filter | None = None,
    deployment_filter: Filter | None = None,
    work_pool_filter: Filter | None = None,
    work_queue_filter: Filter | None = None,
    name_like: str | None = None,
    tags: Iterable[str] | None = None,
    flow_name: str | None = None,
    limit: int | None = None,
    sort: str | None = None,
    offset: int = 0,
) -> Call[ModelList[Deployment]]:
    """Read deployments.

    Filters are the API's filter objects; ``sort`` is one of its sort orders (``NAME_ASC``,
    ``CREATED_DESC``, ...). With ``limit=None`` the server decides; it returns at most 200. Keywords:
    ``name_like`` is part of the name; deployments must have all of ``tags``; ``flow_name`` is the name of
    their flow.

    Raises:
        ValueError: a keyword repeats a condition of a filter object.
    """
    return Call(
        "POST",
        api_path("/deployments/filter"),
        _deployments,
        repeatable=True,
        after=check_flow_name(flow_name, offset),
        json=without_none(
            flows=with_words(flow_filter, "flow_filter", called(flow_name)),
            flow_runs=flow_run_filter,
            task_runs=task_run_filter,
            deployments=with_words(
                deployment_filter, "deployment_filter", named_words(name_like=name_like, tags=tags)
            ),
            work_pools=work_pool_filter,
            work_pool_queues=work_queue_filter,
            limit=limit,
            sort=sort,
            offset=offset,
        ),
    )


@operation
def count_deployments(
    *,
    flow_filter: Filter | None = None,
    flow_run_filter: Filter | None = None,
    task_run_filter: Filter | None = None,
    deployment_filter: Filter | None = None,
    work_pool_filter: Filter | None = None,
    work_queue_filter: Filter | None = None,
    name_like: str | None = None,
    tags: Iterable[str] | None = None,
    flow_name: str | None = None,
) -> Call[int]:
    """Return the number of deployments; filters and keywords as in `read_deployments`."""
    return Call(
        "POST",
        api_path("/deployments/count"),
        _count,
        repeatable=True,
        after=check_flow_name(flow_name),
        json=without_none(
            flows=with_words(flow_filter, "flow_filter", called(flow_name)),
            flow_runs=flow_run_filter,
            task_runs=task_run_filter,
            deployments=with_words(
                deployment_filter, "deployment_filter", named_words(name_like=name_like, tags=tags)
            ),
            work_pools=work_pool_filter,
            work_pool_queues=work_queue_filter,
        ),
    )


@operation
def update_deployment(
    deployment_id: UUID | str,
    deployment: Data | None = None,
    *,
    version: str | Unchanged | None = UNCHANGED,
    version_info: Data | Unchanged = UNCHANGED,
    description: str | Unchanged | None = UNCHANGED,
    paused: bool | Unchanged = UNCHANGED,
    schedules: Iterable[ScheduleLike] | Unchanged = UNCHANGED,
    concurrency_limit: int | Unchanged | None = UNCHANGED,
    concurrency_options: Data | Unchanged | None = UNCHANGED,
    parameters: Mapping[str, Any] | Unchanged = UNCHANGED,
    parameter_openapi_schema: Data | Unchanged | None = UNCHANGED,
    enforce_parameter_schema: bool | Unchanged = UNCHANGED,
    tags: Iterable[str] | Unchanged = UNCHANGED,
    work_pool_name: str | Unchanged | None = UNCHANGED,
    work_queue_name: str | Unchanged | None = UNCHANGED,
    path: str | Unchanged | None = UNCHANGED,
    entrypoint: str | Unchanged | None = UNCHANGED,
    pull_steps: Sequence[Mapping[str, Any]] | Unchanged | None = UNCHANGED,
    job_variables: Mapping[str, Any] | Unchanged = UNCHANGED,
    storage_document_id: UUID | str | Unchanged | None = UNCHANGED,
    infrastructure_document_id: UUID | str | Unchanged | None = UNCHANGED,
) -> Call[None]:
    """Update a deployment: ``update_deployment(id, tags=["nightly"], parameters={"day": 1})``.

    Each given value replaces the old one; a schedule whose ``slug`` the deployment already has updates
    that schedule.

    Args:
        deployment: the fields to change that are not given by keyword.

    Raises:
        ObjectNotFound: there is no deployment with that id.
        ValueError: no changes are given, or a schedule is invalid.
    """
    changes = changes_of(
        deployment,
        version=version,
        version_info=version_info,
        description=description,
        paused=paused,
        schedules=schedules,
        concurrency_limit=concurrency_limit,
        concurrency_options=concurrency_options,
        parameters=parameters,
        parameter_openapi_schema=parameter_openapi_schema,
        enforce_parameter_schema=enforce_parameter_schema,
        tags=tags if isinstance(tags, Unchanged) else as_tags(tags),
        work_pool_name=work_pool_name,
        work_queue_name=work_queue_name,
        path=path,
        entrypoint=entrypoint,
        pull_steps=pull_steps,
        job_variables=job_variables,
        storage_document_id=storage_document_id,
        infrastructure_document_id=infrastructure_document_id,
    )
    if changes.get("schedules") is not None:
        changes["schedules"] = as_schedules(changes["schedules"])
    return Call(
        "PATCH",
        api_path("/deployments/{}", as_id(deployment_id, "deployment_id")),
        nothing,
        json=changes,
        missing=_missing(deployment_id),
        refusal="The server could not update the deployment: its job variables or parameters are "
        "invalid",
    )


@operation
def pause_deployment(deployment_id: UUID | str) -> Call[None]:
    """Pause a deployment's schedules; scheduled runs that have not started are deleted.

    Raises:
        ObjectNotFound: there is no deployment with that id.
    """
    return Call(
        "POST",
        api_path("/deployments/{}/pause_deployment", as_id(deployment_id, "deployment_id")),
        nothing,
        repeatable=True,  # pausing twice has the same effect
        missing=_missing(deployment_id),
    )


@operation
def resume_deployment(deployment_id: UUID | str) -> Call[None]:
    """Resume a paused deployment's schedules.

    Raises:
        ObjectNotFound: there is no deployment with that id.
    """
    return Call(
        "POST",
        api_path("/deployments/{}/resume_deployment", as_id(deployment_id, "deployment_id")),
        nothing,
        repeatable=True,  # resuming twice has the same effect
        missing=_missing(deployment_id),
    )


@operation
def set_deployment_paused_state(
    deployment_id: UUID | str, paused: bool
) -> Generator[Call[Any], Any, None]:
    """Pause or resume a deployment; prefer `pause_deployment` and `resume_deployment`.

    It exists for code written for Prefect's client, where it is deprecated.

    Raises:
        ObjectNotFound: there is no deployment with that id.
    """
    yield from (pause_deployment if paused else resume_deployment)(deployment_id)


@operation
def create_deployment_branch(
    deployment_id: UUID | str,
    branch: str,
    options: Data | None = None,
    overrides: Data | None = None,
) -> Call[UUID]:
    """Create a branch of a deployment and return the new deployment's id.

    Prefect Cloud supports this; Prefect's own server, as of 3.8, does not.

    Args:
        branch: the branch's name.
        options: ``{"schedule_handling": "keep"}``, ``inactive`` or ``remove``: what happens to the
            schedules on the branch. By default they are removed.
        overrides: the fields that differ on the branch, as in `update_deployment`.

    Raises:
        ObjectNotFound: there is no deployment with that id.
        OperationNotFound: the server does not support branches.
        ValueError: the branch has no name, the overrides are empty, or a schedule in them is invalid.
    """
    if not branch.strip():
        raise ValueError("A branch's name cannot be blank")
    changes = None
    if overrides is not None:
        changes = next(iter(update_deployment(deployment_id, overrides))).json
    return Call(
        "POST",
        api_path("/deployments/{}/branch", as_id(deployment_id, "deployment_id")),
        lambda response: _deployment(response).id,
        json=without_none(branch=branch, options=fields_of(options), overrides=changes),
        look="read_deployments",
        missing=_missing(deployment_id),
    )


@operation
def delete_deployment(deployment_id: UUID | str) -> Call[None]:
    """Delete a deployment.

    Raises:
        ObjectNotFound: there is no deployment with that id.
    """
    return Call(
        "DELETE",
        api_path("/deployments/{}", as_id(deployment_id, "deployment_id")),
        nothing,
        missing=_missing(deployment_id),
    )


@operation
def bulk_delete_deployments(
    deployment_filter: Filter, *, limit: int | None = None
) -> Call[list[UUID]]:
    """Delete the deployments that match a filter, at most 50 per call; return their ids.

    An empty filter matches all deployments. ``limit`` can be less than 50.
    """
    return Call(
        "POST",
        api_path("/deployments/bulk_delete"),
        deleted_ids,
        json=without_none(deployments=deployment_filter, limit=limit),
        look="read_deployments",
    )


# Schedules.


@operation
def create_deployment_schedules(
    deployment_id: UUID | str,
    schedules: Iterable[ScheduleLike],
    *,
    max_scheduled_runs: int | None = None,
    parameters: Mapping[str, Any] | None = None,
    slug: str | None = None,
) -> Call[ModelList[DeploymentSchedule]]:
    """Add schedules to a deployment: ``[{"cron": "0 6 * * *", "timezone": "Europe/Vienna"}]``.

    Args:
        schedules: plain data, or Prefect's schedule objects; see `create_deployment`.
        max_scheduled_runs: the default for schedules without one, as are ``parameters`` and ``slug``.

    Raises:
        ObjectNotFound: there is no deployment with that id.
        ValueError: a schedule is invalid.
    """
    beside = without_none(max_scheduled_runs=max_scheduled_runs, parameters=parameters, slug=slug)
    return Call(
        "POST",
        api_path("/deployments/{}/schedules", as_id(deployment_id, "deployment_id")),
        _schedules,
        json=[{**beside, **schedule} for schedule in as_schedules(schedules)],
        look="read_deployment_schedules",
        missing=_missing(deployment_id),
        conflict="The deployment already has a schedule with that slug",
    )


@operation
def read_deployment_schedules(
    deployment_id: UUID | str,
) -> Call[ModelList[DeploymentSchedule]]:
    """Read a deployment's schedules.

    Raises:
        ObjectNotFound: there is no deployment with that id.
    """
    return Call(
        "GET",
        api_path("/deployments/{}/schedules", as_id(deployment_id, "deployment_id")),
        _schedules,
        missing=_missing(deployment_id),
    )


@operation
def update_deployment_schedule(
    deployment_id: UUID | str,
    schedule_id: UUID | str,
    *,
    active: bool | None = None,
    schedule: ScheduleLike | None = None,
    max_scheduled_runs: int | None = None,
    parameters: Mapping[str, Any] | None = None,
    slug: str | None = None,
) -> Call[None]:
    """Update one of a deployment's schedules.

    Args:
        schedule: when to create runs: ``{"interval": 3600}``, ``{"cron": ...}``, ``{"rrule": ...}``.

    Raises:
        ObjectNotFound: there is no such deployment, or it has no schedule with that id.
        ValueError: no changes are given, or the schedule is invalid.
    """
    changes = without_none(
        active=active,
        schedule=None if schedule is None else as_schedule(schedule),
        max_scheduled_runs=max_scheduled_runs,
        parameters=as_dict(parameters, "parameters"),
        slug=slug,
    )
    if not changes:
        raise ValueError("There is nothing to change: give active, schedule, parameters, ...")
    return Call(
        "PATCH",
        api_path(
            "/deployments/{}/schedules/{}",
            as_id(deployment_id, "deployment_id"),
            as_id(schedule_id, "schedule_id"),
        ),
        nothing,
        json=changes,
        missing=f"schedule {quoted(schedule_id)} of the deployment {quoted(deployment_id)}",
    )


@operation
def delete_deployment_schedule(deployment_id: UUID | str, schedule_id: UUID | str) -> Call[None]:
    """Delete one of a deployment's schedules.

    Raises:
        ObjectNotFound: there is no such deployment, or it has no schedule with that id.
    """
    return Call(
        "DELETE",
        api_path(
            "/deployments/{}/schedules/{}",
            as_id(deployment_id, "deployment_id"),
            as_id(schedule_id, "schedule_id"),
        ),
        nothing,
        missing=f"schedule {quoted(schedule_id)} of the deployment {quoted(deployment_id)}",
    )


# Runs.


@operation
def get_scheduled_flow_runs_for_deployments(
    deployment_ids: Iterable[UUID | str],
    *,
    scheduled_before: ToCome | None = None,
    limit: int | None = None,
) -> Call[ModelList[FlowRun]]:
    """Read the scheduled flow runs of some deployments, the earliest first.

    The server assumes that the caller is about to execute them: the deployments become ``READY``.

    Args:
        scheduled_before: a time, or how far from now; by default all scheduled runs.
    """
    return Call(
        "POST",
        api_path("/deployments/get_scheduled_flow_runs"),
        _flow_runs,
        repeatable=True,
        json=without_none(
            deployment_ids=[
                as_id(each, "deployment_id") for each in as_list(deployment_ids, "deployment_ids")
            ],
            scheduled_before=None if scheduled_before is None else to_come(scheduled_before),
            limit=limit,
        ),
    )


@operation
def create_flow_run_from_deployment(
    deployment_id: UUID | str,
    *,
    parameters: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
    state: AnyState | None = None,
    name: str | None = None,
    tags: Iterable[str] | None = None,
    idempotency_key: str | None = None,
    parent_task_run_id: UUID | str | None = None,
    work_queue_name: str | None = None,
    job_variables: Mapping[str, Any] | None = None,
    labels: Mapping[str, Any] | None = None,
    scheduled_time: ToCome | None = None,
    enforce_parameter_schema: bool | None = None,
) -> Generator[Call[Any], Any, FlowRun]:
    """Create a flow run of a deployment, executed on the deployment's infrastructure.

    Args:
        deployment_id: the deployment's id, or its name, ``flow/deployment``.
        parameters: the run's parameters; for the others the deployment's defaults apply. They are
            checked against the deployment's schema before the request is sent.
        state: the initial state; by default ``SCHEDULED`` for now.
        tags: the run's tags, in addition to the deployment's.
        idempotency_key: two calls with the same key create one run. By default a new key, so that a
            request whose response is lost can be sent again without creating a second run. If the call
            fails, the same call in the next hour sends the same key, for the same reason.
        scheduled_time: when the run should start, or how far from now.
        enforce_parameter_schema: False accepts any parameters, unchecked, here and on the server. By
            default the deployment's setting applies.

    Raises:
        ObjectNotFound: there is no such deployment; the message suggests similar names.
        InvalidParameters: a parameter is unknown to the flow, or a required one is missing.
        PrefectHTTPStatusError: the server rejects a value.
        ValueError: the text is neither an id nor a name.
    """
    run = _run_of(
        parameters=parameters,
        context=context,
        state=_first_state(state, scheduled_time),
        name=name,
        tags=as_tags(tags),
        idempotency_key=idempotency_key,
        parent_task_run_id=parent_task_run_id,
        work_queue_name=work_queue_name,
        job_variables=job_variables,
        labels=labels,
        enforce_parameter_schema=enforce_parameter_schema,
    )
    found = as_uuid(deployment_id)
    deployment: Deployment | None = None
    if found is None:
        deployment = yield from read_deployment_by_name(str(deployment_id))
        found = deployment.id
    create = Call(
        "POST",
        api_path("/deployments/{}/create_flow_run", found),
        _flow_run,
        repeatable=True,  # identified by its idempotency key
        look="read_flow_runs",
        json=run,
        missing=f"deployment {quoted(deployment_id)}",
        refusal="The server could not create the run: the deployment does not accept these parameters or "
        "job variables, or something the run refers to does not exist",
    )
    # Check exactly the values that will be sent.
    sent = create.json
    if enforce_parameter_schema is not False:
        deployment = deployment or (yield from read_deployment(found))
        if deployment.enforce_parameter_schema or enforce_parameter_schema:
            check_parameters(deployment, f"Deployment {quoted(deployment_id)}", sent["parameters"])
    return (yield from created_with_keys(create))


@operation
def bulk_create_flow_runs_from_deployment(
    deployment_id: UUID | str, flow_runs: Iterable[Mapping[str, Any]]
) -> Generator[Call[Any], Any, ModelList[FlowRunCreateResult]]:
    """Create flow runs of a deployment, at most 100 per call; there is one result for each.

    Args:
        flow_runs: the keywords of `create_flow_run_from_deployment` for each run:
            ``[{"parameters": {"day": day}} for day in days]``. The server checks the parameters. A run
            that failed can be requested again; with the same ``idempotency_key``, it is created at
            most once.

    Raises:
        ObjectNotFound: there is no deployment with that id.
        TypeError: a run has any other key.
    """
    create = Call(
        "POST",
        api_path("/deployments/{}/create_flow_run/bulk", as_id(deployment_id, "deployment_id")),
        lambda response: ModelList(_results(response).results, model=models.FlowRunCreateResult),
        repeatable=True,  # identified by their idempotency keys
        look="read_flow_runs",
        json=[_one_of_many(**run) for run in flow_runs],
        missing=_missing(deployment_id),
    )
    return (yield from created_with_keys(create))


def _one_of_many(
    *,
    state: AnyState | None = None,
    scheduled_time: ToCome | None = None,
    tags: Iterable[str] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    return _run_of(state=_first_state(state, scheduled_time), tags=as_tags(tags), **fields)


def _run_of(
    *,
    parameters: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
    state: dict[str, Any] | None = None,
    name: str | None = None,
    tags: list[str] | None = None,
    idempotency_key: str | None = None,
    parent_task_run_id: UUID | str | None = None,
    work_queue_name: str | None = None,
    job_variables: Mapping[str, Any] | None = None,
    labels: Mapping[str, Any] | None = None,
    enforce_parameter_schema: bool | None = None,
) -> dict[str, Any]:
    """Return a run of a deployment in the API's form."""
    return without_none(
        parameters=as_dict(parameters, "parameters") or {},
        context=as_dict(context, "context"),
        state=state,
        name=name,
        tags=tags,
        idempotency_key=idempotency_key,
        parent_task_run_id=None if parent_task_run_id is None else str(parent_task_run_id),
        work_queue_name=work_queue_name,
        job_variables=as_dict(job_variables, "job_variables"),
        labels=as_dict(labels, "labels"),
        enforce_parameter_schema=enforce_parameter_schema,
    )


def _first_state(state: AnyState | None, scheduled_time: ToCome | None) -> dict[str, Any] | None:
    if scheduled_time is None:
        return None if state is None else as_state(state)
    if state is not None:
        raise ValueError(
            "Give state or scheduled_time, not both; the latter means a SCHEDULED state"
        )
    details = {"scheduled_time": to_come(scheduled_time)}
    return as_state(
        models.State.model_validate({"type": models.StateType.SCHEDULED, "state_details": details})
    )


class DeploymentOperations:
    """Deployments, their schedules, and the runs created from them."""

    create_deployment = create_deployment
    read_deployment = read_deployment
    read_deployment_by_name = read_deployment_by_name
    read_deployments = read_deployments
    count_deployments = count_deployments
    update_deployment = update_deployment
    pause_deployment = pause_deployment
    resume_deployment = resume_deployment
    set_deployment_paused_state = set_deployment_paused_state
    create_deployment_branch = create_deployment_branch
    delete_deployment = delete_deployment
    bulk_delete_deployments = bulk_delete_deployments
    create_deployment_schedules = create_deployment_schedules
    read_deployment_schedules = read_deployment_schedules
    update_deployment_schedule = update_deployment_schedule
    delete_deployment_schedule = delete_deployment_schedule
    get_scheduled_flow_runs_for_deployments = get_scheduled_flow_runs_for_deployments
    create_flow_run_from_deployment = create_flow_run_from_deployment
    bulk_create_flow_runs_from_deployment = bulk_create_flow_runs_from_deployment
