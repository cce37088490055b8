"""Whatever a server says is shown as a text, in every view, and to every front end as harmless.

Html is looked at as a browser does: what it amounts to is compared with the same view of a harmless
text. The views are all there are, else a test fails.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import logging
import pkgutil
import re
import socket
import ssl
import time
import unicodedata
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args
from urllib.parse import quote
from uuid import UUID

import html5lib
import httpx
import pytest

import orchnb
from orchnb.api import models
from orchnb.api.answers import a
from orchnb.api.operations.payloads import quoted
from orchnb.api.status import ServerStatus, describe
from orchnb.diagnosis import Diagnosis
from orchnb.errors import PrefectHTTPStatusError
from orchnb.hosting.ephemeral import EphemeralApp, StartupEvent
from orchnb.hosting.host import host_log
from orchnb.hosting.port import Served
from orchnb.hosting.port_guard import PortKeys
from orchnb.http.calls import Call, json_of, path
from orchnb.http.errors import status_error
from orchnb.http.response import PrefectResponse
from orchnb.http.retry import RetryEvent
from orchnb.notebook import views
from orchnb.notebook.extension import _SHOWN
from orchnb.notebook.views.artifacts import artifact_card
from orchnb.notebook.views.awaiting import await_card
from orchnb.notebook.views.browse import found_table
from orchnb.notebook.views.comparison import run_comparison_card
from orchnb.notebook.views.diagnosis import diagnosis_card
from orchnb.notebook.views.error_texts import KINDS
from orchnb.notebook.views.errors import error_card, stopped_card
from orchnb.notebook.views.failed_runs import failed_run_card
from orchnb.notebook.views.failure_groups import failure_groups_view
from orchnb.notebook.views.graph import graph_diagram
from orchnb.notebook.views.logs import log_view
from orchnb.notebook.views.model import (
    Box,
    Card,
    Chart,
    ChartBar,
    ChartRow,
    Diagram,
    Line,
    Live,
    Step,
    Table,
    TableCell,
    View,
    clean,
)
from orchnb.notebook.views.model import html as html_of
from orchnb.notebook.views.model import text as text_of
from orchnb.notebook.views.objects import (
    as_it_is,
    model_card,
    model_table,
    operation_group_table,
    operations_table,
    response_card,
    status_card,
)
from orchnb.notebook.views.port import not_served_line, served_card
from orchnb.notebook.views.recorded import not_recorded_line, recorded_card
from orchnb.notebook.views.retries import Retried, RetriedList, Retries, retried_table
from orchnb.notebook.views.run_logs import log_card, run_log_card
from orchnb.notebook.views.serving import served_flow_card
from orchnb.notebook.views.startup import Startup
from orchnb.notebook.views.status import server_card
from orchnb.notebook.views.timeline import MOST_BARS, timeline_chart
from orchnb.notebook.views.watch import (
    Watch,
    WatchRow,
    watch_html,
    watch_status,
    watch_text,
    watch_view,
)
from orchnb.openapi.discovery import Location
from orchnb.openapi.namespace import overview
from orchnb.openapi.parser import read_description
from orchnb.redaction import redact_url
from orchnb.runs.browsing import FoundRuns
from orchnb.runs.comparison import Difference, RunComparison
from orchnb.runs.details import RunDetails
from orchnb.runs.failure_groups import FailureGroups, grouped
from orchnb.runs.failures import FailedRun
from orchnb.runs.serving import ServedFlow
from orchnb.runs.timelines import Timeline, TimelineRow, spans_of
from orchnb.runs.tracebacks_in_logs import traceback_in
from orchnb.runs.watching import Snapshot
from orchnb.server_type import ServerType
from orchnb.settings import Origin
from orchnb.text import one_line, printable
from tests.notebook.hostile import CORPUS, FORBIDDEN, NAMES, flow, flow_run, refusal
from tests.notebook.kernels import Kernel, Shown, kernel

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 11, 21, 12, 0, 0)

HARMLESS = "harmless words"  # two, so that an address, where a space is encoded, does not hold them
LARGEST = 150_000
"""Characters of a view, of whatever it is made."""

# What becomes an address, a script or a frame, were it ever to be written.
_ACTIVE = re.compile(r"on.*|href|src.*|.*:href|action|formaction|data|background|poster|http-equiv")
# MathJax leaves these alone: by class in JupyterLab (version 3 of it) and in nbconvert (version 2), the
# others by themselves.
_NO_MATH_CLASSES = {"mathjax_ignore", "tex2jax_ignore"}
_NO_MATH_TAGS = {"style", "pre", "code"}


# The views.

AnyView = View | Watch


def html(view: AnyView) -> str:
    return watch_html(view) if isinstance(view, Watch) else html_of(view)


def text(view: AnyView) -> str:
    return watch_text(view) if isinstance(view, Watch) else text_of(view)


@cache
def address(said: str) -> httpx.URL:
    """A URL with this in its path, as it is where httpx takes it, else encoded."""
    in_path = said.replace("?", "%3F").replace("#", "%23")  # else a value that is masked
    try:
        return httpx.URL(f"http://server.invalid/api/{in_path}")
    except (httpx.InvalidURL, UnicodeEncodeError):  # control characters, too long, surrogates
        return httpx.URL(f"http://server.invalid/api/{quote(said[:2000], errors='replace')}")


def answer(status: int, said: str, body: Any = None, kind: str = "application/json") -> Any:
    """An answer with this in its path, reason phrase and headers; a text as body stands as it is."""
    raw = said.encode("utf-8", "surrogatepass")
    content = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else json.dumps(body)
    response = httpx.Response(
        status,
        request=httpx.Request("GET", address(said)),
        content=content,
        headers=[(b"content-type", kind.encode()), (b"location", raw), (b"x-words", raw)],
        extensions={"reason_phrase": raw},
    )
    return PrefectResponse.from_httpx_response(response)


def refused(status: int, said: str, *body: Any) -> PrefectHTTPStatusError:
    return status_error(answer(status, said, *(body or (refusal(said),))))


def caught(function: Callable[[], object]) -> Exception:
    with pytest.raises(orchnb.OrchnbError) as info:
        function()
    return info.value


def explained(status: int, said: str) -> Exception:
    """The error that an operation makes of a refusal."""
    call = Call("GET", path("/x"), json_of, missing=f"flow {quoted(said)}", conflict=said)
    error = call.explain(refused(status, said))
    assert isinstance(error, (orchnb.ObjectNotFound, orchnb.ObjectAlreadyExists))
    return error


def lacking(said: str) -> Exception:
    """The error of an operation that the server does not have."""
    words = f"The server, version {one_line(said, 80)}, does not have read_flow: 404 Not Found"
    return orchnb.OperationNotFound.from_status_error(refused(404, said), words)


def operations_of(said: str) -> orchnb.SyncPrefectClient:
    """A client that knows what a server says it can do."""
    described = {"get": {"tags": [said], "operationId": said, "summary": said}}
    document = {"openapi": "3.1.0", "info": {"title": said}, "paths": {"/x": described}}
    client = orchnb.SyncPrefectClient("http://x.invalid/api")
    found = read_description(json.dumps(document).encode())
    client.operations._fill((found, Location("http://x.invalid/api")))
    return client


def of_another_form(said: str) -> Exception:
    return caught(lambda: a(lambda: dict[str, int])(answer(200, "", {said: said})))


def no_json(said: str) -> Exception:
    kind = said.encode("utf-8", "surrogatepass")[:2000].decode("latin-1")
    response = httpx.Response(
        200,
        request=httpx.Request("GET", address(said)),
        content=b"<",
        headers=[(b"content-type", kind.encode("latin-1"))],
    )
    return caught(lambda: json_of(PrefectResponse.from_httpx_response(response)))


def error_of(kind: type[Exception], said: str) -> Exception:
    """An error of this kind that says this, where it is not one of status."""
    if issubclass(kind, orchnb.ServerStartFailed):
        lines = [said, f"{said}\n{said}"]
        return kind(said, phase="start", hint=said, log_lines=lines)
    if issubclass(kind, orchnb.UnexpectedAnswer):
        return kind(said, hint=said)
    if issubclass(kind, httpx.RequestError):
        return kind(said, request=httpx.Request("POST", address(said)))
    return kind(said)


_NO_CONNECTION: tuple[type[BaseException], ...] = (
    ssl.SSLCertVerificationError,
    ssl.SSLError,
    socket.gaierror,
    ConnectionRefusedError,
    TimeoutError,
)


def unconnected(cause: type[BaseException], said: str) -> Exception:
    error = httpx.ConnectError(said, request=httpx.Request("GET", address(said)))
    error.__cause__ = cause(1, said)
    return error


def status(said: str, **changes: Any) -> ServerStatus:
    values: dict[str, Any] = {"state": "up", "version": said, "seconds": 0.01, **changes}
    return ServerStatus(
        ServerType.SERVER, place=said, decided_by=Origin(said, said), problem=said, **values
    )


def retried(said: str, kind: Any = "waiting", request: int = 1, **changes: Any) -> Retried:
    event = RetryEvent(
        kind=kind,
        request_id=request,
        method="GET",
        url=redact_url(address(said)),
        attempt=1,
        max_attempts=6,
        cause=said,
        wait=4.0 if kind == "waiting" else 0.0,
        elapsed=0.5,
        operation=said,
    )
    return Retried(event, 1.0, NOON, **changes)


def retries(*entries: Retried) -> View:
    shown = Retries(lambda: 2.0)
    for entry in entries:
        shown.add(entry)
    return shown.view("The stop button ends it.")


def startup(said: str, *kinds: Any) -> View:
    shown = Startup(lambda: 2.0)
    for kind in kinds:
        shown.add(StartupEvent("start", kind, 1.0, said, waits_for=said))
    return shown.view()


def watched(said: str, kind: str, count: int = 1, **changes: Any) -> Watch:
    """What a cell shows of runs that it waits for."""
    state = {"state_type": kind, "state_name": said}
    runs = [
        run_of(said).model_copy(update={**state, "id": UUID(int=number)}) for number in range(count)
    ]
    task = {"id": UUID(int=9), "task_key": said, "dynamic_key": said, "name": said}
    task |= {"state": {"type": "FAILED", "name": said, "message": said}, "state_type": "FAILED"}
    moment = NOON.replace(tzinfo=timezone.utc)
    line = models.Log(name=said, level=20, message=said, timestamp=moment)
    tasks = (models.TaskRun.model_validate(task),)
    values: dict[str, Any] = {
        "runs": runs,
        "shown": runs,
        "details": {run.id: RunDetails(tasks, 1, 2, (said, said, said), line) for run in runs},
        "lines": (line, line),
        "total": count,
        "age": 0.0,
        "elapsed": 3.0,
        "ui_url": "http://x.invalid",
        "trouble": None,
        "deleted": 0,
        "end_reason": None,
        "asked": {},
        "refused": (),
        "creates_no_more": False,
        **changes,
    }
    snapshot = Snapshot(**values)
    return watch_view(snapshot, moment, watch_status(snapshot))


def table(*items: models.Model) -> View:
    return model_table(models.ModelList(items))


def run_of(said: str) -> models.FlowRun:
    return models.FlowRun.model_validate(flow_run(said))


def card(model: models.Model) -> View:
    return model_card(model)


ID = UUID(int=1)


def of_kind(kind: Any, **fields: Any) -> models.Model:
    model = kind.model_validate({"id": ID, "flow_id": ID, "level": 20, **fields})
    assert isinstance(model, models.Model)
    return model


NOUNS: dict[str, Callable[[str], models.Model]] = {
    "task run": lambda said: of_kind(
        models.TaskRun,
        **dict.fromkeys(("task_key", "dynamic_key", "name", "state_name"), said),
        state={"type": said, "name": said, "message": said},
        task_inputs={said: [{"input_type": said}]},
        tags=[said],
    ),
    "deployment": lambda said: of_kind(
        models.Deployment,
        **dict.fromkeys(
            (
                *("name", "description", "version", "entrypoint", "status"),
                *("work_pool_name", "work_queue_name"),
            ),
            said,
        ),
        schedules=[{"id": ID, "schedule": {"cron": said, "timezone": said}}],
        parameters={said: said},
        tags=[said],
    ),
    "schedule": lambda said: of_kind(
        models.DeploymentSchedule,
        schedule={"rrule": said, "timezone": said},
        parameters={said: [said]},
        slug=said,
    ),
    "work pool": lambda said: of_kind(
        models.WorkPool, name=said, type=said, status=said, description=said
    ),
    "work queue": lambda said: of_kind(
        models.WorkQueue, name=said, work_pool_name=said, status=said, description=said
    ),
    "worker": lambda said: of_kind(models.Worker, name=said, status=said),
    "event": lambda said: of_kind(
        models.Event,
        event=said,
        occurred=NOON,
        resource={"prefect.resource.id": said, "prefect.resource.name": said, said: said},
        related=[{"prefect.resource.role": said, "prefect.resource.name": said}],
        payload={said: {said: said}},
    ),
    "automation": lambda said: of_kind(
        models.Automation,
        name=said,
        description=said,
        trigger={"type": "event", "expect": [said], "after": [said], "match": {said: said}},
        actions=[{"type": said, "name": said, "subject": said}],
    ),
    "block document": lambda said: of_kind(
        models.BlockDocument, name=said, block_type_name=said, data={"field": said}
    ),
    "block type": lambda said: of_kind(models.BlockType, name=said, slug=said, description=said),
    "variable": lambda said: of_kind(models.Variable, name=said, value={said: [said]}, tags=[said]),
    "tag limit": lambda said: of_kind(models.ConcurrencyLimit, tag=said, concurrency_limit=1),
    "limit": lambda said: of_kind(models.GlobalConcurrencyLimit, name=said, limit=1),
    "slot": lambda said: of_kind(models.FlowRunSlot, name=said, state_type=said, state_name=said),
    "graph": lambda said: of_kind(models.FlowRunGraph, nodes=[said], artifacts=[said]),
    "artifact": lambda said: artifact_of(said, said),
    "log line": lambda said: log_of(said),
    "other": lambda said: of_kind(
        models.FlowRunInput,
        flow_run_id=ID,
        key=said,
        value=said,
        sender=said,
        new={said: said},
    ),
}
"""An object of each kind that has a separate view, with this in every field that takes a text."""


def artifact_of(said: str, kind: str) -> models.Artifact:
    data: Any = said
    if kind == "table":
        data = [{said: said, "number": 1}, {said: None}]
    elif kind == "link":
        data = f"[{said}](javascript:alert(1))"
    fields = {"id": ID, "key": said, "type": kind, "description": said, "data": data}
    return models.Artifact.model_validate(fields)


def log_of(said: str) -> models.Log:
    fields = {"id": ID, "name": said, "level": 40, "message": said, "timestamp": NOON}
    return models.Log.model_validate(fields)


def traceback_of(said: str) -> str:
    """As Python writes it: a line of source has no line ends."""
    line = one_line(said)
    frames = [
        f'  File "/{path}/x", line 1, in f{line}\n    {line}' for path in ("lib/python3", "home")
    ]
    return "\n".join([said, "Traceback (most recent call last):", *frames, f"ValueError: {said}"])


def failed_of(said: str) -> FailedRun:
    task = NOUNS["task run"](said)
    assert isinstance(task, models.TaskRun)
    logs = [log_of(said), log_of(traceback_of(said))]
    return FailedRun(run_of(said), task, traceback_in(logs[1].message), logs, said)


def groups_of(said: str) -> FailureGroups:
    runs = [run_of(said), run_of(said)]
    since = datetime(2026, 11, 28, tzinfo=timezone.utc)
    return FailureGroups(grouped(runs, {runs[0].flow_id: said}), since, True)


def comparison_of(said: str) -> RunComparison:
    one = Difference("parameter", said, {said: said}, [said])
    return RunComparison(run_of(said), run_of(said), [one], [said], True)


def flow_of(said: str) -> models.Flow:
    return models.Flow.model_validate(flow(said))


def state_of(said: str) -> models.State:
    return models.State.model_validate({"type": said, "name": said, "message": said})


def result_of(said: str) -> models.OrchestrationResult:
    state = {"type": said, "name": said, "message": said}
    return models.OrchestrationResult.model_validate(
        {"status": said, "state": state, "details": {said: said}, "name": said}
    )


_STATUSES = (302, 401, 403, 404, 422, 500)  # each is told in its own way


def logged(said: str) -> View:
    """The log after a server has logged that."""
    for _ in range(2):  # so that there is always more than is shown, and a note of that
        host_log.add(logging.LogRecord(said, logging.INFO, "", 0, said, (), None))
    return log_view(1, "notset")


def served(said: str) -> Served:
    """An app that calls itself so, and is open on a port; it is not really."""
    app = EphemeralApp("app", home=Path(), timeout=1, given=titled(said))
    opened = Served.__new__(Served)
    opened.app, opened.port = app, 4200
    opened._base, opened._settings_file = "/pages", Path("port.sh")
    opened._keys = PortKeys(4200, "/pages")
    opened._keys.new_code = lambda: "the-same-each-time"  # type: ignore[method-assign]
    return opened


def titled(title: str) -> Any:
    """An ASGI app with a title."""

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    app.title = title  # type: ignore[attr-defined]
    return app


class _EndedProcess:
    """What a card asks of a process, with a log of this text."""

    def __init__(self, said: str) -> None:
        self.said = said
        self.pid, self.is_running, self.exit_code = 1, False, 1
        self.file = self.log = Path("flow.py")

    def log_lines(self, most: int) -> list[str]:
        return [self.said][:most]


def served_flow_of(said: str) -> ServedFlow:
    deployment = models.Deployment(id=UUID(int=1), flow_id=UUID(int=2), name=said)
    process: Any = _EndedProcess(said)
    return ServedFlow(deployment, process, said)


def graph_of(said: str) -> models.FlowRunGraph:
    details = dict.fromkeys(("kind", "id", "label", "state_type", "start_time"), said)
    return models.FlowRunGraph(nodes=[[said, {**details, "parents": [{"id": said}]}]])


def timeline_of(said: str, tasks: int) -> Timeline:
    run, now = run_of(said), NOON.astimezone()
    task = models.TaskRun(
        id=UUID(int=4),
        task_key=said,
        dynamic_key="0",
        name=said,
        state=state_of(said),
        state_type="FAILED",
        state_name=said,
        start_time=now,
    )
    rows = [
        TimelineRow(each.id, each.name or "", each, depth, spans_of(each, (), now))
        for each, depth in [(run, 0), *[(task, 1)] * tasks]
    ]
    return Timeline(rows, now)


def recorded(said: str) -> View:
    """The run of a cell, on a server whose pages are there."""
    run = models.FlowRun(
        id=UUID(int=1),
        flow_id=UUID(int=2),
        name=said,
        state=state_of(said),
        state_type="FAILED",
        state_name=said,
    )
    return recorded_card(run, said, "http://x.invalid", 3.0, [said])


VIEWS: dict[str, Callable[[str], AnyView]] = {
    "awaiting.await_card": lambda said: await_card([said] * 7, is_missing=True),
    "awaiting.await_card: needless": lambda said: await_card([said], is_missing=False, failed=True),
    **{
        f"errors.error_card: {status_}": lambda said, status_=status_: error_card(
            refused(status_, said)
        )
        for status_ in _STATUSES
    },
    "errors.error_card: fields alone": lambda said: error_card(
        refused(422, said, {"detail": [{"loc": ["body", said], "msg": said, "type": said}]})
    ),
    "errors.error_card: problem+json": lambda said: error_card(
        refused(400, said, {"title": said, "detail": {"error": said, "message": [said]}})
    ),
    "errors.error_card: text body": lambda said: error_card(refused(500, said, said)),
    "errors.error_card: page title": lambda said: error_card(
        refused(404, said, f"<html><title>{said}</title>", "text/html")
    ),
    "errors.error_card: not found": lambda said: error_card(explained(404, said)),
    "errors.error_card: exists": lambda said: error_card(explained(409, said)),
    "errors.error_card: lacking": lambda said: error_card(lacking(said)),
    "errors.error_card: another form": lambda said: error_card(of_another_form(said)),
    "errors.error_card: no json": lambda said: error_card(no_json(said)),
    **{
        f"errors.error_card: {kind.__name__}": lambda said, kind=kind: error_card(
            error_of(kind, said)
        )
        for kind, _ in KINDS
        if not issubclass(kind, PrefectHTTPStatusError)
    },
    **{
        f"errors.error_card: no connection, {cause.__name__}": lambda said, cause=cause: error_card(
            unconnected(cause, said)
        )
        for cause in _NO_CONNECTION
    },
    "errors.stopped_card: sent": lambda said: stopped_card(
        httpx.Request("POST", address(said)), sent=True
    ),
    "objects.status_card: up": lambda said: status_card(status(said)),
    "status.server_card": lambda said: server_card(status(said, flows=said)),
    "objects.status_card: down": lambda said: status_card(status(said, state="down")),
    "objects.status_card: refused": lambda said: status_card(
        ServerStatus(
            ServerType.SERVER,
            "lab",
            "down",
            Origin("", "default"),
            problem=describe(refused(500, said)),
        )
    ),
    "objects.response_card: success": lambda said: response_card(answer(200, said, said)),
    "objects.response_card: failure": lambda said: response_card(answer(500, said, said)),
    "objects.model_card: flow": lambda said: model_card(flow_of(said)),
    "objects.model_card: flow run": lambda said: model_card(run_of(said)),
    "objects.model_card: state": lambda said: model_card(state_of(said)),
    "objects.model_card: result": lambda said: model_card(result_of(said)),
    "objects.model_table: flows": lambda said: table(flow_of(said), flow_of(said)),
    "objects.model_table: flow runs": lambda said: table(*[run_of(said)] * 2),
    "objects.model_table: states": lambda said: table(state_of(said)),
    "objects.operations_table: groups": lambda said: operations_table(
        operations_of(said).operations
    ),
    "objects.operation_group_table: one": lambda said: operation_group_table(
        next(iter(overview(operations_of(said).operations).groups.values()))
    ),
    **{
        f"objects.model_{view.__name__}: {kind}": lambda said, view=view, kind=kind: view(
            NOUNS[kind](said)
        )
        for kind in NOUNS
        for view in (card, table)
    },
    **{
        f"artifacts.artifact_card: {kind}": lambda said, kind=kind: artifact_card(
            artifact_of(said, kind)
        )
        for kind in ("markdown", "table", "progress", "image", "link", "of no kind")
    },
    "comparison.run_comparison_card: all": lambda said: run_comparison_card(comparison_of(said)),
    "failure_groups.failure_groups_view: all": lambda said: failure_groups_view(groups_of(said)),
    "failed_runs.failed_run_card: all": lambda said: failed_run_card(failed_of(said)),
    "run_logs.run_log_card: a line": lambda said: run_log_card(
        run_of(said), [log_of(said)], among=said
    ),
    "run_logs.log_card: a traceback": lambda said: log_card([log_of(traceback_of(said))]),
    "objects.as_it_is: line": lambda said: as_it_is(Line(clean(said))),
    "objects.as_it_is: card": lambda said: as_it_is(Card(clean(said))),
    "timeline.timeline_chart: rows": lambda said: timeline_chart(timeline_of(said, 1)),
    "timeline.timeline_chart: groups": lambda said: timeline_chart(timeline_of(said, MOST_BARS)),
    "graph.graph_diagram: a run": lambda said: graph_diagram(graph_of(said)),
    "serving.served_flow_card: ended": lambda said: served_flow_card(served_flow_of(said)),
    "logs.log_view: a line": lambda said: logged(said),
    "diagnosis.diagnosis_card: a row": lambda said: diagnosis_card(
        Diagnosis([("Server", one_line(said))], [one_line(said)])
    ),
    "port.served_card: an app": lambda said: served_card(served(said)),
    "port.not_served_line: closed": lambda said: not_served_line(True),
    "recorded.recorded_card": recorded,
    "recorded.not_recorded_line": lambda said: not_recorded_line("This cell is", said),
    "retries.Retries.view: live": lambda said: retries(
        *(retried(said, request=number) for number in range(20)), retried(said, "gave_up")
    ),
    **{
        f"retries.Retries.view: {kind}": lambda said, kind=kind: retries(
            retried(said), retried(said, kind)
        )
        for kind in ("recovered", "gave_up", "stopped")
    },
    "retries.Retries.view: several": lambda said: retries(
        retried(said, "recovered", 1), retried(said, "stopped", 2, by_person=True)
    ),
    "retries.retried_table: two": lambda said: retried_table(
        RetriedList([retried(said), retried(said, "stopped", by_person=True)])
    ),
    **{
        f"startup.Startup.view: {kind}": lambda said, kind=kind: startup(said, kind)
        for kind in ("began", "waits", "ended", "failed", "stopped")
    },
    **{
        f"watch.watch_view: {kind}, {count}": lambda said, kind=kind, count=count: watched(
            said, kind, count
        )
        for kind in ("RUNNING", "FAILED")
        for count in (1, 2)
    },
    "browse.found_table: two": lambda said: found_table(
        FoundRuns([run_of(said)] * 2, total=9, looked_at=5, note=clean(said)),
        now=NOON.astimezone(),
    ),
    "browse.found_table: none": lambda said: found_table(
        FoundRuns([], total=9, looked_at=5, note=clean(said))
    ),
    "watch.watch_view: trouble": lambda said: watched(
        said,
        "RUNNING",
        trouble=ValueError(said),
        refused=(said,),
        asked={"cancel": 1},
        end_reason="stopped",
    ),
}
"""Every view there is of anything that a server says, from the function's name to what makes one."""

