"""What can be asked of the API, each operation once.

An operation is a function from its arguments to a `Call`: method, path, body, and how to read the
answer. One that takes several calls is a generator, and makes each with ``yield from``. The
`operation` decorator turns it into a method that awaits on the async client and does not on the sync
one, with the same signature and docstring. Names and arguments are those of Prefect's client.
"""

from __future__ import annotations

import functools
import inspect
import uuid
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Protocol, TypeVar, overload
from urllib.parse import quote
from uuid import UUID

import httpx
from pydantic import TypeAdapter, ValidationError
from typing_extensions import ParamSpec, Self

from orchnb.api.models import Flow, FlowRun, Model, ModelList, OrchestrationResult, State, StateType
from orchnb.errors import (
    ObjectAlreadyExists,
    ObjectNotFound,
    PrefectHTTPStatusError,
    UnexpectedAnswer,
)
from orchnb.http.response import PrefectResponse, one_line
from orchnb.redaction import redact_url

if TYPE_CHECKING:
    from orchnb.api.client import PrefectClient, SyncPrefectClient

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M", bound=Model)
T_co = TypeVar("T_co", covariant=True)

_API_HINT = (
    "Check that PREFECT_API_URL ends in /api, and that no login page or proxy stands in between: "
    "open the address in a browser to see what is there."
)


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request to the API and how its answer is read."""

    method: str
    path: str
    read: Callable[[PrefectResponse], T]
    json: Any = None
    subject: str = ""
    """What the call is about, for errors: ``flow 'etl'``."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Generator[Call[Any], Any, T]:
        """``result = yield from call``, within an operation of several calls."""
        result: T = yield self
        return result

    def explain(self, error: PrefectHTTPStatusError) -> PrefectHTTPStatusError:
        """The error of this call's kind: what was not found, or is there already."""
        if error.status_code == 404 and self.subject and _is_api_answer(error.response):
            return ObjectNotFound.from_status_error(error, f"There is no {self.subject}: {error}")
        if error.status_code == 409:
            words = f"There is {self.subject} already" if self.subject else "It exists already"
            return ObjectAlreadyExists.from_status_error(error, f"{words}: {error}")
        return error


class Steps(Protocol[T_co]):
    """What an operation's function returns: a `Call`, or a generator of calls."""

    def __iter__(self) -> Generator[Call[Any], Any, T_co]: ...


