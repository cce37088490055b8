"""Deployments, their schedules, and the runs created from them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from pydantic import BaseModel
from typing_extensions import ParamSpec, Unpack

from orchnb.api import models
from orchnb.api.answers import a, list_of
from orchnb.api.methods import operation, refuse_unknown
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
from orchnb.api.operations.filters import any_of, named_words
from orchnb.api.operations.flow_runs import RunFields, flow_run_of, flow_runs_of, run_fields
from orchnb.api.operations.flows import FlowQuery, check_flow_name, id_of_flow, read_flows
from orchnb.api.operations.parameter_validation import check_parameters
from orchnb.api.operations.payloads import (
    UNCHANGED,
    Data,
    Unchanged,
    changes_of,
    fields_of,
    quoted,
    with_id,
    without_none,
)
from orchnb.api.operations.queries import filters_of
from orchnb.api.operations.references import (
    DeploymentRef,
    begins,
    is_short_id,
    only,
    resolving,
)
from orchnb.api.operations.related import with_last_runs
from orchnb.api.operations.schedules import ScheduleLike, as_schedule, as_schedules
from orchnb.api.operations.suggestions import Names, first_pages, or_near, or_none
from orchnb.api.operations.unanswered import created_with_keys
from orchnb.api.operations.verbs import change, count, delete, delete_matching, get, search
from orchnb.api.times import ToCome, to_come
from orchnb.http.calls import Call, Steps, nothing
from orchnb.http.calls import path as api_path  # an operation has an argument of that name
from orchnb.text import did_you_mean, near_names

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

# Prefect's server rejects these characters in names, and says only that it failed.
_BANNED = frozenset("/%&<>")

_CONVERSIONS: Mapping[str, Callable[[Any, str], Any]] = {
    "schedules": lambda schedules, _: as_schedules(schedules),
    "parameters": as_dict,
    "tags": as_list,
    "pull_steps": as_list,
    "job_variables": as_dict,
    "labels": as_dict,
}
"""How some fields of a new deployment are brought into the API's form."""

_MOST_NAMED = 3
"""How many deployments an error names."""

_created_runs = a(lambda: models.FlowRunCreateResults)

P = ParamSpec("P")
T = TypeVar("T")