_NOT_WORD_FOR_WORD = {
    "logs.log_view: a line",  # after the time and the logger's name
    "objects.operation_group_table: one",  # the reader of documents cleans as well
    "errors.error_card: text body",  # what begins as a page does is left out
    "errors.error_card: page title",  # its entities are decoded
    "errors.error_card: no json",  # a content type without its parameters
    "errors.error_card: another form",  # an escape takes what follows it
}


# What they are held to.


class Looks(NamedTuple):
    """What a browser makes of html."""

    tree: tuple[Any, ...]
    """Elements with their attributes, without texts."""
    words: str
    style: str


def looks(source: str) -> Looks:
    """The html as a browser reads it in the midst of a page: what comes after it must not be in it."""
    style, _, body = source.rpartition("</style>")  # ours is first; it takes long to be parsed
    root: Any = html5lib.parseFragment(
        f"{body}<i id='after'></i>", treebuilder="etree", namespaceHTMLElements=False
    )
    *inside, after = root
    assert (after.tag, dict(after.attrib), len(after)) == ("i", {"id": "after"}, 0)
    return Looks(
        tuple(part for each in inside for part in _parts(each)),
        " ".join("".join(root.itertext()).split()),
        style,
    )


def marks(trees: tuple[Any, ...]) -> set[Any]:
    """All elements with their attributes, wherever they are."""
    return {
        mark for tag, attributes, inside in trees for mark in {(tag, attributes), *marks(inside)}
    }


