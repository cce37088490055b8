"""What flow runs and task runs returned, as Prefect has stored it."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchnb.api.methods import operation
from orchnb.api.operations.coercion import HasId, as_uuid
from orchnb.api.operations.flow_runs import read_flow_run
from orchnb.api.operations.payloads import UNCHANGED, quoted
from orchnb.api.operations.references import FlowRunRef, find_flow_runs
from orchnb.api.operations.task_runs import read_task_run
from orchnb.concealed import concealed
from orchnb.errors import FlowRunsFailed, ObjectNotFound, OrchnbError, ResultNotAvailable
from orchnb.http.calls import Call, json_of, path, work
from orchnb.http.response import PrefectResponse
from orchnb.prefect_server import internals
from orchnb.runs.states import has_ended, state_type
from orchnb.runs.waiting import name_and_state
from orchnb.settings import get_settings
from orchnb.text import one_line

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun, TaskRun

_PERSIST = (
    "Prefect stores results only if asked to: @flow(persist_result=True), or "
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT=true where the run is executed. Then run it again."
)
_WHY_NOT = (
    "The server says where the result is stored, and this server is neither in this process nor on this "
    "machine: everyone who controls it could run any code here. If you trust the server and the "
    "storage, pass allow_pickle=True. Plain data of a flow with result_serializer='json' can be read "
    "without it."
)
_MARKS = (b"__class__", b"__exc_type__")
"""The keys by which Prefect's JSON names Python classes to create."""


@operation
def read_result(
    flow_run: FlowRunRef, *, allow_pickle: bool = False
) -> Generator[Call[Any], Any, Any]:
    """Read what a flow run returned.

    Prefect must have stored it: ``@flow(persist_result=True)``. It is read from where the run has stored
    it: the local storage of this machine, or a block of the server, for which Prefect must be installed.

    Args:
        flow_run: the run: its id, a short id, its name, or the object.
        allow_pickle: whether results that run code, such as pickles, may be loaded from a server
            elsewhere. From one in this process or on this machine they always are.

    Raises:
        FlowRunsFailed: the run has failed, crashed or was cancelled; the message says why.
        ResultNotAvailable: the run has not ended, or its result was not stored, is out of reach or must
            not be loaded.
        ObjectNotFound: there is no flow run with that id.
    """
    (run_id,) = yield from find_flow_runs([flow_run])
    run: FlowRun = yield from read_flow_run(run_id)
    return (yield from _result_of(run, allow_pickle))


@operation
def read_results(
    runs: Iterable[FlowRunRef], *, allow_pickle: bool = False, default: Any = UNCHANGED
) -> Generator[Call[Any], Any, list[Any]]:
    """Read what flow runs returned, in the order given; see `read_result`.

    Args:
        runs: their ids, short ids, names, or the objects.
        allow_pickle: as in `read_result`.
        default: takes the place of each result that cannot be read. Without it, the first one raises.

    Raises:
        FlowRunsFailed: a run has failed, crashed or was cancelled.
        ResultNotAvailable: a result cannot be read.
        ObjectNotFound: one of them does not exist.
    """
    results = []
    for run_id in (yield from find_flow_runs(runs)):
        try:
            run: FlowRun = yield from read_flow_run(run_id)
            results.append((yield from _result_of(run, allow_pickle)))
        except OrchnbError:
            if default is UNCHANGED:
                raise
            results.append(default)
    return results


@operation
def read_task_result(
    task_run: UUID | str | HasId, *, allow_pickle: bool = False
) -> Generator[Call[Any], Any, Any]:
    """Read what a task run returned: that of a task with ``persist_result=True``; see `read_result`.

    Raises:
        FlowRunsFailed: the run has failed, crashed or was cancelled; the message says why.
        ResultNotAvailable: the run has not ended, or its result cannot be read.
        ObjectNotFound: there is no task run with that id.
    """
    run: TaskRun = yield from read_task_run(task_run)  # type: ignore[arg-type] # it takes objects as well
    return (yield from _result_of(run, allow_pickle))