class operation(Generic[P, T]):
    """A method of both clients, made from a function that says what to ask."""

    def __init__(self, function: Callable[P, Steps[T]]) -> None:
        self._function = function
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self._async, self._sync = _methods(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Steps[T]:
        """The operation's calls, for use within another operation."""
        return self._function(*args, **kwargs)

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(
        self, client: PrefectClient, owner: type
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, client: SyncPrefectClient, owner: type) -> Callable[P, T]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        if client is None:
            return self
        return (self._async if client.is_async else self._sync).__get__(client, owner)


def _methods(
    function: Callable[P, Steps[T]],
) -> tuple[
    Callable[Concatenate[PrefectClient, P], Coroutine[Any, Any, T]],
    Callable[Concatenate[SyncPrefectClient, P], T],
]:
    async def call_async(client: PrefectClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await client.perform(function(*args, **kwargs))

    def call(client: SyncPrefectClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return client.perform(function(*args, **kwargs))

    signature = inspect.signature(function)
    client = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    signature = signature.replace(
        parameters=[client, *signature.parameters.values()], return_annotation=signature.empty
    )
    methods: tuple[Any, Any] = (call_async, call)
    for method in methods:
        functools.update_wrapper(method, function)
        del method.__wrapped__  # its signature lacks the client
        method.__signature__ = signature
    return methods


# What an answer may be read as.


def _response(response: PrefectResponse) -> PrefectResponse:
    return response


def _nothing(_: PrefectResponse) -> None:
    return None


def _json(response: PrefectResponse) -> Any:
    """The answer's JSON; a successful answer that is none comes from something that is no API."""
    try:
        return response.json()
    except ValueError:
        kind = one_line(response.headers.get("content-type", "")) or "no content type"
        raise UnexpectedAnswer(
            f"{redact_url(response.request.url)} answered {response.status_code} with "
            f"{kind.split(';')[0]} where JSON was expected",
            hint=_API_HINT,
        ) from None


def _a(kind: type[T]) -> Callable[[PrefectResponse], T]:
    return functools.partial(_validated, TypeAdapter(kind))


def _list_of(kind: type[M]) -> Callable[[PrefectResponse], ModelList[M]]:
    adapter: TypeAdapter[list[M]] = TypeAdapter(list[kind])  # type: ignore[valid-type] # runtime

    def read(response: PrefectResponse) -> ModelList[M]:
        items: list[M] = _validated(adapter, response)
        return ModelList(items, model=kind)

    return read


def _validated(adapter: TypeAdapter[T], response: PrefectResponse) -> T:
    data = _json(response)
    try:
        return adapter.validate_python(data)
    except ValidationError as exc:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in exc.errors(include_url=False, include_input=False)[:3]
        )
        raise UnexpectedAnswer(
            f"{redact_url(response.request.url)} answered with JSON of another form than the "
            f"API's: {one_line(problems)}",
            hint=_API_HINT,
        ) from None


def _is_api_answer(response: httpx.Response) -> bool:
    """A web page's 404 says that the address is wrong, not that an object is missing."""
    return "json" in response.headers.get("content-type", "")


def _segment(value: object) -> str:
    """A value as one segment of a path, whatever it holds."""
    text = quote(str(value), safe="")
    return text.replace(".", "%2E") if text in (".", "..") else text


def _quoted(value: object) -> str:
    return repr(one_line(str(value), 80))


def _without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


# The server.


@operation
def hello() -> Call[PrefectResponse]:
    """Say hello; the response is the server's greeting, for testing."""
    return Call("GET", "/hello", _response)


@operation
def api_healthcheck() -> Generator[Call[Any], Any, Exception | None]:
    """None if the API is up, else the error that asking it met; it does not raise."""
    try:
        yield from Call("GET", "/health", _json)
    except Exception as exc:  # noqa: BLE001 - handed over, as promised
        return exc
    return None


@operation
def api_version() -> Call[str]:
    """The server's version, such as ``3.8.8``."""
    return Call("GET", "/admin/version", _a(str))


# Flows.


@operation
def create_flow_from_name(flow_name: str) -> Call[UUID]:
    """Make sure that a flow of this name exists, and return its id."""
    return Call(
        "POST",
        "/flows/",
        lambda response: _flow(response).id,
        json={"name": flow_name},
        subject=f"a flow {_quoted(flow_name)}",
    )


@operation
def read_flow(flow_id: UUID | str) -> Call[Flow]:
    """Read a flow by its id.

    Raises:
        ObjectNotFound: there is none of that id.
    """
    return Call(
        "GET", f"/flows/{_segment(flow_id)}", _flow, subject=f"flow with the id {_quoted(flow_id)}"
    )


@operation
def read_flow_by_name(flow_name: str) -> Call[Flow]:
    """Read a flow by its name.

    Raises:
        ObjectNotFound: there is none of that name.
    """
    return Call(
        "GET", f"/flows/name/{_segment(flow_name)}", _flow, subject=f"flow {_quoted(flow_name)}"
    )


@operation
def read_flows(
    *,
    flow_filter: Mapping[str, Any] | None = None,
    flow_run_filter: Mapping[str, Any] | None = None,
    task_run_filter: Mapping[str, Any] | None = None,
    deployment_filter: Mapping[str, Any] | None = None,
    work_pool_filter: Mapping[str, Any] | None = None,
    work_queue_filter: Mapping[str, Any] | None = None,
    sort: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> Call[ModelList[Flow]]:
    """Read flows.

    Filters are the API's filter objects, ``sort`` one of its orders (``NAME_ASC``,
    ``CREATED_DESC``, ...). ``limit`` None leaves the number to the server, which gives 200 at most.
    """
    return Call(
        "POST",
        "/flows/filter",
        _flows,
        json=_without_none(
            flows=flow_filter,
            flow_runs=flow_run_filter,
            task_runs=task_run_filter,
            deployments=deployment_filter,
            work_pools=work_pool_filter,
            work_queues=work_queue_filter,
            sort=sort,
            limit=limit,
            offset=offset,
        ),
    )


# Flow runs.


class HasName(Protocol):
    """Anything with a name, such as a Prefect flow function."""

    @property
    def name(self) -> Any: ...


@operation
def create_flow_run(
    flow: UUID | str | HasName,
    *,
    name: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
    tags: Iterable[str] | None = None,
    parent_task_run_id: UUID | str | None = None,
    state: State | StateType | str | None = None,
    work_pool_name: str | None = None,
    work_queue_name: str | None = None,
    job_variables: Mapping[str, Any] | None = None,
    labels: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Generator[Call[Any], Any, FlowRun]:
    """Create a run of a flow.

    Args:
        flow: the flow's id or name, or anything that has a ``name``; a flow that a name does not
            find is created.
        name: of the run; by default the server makes one up.
        parameters: what the run is given; must be such as JSON can hold.
        state: the first state, ``PENDING`` by default; a type such as ``"SCHEDULED"`` will do.
        idempotency_key: two calls with the same key make one run. By default a key of its own, so
            that a request whose answer is lost can be sent again without making a second run.
    """
    flow_id = _as_uuid(getattr(flow, "id", None)) or _as_uuid(flow)
    if flow_id is None:
        flow_name = flow if isinstance(flow, str) else getattr(flow, "name", None)
        if not isinstance(flow_name, str) or not flow_name:
            raise TypeError(
                "flow should be an id, a name, or something that has a name; "
                f"{type(flow).__name__} is none of them"
            )
        flow_id = yield from create_flow_from_name(flow_name)
    run: FlowRun = yield from Call(
        "POST",
        "/flow_runs/",
        _flow_run,
        json=_without_none(
            flow_id=str(flow_id),
            name=name,
            parameters=dict(parameters or {}),
            context=None if context is None else dict(context),
            tags=_as_tags(tags),
            parent_task_run_id=None if parent_task_run_id is None else str(parent_task_run_id),
            state=_as_state(state or StateType.PENDING),
            work_pool_name=work_pool_name,
            work_queue_name=work_queue_name,
            job_variables=None if job_variables is None else dict(job_variables),
            labels=None if labels is None else dict(labels),
            idempotency_key=idempotency_key or str(uuid.uuid4()),
        ),
        subject="such a flow run",
    )
    return run


@operation
def read_flow_run(flow_run_id: UUID | str) -> Call[FlowRun]:
    """Read a flow run by its id.

    Raises:
        ObjectNotFound: there is none of that id.
    """
    return Call(
        "GET",
        f"/flow_runs/{_segment(flow_run_id)}",
        _flow_run,
        subject=f"flow run with the id {_quoted(flow_run_id)}",
    )


@operation
def read_flow_runs(
    *,
    flow_filter: Mapping[str, Any] | None = None,
    flow_run_filter: Mapping[str, Any] | None = None,
    task_run_filter: Mapping[str, Any] | None = None,
    deployment_filter: Mapping[str, Any] | None = None,
    work_pool_filter: Mapping[str, Any] | None = None,
    work_queue_filter: Mapping[str, Any] | None = None,
    sort: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> Call[ModelList[FlowRun]]:
    """Read flow runs.

    Filters are the API's filter objects, ``sort`` one of its orders (``START_TIME_DESC``,
    ``NAME_ASC``, ...). ``limit`` None leaves the number to the server, which gives 200 at most.
    """
    return Call(
        "POST",
        "/flow_runs/filter",
        _flow_runs,
        json=_without_none(
            flows=flow_filter,
            flow_runs=flow_run_filter,
            task_runs=task_run_filter,
            deployments=deployment_filter,
            work_pools=work_pool_filter,
            work_pool_queues=work_queue_filter,
            sort=sort,
            limit=limit,
            offset=offset,
        ),
    )


@operation
def set_flow_run_state(
    flow_run_id: UUID | str, state: State | StateType | str, force: bool = False
) -> Call[OrchestrationResult]:
    """Ask the server to put a flow run into a state; the result says what it made of that.

    ``force`` sets the state past the server's rules.

    Raises:
        ObjectNotFound: there is no run of that id.
    """
    return Call(
        "POST",
        f"/flow_runs/{_segment(flow_run_id)}/set_state",
        _a(OrchestrationResult),
        json={"state": _as_state(state), "force": force},
        subject=f"flow run with the id {_quoted(flow_run_id)}",
    )


@operation
def delete_flow_run(flow_run_id: UUID | str) -> Call[None]:
    """Delete a flow run.

    Raises:
        ObjectNotFound: there is none of that id.
    """
    return Call(
        "DELETE",
        f"/flow_runs/{_segment(flow_run_id)}",
        _nothing,
        subject=f"flow run with the id {_quoted(flow_run_id)}",
    )


_flow = _a(Flow)
_flows = _list_of(Flow)
_flow_run = _a(FlowRun)
_flow_runs = _list_of(FlowRun)


def _as_uuid(value: object) -> UUID | None:
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _as_tags(tags: Iterable[str] | None) -> list[str] | None:
    if isinstance(tags, str):
        raise TypeError(f"tags should be a list of texts: [{tags!r}]")
    return None if tags is None else list(tags)


def _as_state(state: State | StateType | str) -> dict[str, Any]:
    if isinstance(state, State):
        return state.model_dump(mode="json", exclude_none=True, exclude={"id", "timestamp"})
    return {"type": str(state).upper()}


class Operations:
    """What both clients can do."""

    hello = hello
    api_healthcheck = api_healthcheck
    api_version = api_version

    create_flow_from_name = create_flow_from_name
    read_flow = read_flow
    read_flow_by_name = read_flow_by_name
    read_flows = read_flows

    create_flow_run = create_flow_run
    read_flow_run = read_flow_run
    read_flow_runs = read_flow_runs
    set_flow_run_state = set_flow_run_state
    delete_flow_run = delete_flow_run