def _tree(element: Any) -> tuple[Any, ...]:
    # A tooltip is a text as well, and there is one where a text is shortened.
    texts = {"title", "aria-label"}
    attributes = {key: value for key, value in element.attrib.items() if key not in texts}
    inside = tuple(part for child in element for part in _parts(child))
    return str(element.tag), tuple(sorted(attributes.items())), inside


def _parts(element: Any) -> tuple[Any, ...]:
    """The element, or what is in it if all that it adds is a tooltip: a text that is too long has one."""
    tree = _tree(element)
    return tree[2] if element.tag == "span" and set(element.attrib) <= {"title"} else (tree,)


def elements(source: str) -> Iterator[Any]:
    root: Any = html5lib.parseFragment(source, treebuilder="etree", namespaceHTMLElements=False)
    return iter(list(root.iter())[1:])


def unseen(shown: str, forbidden: frozenset[str] = FORBIDDEN) -> list[str]:
    """The characters in it that do something instead of being seen."""
    if shown.isascii() and shown.replace("\n", "").isprintable():
        return []
    return sorted(c for c in {*shown} - {"\n"} if unicodedata.category(c) in forbidden)


def lines(view: AnyView) -> int:
    """How many lines its text has, save for those of a log."""
    return len([line for line in text(view).splitlines() if not line.startswith("  | ")])