def _result_of(run: FlowRun | TaskRun, allow_pickle: bool) -> Generator[Call[Any], Any, Any]:
    what = f"{'flow' if hasattr(run, 'flow_id') else 'task'} run {name_and_state(run)}"
    if not has_ended(run):
        raise ResultNotAvailable(
            f"The {what} has not ended",
            run=run,
            hint="Wait for it: wait_for_flow_run(run).",
        )
    if state_type(run) != "COMPLETED":
        why = run.state.message if run.state is not None else None
        message = f"The {what} returned nothing" + (f": {one_line(why, 300)}" if why else "")
        raise FlowRunsFailed(message, runs=[run], failed=[run])
    data = run.state.data if run.state is not None else None
    key = data.get("storage_key") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(key, str) or not key:
        raise ResultNotAvailable(f"The result of the {what} was not stored", run=run, hint=_PERSIST)
    block, block_id = None, as_uuid(data.get("storage_block_id"))
    if block_id is not None:
        block = yield from _block(block_id, what, run)
    try:
        local = get_settings().home / "storage"
        result = yield from work(partial(_load, dict(data), block, local, allow_pickle))
    except _Refused as exc:
        message = f"The result of the {what} {exc}"
        raise ResultNotAvailable(message, run=run, hint=exc.hint) from exc.__cause__
    return result


def _block(
    block_id: UUID, what: str, run: FlowRun | TaskRun
) -> Generator[Call[Any], Any, dict[str, Any]]:
    place = path("/block_documents/{}?include_secrets=true", block_id)
    try:
        block: dict[str, Any] = yield from Call("GET", place, _plain, missing="block document")
    except ObjectNotFound:
        raise ResultNotAvailable(
            f"The result of the {what} is in a block that was deleted: {block_id}", run=run
        ) from None
    return block


def _plain(response: PrefectResponse) -> Any:
    return concealed(json_of(response))


class _Refused(Exception):
    """Why a result cannot be read, as the end of a sentence that begins with "The result of"."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def _load(
    data: dict[str, Any],
    block: dict[str, Any] | None,
    local: Path,
    allow_pickle: bool,
    is_own: bool,
) -> Any:
    """Read a stored result, and load it. Called in a thread."""
    serializer, content = _parts_of(_content(data["storage_key"], block, local))
    serializer = serializer or data.get("serializer") or {"type": "pickle"}
    if serializer.get("type") == "json" and not any(mark in content for mark in _MARKS):
        with suppress(ValueError, RecursionError):
            return json.loads(content)
    if not (allow_pickle or is_own):
        kind = quoted(serializer.get("type"))
        raise _Refused(f"can only be loaded by running code (its serializer is {kind})", _WHY_NOT)
    _require_prefect()
    try:
        return internals.load_stored(serializer, content)
    except Exception as exc:
        raise _Refused(
            f"could not be loaded: {_words(exc)}",
            "What the run has imported must be importable here, in similar versions.",
        ) from exc


def _content(key: str, block: dict[str, Any] | None, local: Path) -> bytes:
    if block is None:
        return _file(local / key)  # the key itself if it is absolute
    _require_prefect()
    try:
        return internals.read_stored(block, key)
    except Exception as exc:
        name = quoted(block.get("name"))
        raise _Refused(f"is in the block {name}, which cannot be read here: {_words(exc)}") from exc


def _file(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as exc:
        raise _Refused(
            f"is in {one_line(str(file), 200)}, which cannot be read here: {exc.strerror}",
            "The run has stored it on the machine that executed it. Use a storage that both machines "
            "reach: @flow(result_storage=...).",
        ) from None


def _require_prefect() -> None:
    if not internals.is_installed():
        raise _Refused("needs Prefect to be loaded", "Install it: pip install prefect.")


def _words(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}", 300)


def _parts_of(content: bytes) -> tuple[dict[str, Any] | None, bytes]:
    """Return the serializer and the result of what is stored: a record of both, or only the result."""
    with suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
        record = json.loads(content)
        serializer = record["metadata"]["serializer"]
        if isinstance(serializer, dict):
            return serializer, record["result"].encode()
    return None, content