@operation
def create_deployment(
    flow_id: UUID | str | HasName,
    name: str,
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
    branch: str | None = None,
    base: UUID | str | None = None,
    root: UUID | str | None = None,
    *,
    labels: Mapping[str, Any] | None = None,
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
    given = without_none(
        version=version,
        version_info=version_info,
        schedules=schedules,
        concurrency_limit=concurrency_limit,
        concurrency_options=concurrency_options,
        parameters=parameters,
        description=description,
        work_queue_name=work_queue_name,
        work_pool_name=work_pool_name,
        tags=tags,
        storage_document_id=storage_document_id,
        path=path,
        entrypoint=entrypoint,
        infrastructure_document_id=infrastructure_document_id,
        parameter_openapi_schema=parameter_openapi_schema,
        paused=paused,
        pull_steps=pull_steps,
        enforce_parameter_schema=enforce_parameter_schema,
        job_variables=job_variables,
        labels=labels,
        branch=branch,
        base=base,
        root=root,
    )
    for key, convert in _CONVERSIONS.items():
        if key in given:
            given[key] = convert(given[key], key)
    flow = yield from id_of_flow(flow_id)
    deployment: Deployment = yield from Call(
        "POST",
        api_path("/deployments/"),
        _deployment,
        repeatable=True,  # identified by its flow and name
        look="read_deployment_by_name",
        json={**given, "flow_id": str(flow), "name": name},
        missing=f"such object (referenced by deployment {quoted(name)})",
        refusal="The server could not create the deployment: something it refers to does not exist, or "
        "its job variables or parameters are invalid",
    )
    return deployment.id


def _find_deployment(reference: DeploymentRef) -> Generator[Call[Any], Any, UUID]:
    """Return the id of a deployment that is called by its name or the beginning of its id.

    Raises:
        AmbiguousReference: it fits several.
        ReferenceNotFound: it fits none; the hint suggests similar names.
    """
    text = str(reference).strip()
    flow_name, _, own_name = text.rpartition("/")
    found: list[Deployment] = yield from read_deployments(
        flow_filter={"name": {"any_": [flow_name]}} if flow_name else None,
        deployment_filter={"name": {"any_": [own_name]}},
    )
    known = list(found)
    if not known:
        known = yield from first_pages(lambda offset: read_deployments(offset=offset))
        found = [each for each in known if is_short_id(text) and begins(each.id, text)]
    flows = yield from _flow_names(found or known)
    names = {each.id: f"{flows.get(each.flow_id, '')}/{each.name}" for each in known}
    fitting = [(quoted(names[each.id]), each.id) for each in found]
    return only(
        "deployment", text, fitting, [*names.values(), *(each.name or "" for each in known)]
    )


def of_deployment(function: Callable[P, T]) -> Callable[P, T]:
    """Let the argument ``deployment_id`` of an operation be a `DeploymentRef`."""
    return resolving("deployment_id", "deployment", _find_deployment)(function)


@operation
@of_deployment
def read_deployment(deployment_id: DeploymentRef) -> Generator[Call[Any], Any, Deployment]:
    """Read a deployment by its id.

    Raises:
        ObjectNotFound: there is no deployment with that id.
        AmbiguousReference: several deployments have that name; the message lists them.
        ReferenceNotFound: none has that name; the message suggests similar ones.
    """

    return (
        yield from _deployment_call(as_id(deployment_id, "deployment_id"), after=with_last_runs())
    )


def _deployment_call(
    deployment_id: UUID | str, after: Callable[[Deployment], Steps[None]] | None = None
) -> Call[Deployment]:
    return get(
        api_path("/deployments/{}", deployment_id),
        _deployment,
        with_id("deployment", deployment_id),
        after=after,
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
        names = yield from or_none(_deployment_names())
        near = [each for each in names if name and name in each.split("/")] or near_names(
            name, names
        )
        words = f"A deployment's name has the form 'flow/deployment'; {quoted(name)} does not"
        raise ValueError(f"{words}. {did_you_mean(near[:3])}".strip())
    call = get(
        api_path("/deployments/name/{}/{}", flow_name, deployment_name),
        _deployment,
        f"deployment {quoted(name)}",
        after=with_last_runs(),
    )
    deployment: Deployment = yield from or_near(call, name, _deployment_names)
    return deployment


def _deployment_names() -> Names:
    deployments = yield from first_pages(lambda offset: read_deployments(offset=offset))
    flow_names = yield from _flow_names(deployments)
    return [
        f"{flow_names[deployment.flow_id]}/{deployment.name}"
        for deployment in deployments
        if deployment.flow_id in flow_names
    ]


class DeploymentQuery(FlowQuery, total=False):
    """Keywords of a query for deployments."""

    flow_name: str | None


def _deployment_filters(query: DeploymentQuery) -> dict[str, Any]:
    return filters_of(
        query,
        flow_filter={"name": any_of(query.get("flow_name"))},
        deployment_filter=named_words(query),
    )


def _flow_names(deployments: list[Deployment]) -> Generator[Call[Any], Any, dict[UUID, str]]:
    """Return the names of the deployments' flows by their ids."""
    ids = sorted({str(deployment.flow_id) for deployment in deployments})
    if not ids:
        return {}
    flows = yield from first_pages(
        lambda offset: read_flows(flow_filter={"id": {"any_": ids}}, offset=offset)
    )
    return {flow.id: flow.name for flow in flows}


@operation
def read_deployments(
    *,
    limit: int | None = None,
    sort: str | None = None,
    offset: int = 0,
    **query: Unpack[DeploymentQuery],
) -> Call[ModelList[Deployment]]:
    """Read deployments.

    Filters are the API's filter objects; ``sort`` is one of its sort orders (``NAME_ASC``,
    ``CREATED_DESC``, ...). With ``limit=None`` the server decides; it returns at most 200. Keywords:
    ``name_like`` is part of the name; deployments must have all of ``tags``; ``flow_name`` is the name of
    their flow.

    Raises:
        ValueError: a keyword repeats a condition of a filter object.
    """
    return search(
        api_path("/deployments/filter"),
        _deployments,
        after=with_last_runs(check_flow_name(query.get("flow_name"), offset)),
        **_deployment_filters(query),
        sort=sort,
        limit=limit,
        offset=offset,
    )


@operation
def count_deployments(**query: Unpack[DeploymentQuery]) -> Call[int]:
    """Return the number of deployments; filters and keywords as in `read_deployments`."""
    return count(
        api_path("/deployments/count"),
        after=check_flow_name(query.get("flow_name")),
        **_deployment_filters(query),
    )


@operation
@of_deployment
def update_deployment(
    deployment_id: DeploymentRef,
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
        if isinstance(deployment, BaseModel) and isinstance(schedules, Unchanged):
            model: Any = deployment
            changes["schedules"] = model.schedules  # its dump lacks defaults
        changes["schedules"] = as_schedules(changes["schedules"])
    return Call(
        "PATCH",
        api_path("/deployments/{}", as_id(deployment_id, "deployment_id")),
        nothing,
        json=changes,
        missing=with_id("deployment", deployment_id),
        refusal="The server could not update the deployment: its job variables or parameters are "
        "invalid",
    )


@operation
@of_deployment
def pause_deployment(deployment_id: DeploymentRef) -> Generator[Call[Any], Any, None]:
    """Pause a deployment's schedules; scheduled runs that have not started are deleted.

    Raises:
        ObjectNotFound: there is no deployment with that id.
        AmbiguousReference: several deployments have that name; the message lists them.
        ReferenceNotFound: none has that name; the message suggests similar ones.
    """
    yield from _switch_schedules(deployment_id, "pause_deployment")


@operation
@of_deployment
def resume_deployment(deployment_id: DeploymentRef) -> Generator[Call[Any], Any, None]:
    """Resume a paused deployment's schedules.

    Raises:
        ObjectNotFound: there is no deployment with that id.
        AmbiguousReference: several deployments have that name; the message lists them.
        ReferenceNotFound: none has that name; the message suggests similar ones.
    """
    yield from _switch_schedules(deployment_id, "resume_deployment")


def _switch_schedules(deployment_id: DeploymentRef, action: str) -> Generator[Call[Any], Any, None]:
    def call_for(found: str) -> Call[None]:
        return Call(
            "POST",
            api_path("/deployments/{}/{}", found, action),
            nothing,
            repeatable=True,  # the second time it changes nothing
            missing=with_id("deployment", found),
        )

    yield from call_for(as_id(deployment_id, "deployment_id"))


@operation
@of_deployment
def set_deployment_paused_state(
    deployment_id: DeploymentRef, paused: bool
) -> Generator[Call[Any], Any, None]:
    """Pause or resume a deployment; prefer `pause_deployment` and `resume_deployment`.

    It exists for code written for Prefect's client, where it is deprecated.

    Raises:
        ObjectNotFound: there is no deployment with that id.
    """
    yield from (pause_deployment if paused else resume_deployment)(deployment_id)


@operation
@of_deployment
def create_deployment_branch(
    deployment_id: DeploymentRef,
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
        missing=with_id("deployment", deployment_id),
    )


@operation
@of_deployment
def delete_deployment(deployment_id: DeploymentRef) -> Generator[Call[Any], Any, None]:
    """Delete a deployment.

    Raises:
        ObjectNotFound: there is no deployment with that id.
        AmbiguousReference: several deployments have that name; the message lists them.
        ReferenceNotFound: none has that name; the message suggests similar ones.
    """

    def call_for(found: str) -> Call[None]:
        return delete(api_path("/deployments/{}", found), with_id("deployment", found))

    yield from call_for(as_id(deployment_id, "deployment_id"))


@operation
def bulk_delete_deployments(
    deployment_filter: Filter, *, limit: int | None = None
) -> Call[list[UUID]]:
    """Delete the deployments that match a filter, at most 50 per call; return their ids.

    An empty filter matches all deployments. ``limit`` can be less than 50.
    """
    return delete_matching(
        api_path("/deployments/bulk_delete"),
        deployments=deployment_filter,
        limit=limit,
        look="read_deployments",
    )


# Schedules.


@operation
@of_deployment
def create_deployment_schedules(
    deployment_id: DeploymentRef,
    schedules: Iterable[ScheduleLike],
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
    defaults = without_none(max_scheduled_runs=max_scheduled_runs, parameters=parameters, slug=slug)
    return Call(
        "POST",
        api_path("/deployments/{}/schedules", as_id(deployment_id, "deployment_id")),
        _schedules,
        json=[{**defaults, **schedule} for schedule in as_schedules(schedules)],
        look="read_deployment_schedules",
        missing=with_id("deployment", deployment_id),
        conflict="The deployment already has a schedule with that slug",
    )


@operation
@of_deployment
def read_deployment_schedules(deployment_id: DeploymentRef) -> Call[ModelList[DeploymentSchedule]]:
    """Read a deployment's schedules.

    Raises:
        ObjectNotFound: there is no deployment with that id.
    """
    return get(
        api_path("/deployments/{}/schedules", as_id(deployment_id, "deployment_id")),
        _schedules,
        with_id("deployment", deployment_id),
    )


@operation
@of_deployment
def update_deployment_schedule(
    deployment_id: DeploymentRef,
    schedule_id: UUID | str,
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
    return change(
        api_path(
            "/deployments/{}/schedules/{}",
            as_id(deployment_id, "deployment_id"),
            as_id(schedule_id, "schedule_id"),
        ),
        changes,
        f"schedule {quoted(schedule_id)} of the deployment {quoted(deployment_id)}",
    )


@operation
@of_deployment
def delete_deployment_schedule(deployment_id: DeploymentRef, schedule_id: UUID | str) -> Call[None]:
    """Delete one of a deployment's schedules.

    Raises:
        ObjectNotFound: there is no such deployment, or it has no schedule with that id.
    """
    return delete(
        api_path(
            "/deployments/{}/schedules/{}",
            as_id(deployment_id, "deployment_id"),
            as_id(schedule_id, "schedule_id"),
        ),
        f"schedule {quoted(schedule_id)} of the deployment {quoted(deployment_id)}",
    )


# Runs.


@operation
def get_scheduled_flow_runs_for_deployments(
    deployment_ids: Iterable[UUID | str],
    scheduled_before: ToCome | None = None,
    limit: int | None = None,
) -> Call[ModelList[FlowRun]]:
    """Read the scheduled flow runs of some deployments, the earliest first.

    The server assumes that the caller is about to execute them: the deployments become ``READY``.

    Args:
        scheduled_before: a time, or how far from now; by default all scheduled runs.
    """
    return search(
        api_path("/deployments/get_scheduled_flow_runs"),
        flow_runs_of,
        deployment_ids=[
            as_id(each, "deployment_id") for each in as_list(deployment_ids, "deployment_ids")
        ],
        scheduled_before=None if scheduled_before is None else to_come(scheduled_before),
        limit=limit,
    )


class DeploymentRun(RunFields, total=False):
    """Fields of a new run of a deployment."""

    scheduled_time: ToCome | None
    enforce_parameter_schema: bool | None


@operation
def create_flow_run_from_deployment(
    deployment_id: UUID | str, **run: Unpack[DeploymentRun]
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
    fields = run_of_deployment(**run)
    found = as_uuid(getattr(deployment_id, "id", deployment_id))
    deployment: Deployment | None = None
    if found is None:
        deployment = yield from read_deployment_by_name(str(deployment_id))
        found = deployment.id
    create = Call(
        "POST",
        api_path("/deployments/{}/create_flow_run", found),
        flow_run_of,
        repeatable=True,  # identified by its idempotency key
        look="read_flow_runs",
        json=fields,
        missing=f"deployment {quoted(deployment_id)}",
        refusal="The server could not create the run: the deployment does not accept these parameters or "
        "job variables, or something the run refers to does not exist",
    )
    # Check exactly the values that will be sent.
    sent = create.json
    enforced = run.get("enforce_parameter_schema")
    if enforced is not False:
        deployment = deployment or (yield from _deployment_call(found))
        if deployment.enforce_parameter_schema or enforced:
            check_parameters(deployment, f"Deployment {quoted(deployment_id)}", sent["parameters"])
    return (yield from created_with_keys(create))


@operation
@of_deployment
def bulk_create_flow_runs_from_deployment(
    deployment_id: DeploymentRef, flow_runs: Iterable[Mapping[str, Any]]
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
        lambda response: ModelList(
            _created_runs(response).results, model=models.FlowRunCreateResult
        ),
        repeatable=True,  # identified by their idempotency keys
        look="read_flow_runs",
        json=[run_of_deployment(**run) for run in flow_runs],
        missing=with_id("deployment", deployment_id),
    )
    return (yield from created_with_keys(create))


def run_of_deployment(**run: Unpack[DeploymentRun]) -> dict[str, Any]:
    """Return a new run of a deployment in the API's form.

    Raises:
        TypeError: a keyword is unknown; for runs that are given as mappings.
    """
    refuse_unknown(run_of_deployment, *run.keys())
    fields = {name: value for name, value in run.items() if name != "scheduled_time"}
    return run_fields(fields, _first_state(run.get("state"), run.get("scheduled_time")))


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