@cache
def harmless(name: str) -> tuple[list[Looks], set[int]]:
    """How a view looks that is made of a harmless text, or of none."""
    made = [VIEWS[name](said) for said in (HARMLESS, "")]
    return [looks(html(view)) for view in made], {lines(view) for view in made}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_of_hostile_text_looks_as_one_of_harmless_text(name: str) -> None:
    patterns, line_counts = harmless(name)
    shows_it = HARMLESS in patterns[0].words and name not in _NOT_WORD_FOR_WORD
    for attack, said in CORPUS.items():
        view = VIEWS[name](said)
        source, plain = html(view), text(view)
        seen = looks(source)
        trees = [pattern.tree for pattern in patterns]
        if clean(said):
            assert seen.tree in trees, attack
        else:
            # Rows of nothing are left out.
            assert marks(seen.tree) <= marks(trees[0]) | marks(trees[1]), attack
        assert seen.style in [pattern.style for pattern in patterns], attack
        assert lines(view) in line_counts or not clean(said), attack
        assert not unseen(source), attack
        assert not unseen(plain), attack
        assert len(source) < LARGEST, attack
        assert len(plain) < LARGEST, attack
        if shows_it:
            in_table = isinstance(view, Table) or getattr(view, "table", None) is not None
            longest = 20 if in_table else 60  # cells of tables are short
            begin = clean(said)[:longest].removesuffix("…").strip()
            assert begin in seen.words, attack
            assert begin in plain, attack


RAW: dict[str, Callable[[str], AnyView]] = {
    "card": lambda said: Card(
        said, "warn", [(said, said)], Table([said], [[said]], f"{said}."), [said, said], [said]
    ),
    "table": lambda said: Table([said, said], [[said, said]], said),
    "live": lambda said: Live(said, [Step(said, said, said, 0.5)], [said]),
    "line": lambda said: Line(said, "error"),
    "watch": lambda said: dataclasses.replace(
        watched(HARMLESS, "FAILED", 2),
        title=said,
        about=f"{said}.",
        failure=f"{said}.",
        more=f"{said}.",
        log=[said, said],
        notes=[said],
        status=f"{said}.",
        rows=[WatchRow("x", said, "error", said, "", f"{said}.", 1, 2, said, said)],
    ),
    "chart": lambda said: Chart(
        said,
        "error",
        [(0.5, said)],
        [ChartRow(said, said, "warn", [ChartBar("ran", 0, 1)], spoken=said)],
        [said],
    ),
    "diagram": lambda said: Diagram(
        said, 9, 9, [Box(0, 0, 9, 9, said, said, "good", said, True, [said])], [], [said]
    ),
}


@pytest.mark.parametrize("name", RAW)
def test_the_templates_escape_also_what_nobody_has_cleaned(name: str) -> None:
    pattern = looks(html(RAW[name](HARMLESS)))
    for attack, said in CORPUS.items():
        if len(said) > 10_000:
            continue  # `clean` is what shortens
        source = html(RAW[name](said))
        assert looks(source).tree == pattern.tree, attack
        seen_by_nobody = FORBIDDEN - {"Zl", "Zp"}
        assert not unseen(source, seen_by_nobody), attack
        assert not unseen(text(RAW[name](said)), seen_by_nobody), attack


_LINKS: dict[str, Callable[[str], str]] = {
    "all of it": lambda said: said,
    "after a host": lambda said: f"https://h.test/{said}",
    "after a slash": lambda said: f"/{said}",
}


@pytest.mark.parametrize("name", _LINKS)
def test_a_cell_links_to_addresses_alone_and_its_title_stays_in_its_place(name: str) -> None:
    def cell(said: str) -> View:
        return Table(["a"], [[TableCell("words", title=said, link=_LINKS[name](said))]])

    for attack, said in CORPUS.items():
        for element in elements(source := html(cell(said))):
            assert element.tag != "a" or re.match(r"https?://|/(?!/)", element.attrib["href"]), (
                attack
            )
            assert set(element.attrib) <= {
                *(
                    "class",
                    "style",
                    "title",
                    "href",
                    "target",
                    "rel",
                    "role",
                    "aria-label",
                    "tabindex",
                )
            }, attack
        assert looks(source).words == "a words", attack
        assert not unseen(source, FORBIDDEN - {"Zl", "Zp"}), attack


@pytest.mark.parametrize("name", [*VIEWS, *RAW])
def test_no_view_has_a_link_or_anything_that_acts(name: str) -> None:
    source = html({**VIEWS, **RAW}[name](HARMLESS))
    for element in elements(source):
        if element.tag == "a" and name.startswith("port."):
            # What the view is for.
            page = "http://127.0.0.1:4200/pages/orchnb-sign-in?code=the-same-each-time"
            assert element.attrib["href"] == page
            continue
        if element.tag == "a" and name.startswith(("watch.", "recorded.")):
            assert element.attrib["href"].startswith("http://x.invalid/runs/flow-run/0000")
            continue
        assert element.tag not in ("script", "a", "iframe", "form", "img", "link", "meta", "base")
        assert not [key for key in element.attrib if _ACTIVE.fullmatch(key)]


@pytest.mark.parametrize("name", [*VIEWS, *RAW])
def test_no_text_of_a_view_is_typeset_as_mathematics(name: str) -> None:
    """JupyterLab has MathJax look at html: a server's ``$\\href{...}{...}$`` would become a link."""

    def walk(element: Any, ignored: bool) -> None:
        classes = set(element.attrib.get("class", "").split())
        ignored = ignored or classes >= _NO_MATH_CLASSES or element.tag in _NO_MATH_TAGS
        texts = [element.text, *(child.tail for child in element)]
        assert ignored or not "".join(filter(None, texts)).strip()
        for child in element:
            walk(child, ignored)

    source = html({**VIEWS, **RAW}[name](HARMLESS))
    walk(html5lib.parseFragment(source, treebuilder="etree", namespaceHTMLElements=False), False)


# Nothing is forgotten


def view_functions() -> set[str]:
    """All public functions and methods that return a view, by module and name."""
    kinds = {"View", "Watch", *(kind.__name__ for kind in get_args(View))}
    found = set()
    for module_info in pkgutil.iter_modules(views.__path__):
        module = importlib.import_module(f"orchnb.notebook.views.{module_info.name}")
        for name, thing in vars(module).items():
            members = vars(thing) if inspect.isclass(thing) else {"": thing}
            for member, function in members.items():
                if (
                    not inspect.isfunction(function)
                    or function.__module__ != module.__name__
                    or function.__name__.startswith("_")
                ):
                    continue
                returned = str(function.__annotations__.get("return", ""))
                if set(re.findall(r"\w+", returned)) & kinds:
                    found.add(".".join(filter(None, (module_info.name, name, member))))
    return found


def test_every_view_is_among_them() -> None:
    assert view_functions() == {name.partition(":")[0] for name in VIEWS}
    shown = {view if "." in view else f"objects.{view}" for view in _SHOWN.values()}
    assert shown <= view_functions()


def test_every_template_of_a_view_is_among_them() -> None:
    folder = Path(views.__path__[0], "templates")
    parts = {"cells", "style"}  # of which the others are made
    assert {path.name.partition(".")[0] for path in folder.iterdir()} - parts == set(RAW)


def test_every_kind_of_error_is_among_them() -> None:
    known = tuple(kind for kind, _ in KINDS)
    ours = {
        kind
        for kind in vars(orchnb.errors).values()
        if isinstance(kind, type) and issubclass(kind, orchnb.OrchnbError)
    }
    untold = {kind for kind in ours if not issubclass(kind, known)}
    assert untold == {orchnb.OrchnbError, PrefectHTTPStatusError}


def test_the_corpus_is_large() -> None:
    assert len(set(CORPUS.values())) == len(CORPUS) >= 60


# Much of it


def many_fields(count: int) -> View:
    row = {"loc": ["body", "x" * 50], "msg": "y" * 400, "type": "z" * 50}
    return error_card(refused(422, "", {"detail": [row] * count}))


def many_log_lines(count: int) -> View:
    lines_ = ["x" * 300] * count
    return error_card(orchnb.ServerStartFailed("no", phase="start", log_lines=lines_))


def one_long_log_line(count: int) -> View:
    return error_card(orchnb.ServerStartFailed("no", phase="start", log_lines=["x\n" * count]))


def many_tags(count: int) -> View:
    return model_card(run_of("x").model_copy(update={"tags": ["x" * 100] * count}))


def many_tags_in_a_table(count: int) -> View:
    return table(*[run_of("x").model_copy(update={"tags": ["x" * 100] * count})] * 20)


def many_parameters(count: int) -> View:
    parameters = {f"name{number}": {"deep": ["x"] * 10} for number in range(count)}
    return model_card(run_of("x").model_copy(update={"parameters": parameters}))


def nested_tags(count: int) -> View:
    value: Any = "x"
    for _ in range(min(count, 500)):
        value = [value, value] if len(str(value)) < 10_000 else [value]
    return model_card(run_of("x").model_copy(update={"parameters": {"x": value}}))


def many_rows(count: int) -> View:
    return table(*[run_of("x" * 500)] * count)


def many_retries(count: int) -> View:
    return retries(*(retried("x" * 500, request=number) for number in range(count)))


def long_address(count: int) -> View:
    return response_card(
        PrefectResponse.from_httpx_response(
            httpx.Response(200, request=httpx.Request("GET", f"http://lab/{'x' * count}"))
        )
    )


@pytest.mark.parametrize(
    "make",
    [
        many_fields,
        many_log_lines,
        one_long_log_line,
        many_tags,
        many_tags_in_a_table,
        many_parameters,
        nested_tags,
        many_rows,
        many_retries,
        long_address,
    ],
    ids=lambda make: make.__name__,
)
def test_much_of_anything_makes_a_view_of_a_usual_size(make: Callable[[int], View]) -> None:
    view = make(10_000)
    assert len(html(view)) < LARGEST
    assert len(text(view)) < LARGEST


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="Windows has one time zone a process")
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
def test_a_time_at_the_end_of_all_times_is_shown_wherever_one_is(
    zone: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        run = models.FlowRun.model_validate({**flow_run("x"), "start_time": moment})
        for view in (model_card(run), table(run)):
            assert re.search(r"\d+-(01-01|12-31) \d\d:", html(view))
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("charset", ["hex", "zip", "rot13", "undefined", "utf-7", "idna"])
def test_an_answer_in_a_charset_that_is_none_is_shown(charset: str) -> None:
    response = answer(200, "", "words", f"text/plain; charset={charset}")
    assert "200" in text(response_card(response))


# An app's own words as it starts


def app_that_does_not_start(said: str, way: str) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if way == "exception":
            raise RuntimeError(said)
        await send({"type": "lifespan.startup.failed", "message": said})

    return app


@pytest.mark.parametrize("way", ["message", "exception"])
def test_an_app_that_does_not_start_says_why_harmlessly(way: str) -> None:
    for attack, said in CORPUS.items():
        client = orchnb.SyncPrefectClient(app_that_does_not_start(said, way))
        error = caught(client.__enter__)
        view = error_card(error)
        assert looks(html(view)).tree == looks(html(error_card(type(error)(HARMLESS)))).tree, attack
        assert not unseen(html(view) + text(view)), attack
        assert len(html(view)) < LARGEST, attack
        # A traceback ends with it, and it may have several lines.
        assert not unseen(str(error), FORBIDDEN - {"Zl", "Zp"}), attack


# As a front end gets it, from a real kernel and a real app


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("hostile")
    environment = {
        "ORCHNB_EPHEMERAL_APP": "tests.notebook.hostile:app",
        "PREFECT_CLIENT_MAX_RETRIES": "1",
        "PYTHONPATH": str(ROOT),
    }
    with kernel(folder, **environment) as running:
        running("%load_ext orchnb")
        running("client = orchnb.get_client()\nplain = orchnb.get_client(sync_client=True)")
        running("from tests.notebook.hostile import CORPUS, NAMES")
        yield running


def assert_harmless(shown: Shown, attack: str) -> None:
    """Nothing in any of the messages does anything."""
    for output in shown.outputs:
        content = output["content"]
        if output["msg_type"].startswith("comm_"):
            assert not unseen(json.dumps(content, ensure_ascii=False)), attack
            continue
        data = dict(content.get("data", {}))
        data.pop("application/vnd.jupyter.widget-view+json", None)
        assert set(data) <= {"text/html", "text/plain"}, attack
        for mime, source in data.items():
            assert not unseen(source), (attack, mime)
            assert len(source) < LARGEST, (attack, mime)
        if "text/html" in data:
            tags = {element.tag for element in elements(data["text/html"])}
            assert tags <= _OUR_TAGS, attack
        assert not unseen(content.get("evalue", "")), attack
        # Its colours are IPython's own.
        coloured = "\n".join(content.get("traceback", ()))
        assert not unseen(re.sub(r"\x1b\[[0-9;]*m", "", coloured)), attack
        assert not unseen(content.get("text", "")), attack


_OUR_TAGS = {
    "style",
    "div",
    "p",
    "strong",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "pre",
    "span",
    "code",
    "progress",
    *(f"{{http://www.w3.org/2000/svg}}{tag}" for tag in ("svg", "rect")),
}


def test_errors_in_cells(cell: Kernel) -> None:
    asks = "await client.read_flow_by_name('{}')", "plain.read_flow('{}')"  # a 404, a 422
    for number, attack in enumerate(NAMES):
        shown = cell(asks[number % 2].format(number))
        assert len(shown.bundles) == len(shown.errors) == 1, attack
        assert_harmless(shown, attack)


_SGR = re.compile(r"\x1b\[[0-9;]*m")


def test_whole_tracebacks_in_cells(cell: Kernel) -> None:
    for attack in NAMES:
        # As what an app has raised is, by way of a cause.
        cell(f"raise RuntimeError(CORPUS[{attack!r}][:500])")
        shown = cell("%orch_traceback")
        assert "RuntimeError" in shown.streams, attack
        assert printable(shown.streams) == _SGR.sub("", shown.streams), attack


def test_objects_and_tables_in_cells(cell: Kernel) -> None:
    shown = cell("runs = await client.read_flow_runs()\nfor run in runs:\n    display(run)\nruns")
    assert len(shown.bundles) == len(NAMES) + 1, shown.traceback
    assert_harmless(shown, "objects")
    for start in range(0, len(NAMES), 20):
        shown = cell(f"type(runs)(runs[{start}:{start + 20}], model=runs.model)")
        assert "<table" in shown.html
        assert_harmless(shown, f"table of {NAMES[start]} and after")


def test_retries_in_cells(cell: Kernel) -> None:
    asked = 0
    for attack in NAMES[::4]:
        source = f"said = CORPUS[{attack!r}][:500]\nawait client.request('GET', '/busy/' + said)"
        shown = cell(source)
        assert_harmless(shown, attack)
        asked += "gave up after 2 tries" in shown.everything
    assert asked > 10, "the others are no addresses"
    table_shown = cell("%orch_retries")
    assert "gave up" in table_shown.text
    assert_harmless(table_shown, "the table of retries")


def test_the_status_in_a_cell(cell: Kernel) -> None:
    shown = cell("status = %orch_server_type\nstatus")
    assert "up" in shown.text, shown.traceback
    assert_harmless(shown, "status")
    assert_harmless(cell("print(status)"), "status as a text")
    assert_harmless(cell("[status]"), "status within something else")


# The style, which every saved output contains


@pytest.mark.parametrize("name", VIEWS)
def test_the_style_of_an_output_is_small(name: str) -> None:
    source = html(VIEWS[name](HARMLESS))
    blocks = re.findall(r"<style>(.*?)</style>", source, re.DOTALL)
    inline = re.findall(r'style="([^"]*)"', source)
    assert sum(map(len, (*blocks, *inline))) <= 700
    assert len(inline) <= 1, "rows have classes"
