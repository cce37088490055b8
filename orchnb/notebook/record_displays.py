"""What records the cells of a notebook, and shows in each how it is recorded."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from orchnb.api import models
from orchnb.api.client import SyncPrefectClient, api_of
from orchnb.api.context import FlowRunContext, get_client
from orchnb.api.operations.task_runs import create_task_run, set_task_run_state
from orchnb.notebook.cell_tracking import Cell
from orchnb.notebook.display_mode import Mode
from orchnb.notebook.display_output import Output
from orchnb.notebook.overheard import Overheard
from orchnb.notebook.pacer import Pacer
from orchnb.notebook.track_options import TrackOptions, error_line, notebook_name
from orchnb.notebook.views.model import Card, Line
from orchnb.notebook.views.recorded import not_recorded_line, recorded_card
from orchnb.prefect_server.parent_runs import ParentRuns
from orchnb.redaction import Secrets
from orchnb.runs.recorder import Recorder
from orchnb.runs.records import Outcome, Record
from orchnb.runs.rich_output import output_artifact, source_artifact
from orchnb.server_type import ServerType
from orchnb.settings import Settings, get_settings

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from orchnb.http.calls import Call
    from orchnb.runtime.futures import ThreadFuture

logger: logging.Logger = logging.getLogger(__name__)

_PATIENCE = 2.0
"""Seconds that a cell waits at most for the server, before it runs and again at its end."""

NOT_ON = "the cells of this notebook are not recorded; %orch_track on records them"


class Recording:
    """Records the cells of one notebook: single cells, and the whole notebook while that is on."""

    def __init__(
        self,
        shell: InteractiveShell,
        current_cell: Callable[[], Cell | None],
        mode: Callable[[], Mode],
        *,
        recorder: Recorder | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shell = shell
        self.current_cell = current_cell
        self.mode = mode
        self.recorder: Recorder = recorder or Recorder()
        self.clock = clock
        self.pacer: Pacer = Pacer()
        self.parents: ParentRuns = ParentRuns()
        self.flow_ids: dict[tuple[str, str], uuid.UUID] = {}
        """The ids of flows, by the server's address and the flow's name."""
        self.notebook: NotebookRecord | None = None
        """The record of the whole notebook, while that is on."""
        self._at_exit = self.close
        atexit.register(self._at_exit)

    @property
    def is_on(self) -> bool:
        """Whether every cell is recorded."""
        return self.notebook is not None

    def begin(self, options: TrackOptions | None, source: str) -> RecordedCell | None:
        """Begin to record a cell; None if there is nothing to record. Shows why if it is impossible."""
        cell = self.current_cell()
        task = None if self.notebook is None else self.notebook.begin_cell(source)
        recorded = RecordedCell(self, cell, task)
        if options is not None:
            recorded.begin(options, source)
        return recorded

    def switch_on(self) -> Card | Line:
        """Begin to record every cell, as task runs of one flow run."""
        if self.notebook is None:
            try:
                self.notebook = NotebookRecord(self)
            except Exception as exc:  # noqa: BLE001 - of settings, or of a server that does not start
                return not_recorded_line("This notebook is", error_line(exc))
        return self.notebook.view()

    def switch_off(self) -> Card | Line:
        """End the record of the notebook."""
        notebook, self.notebook = self.notebook, None
        return Line(NOT_ON) if notebook is None else notebook.end()

    def view(self) -> Card | Line:
        """Return the card of the notebook's record, or a line that says that cells are not recorded."""
        return Line(NOT_ON) if self.notebook is None else self.notebook.view()

    def close(self) -> None:
        """Finish what is recorded, within a limit of time."""
        atexit.unregister(self._at_exit)
        if self.notebook is not None:
            self.switch_off()
        self.pacer.close()
        self.recorder.close(_PATIENCE)


def sync_client() -> SyncPrefectClient:
    """Return the notebook's sync client, once an in-kernel server has started."""
    client = get_client(sync_client=True)
    with client:  # waits for the start, which its cell shows
        return client


def reopened(client: SyncPrefectClient) -> Callable[[], SyncPrefectClient] | None:
    """Return what makes another client of the same server; None for an in-kernel server, which would
    start again."""
    if client.server_type is ServerType.EPHEMERAL:
        return None
    url, settings = client.api_url, client.settings
    return lambda: SyncPrefectClient(url, settings=settings)


class RecordedCell:
    """The record of one cell, and its card. ``task`` is its task run in the record of the notebook."""

    def __init__(self, recording: Recording, cell: Cell | None, task: CellTask | None) -> None:
        self._recording = recording
        self._task = task
        self._output = None if cell is None else Output.of(recording.shell, cell)
        self._cell = cell
        self._record: Record | None = None
        self._flow = ""
        self._ui_url: str | None = None
        self._began = recording.clock()
        self._ended: float | None = None
        self._problems: list[str] = []
        self._contexts: list[AbstractContextManager[Any]] = []
        self._overheard: Overheard | None = None
        self._drawing = threading.Lock()

    @property
    def goes_on(self) -> bool:
        """Whether the cell is running."""
        return self._ended is None

    def begin(self, options: TrackOptions, source: str) -> None:
        """Create the flow run; show a line if that is impossible."""
        recording = self._recording
        record = None
        try:
            settings = get_settings()
            client = sync_client()
            flow = options.name or notebook_name(recording.shell)
            record = Record(
                flow,
                flow_id=recording.flow_ids.get((client.api_url, flow)),
                parameters=options.parameters,
                tags=options.tags,
                parent_task_run_id=None if self._task is None else self._task.id,
                secrets=Secrets(secret_texts(settings)),
            )
            record.add_artifact(source_artifact(source))
            created = recording.recorder.begin(record, client, reopened(client))
            if not created.wait(_PATIENCE) and record.abandon():
                raise TimeoutError(f"the server did not respond within {_PATIENCE:g} s")
            created.result()
            assert record.run is not None, "it was created"
            recording.flow_ids[client.api_url, flow] = record.run.flow_id
            self._contexts.append(FlowRunContext(client=get_client(), flow_run=record.run))
            self._contexts += self._prefects_context(record, settings, source)
            for context in self._contexts:
                context.__enter__()
        except Exception as exc:  # noqa: BLE001 - whatever it is, the cell runs
            recording.flow_ids.clear()  # the flow may have been deleted, or the server be another
            self._show(not_recorded_line("This cell is", _reason(exc)))
            return
        except BaseException:  # an interrupt: the cell does not run
            if record is not None:
                recording.recorder.end(record, Outcome("CANCELLED", "Stopped before it began"))
            raise
        self._record, self._flow, self._ui_url = record, record.flow, client.ui_url
        self._began = recording.clock()
        self._overheard = Overheard(recording.shell, self._wrote, self._showed)
        self.draw()
        recording.pacer.add(self)

    def _prefects_context(
        self, record: Record, settings: Settings, source: str
    ) -> Iterator[AbstractContextManager[Any]]:
        """Yield the context that makes the run the parent of Prefect's flow runs, if there is one."""
        assert record.run is not None, "it was created"
        try:
            found = self._recording.parents.context(
                record.run.model_dump(mode="json"), settings, load="prefect" in source
            )
        except Exception as exc:  # noqa: BLE001 - of a version of Prefect that is not known
            logger.debug("Prefect's flows get no parent run: %s", type(exc).__name__)
        else:
            yield from () if found is None else (found,)

    def end(self, outcome: Outcome, result: Any) -> None:
        """Finish the record."""
        recording = self._recording
        if self._overheard is not None:
            self._overheard.stop(result)
        for context in reversed(self._contexts):
            with suppress(ValueError):  # a cell that awaits ends in another context than its own
                context.__exit__(None, None, None)
        finished: ThreadFuture[None] | None = None
        if self._record is not None:
            self._ended = recording.clock()
            finished = recording.recorder.end(self._record, outcome)
            finished.when_done(partial(self._settle, finished))
        if self._task is not None and recording.notebook is not None:
            recording.notebook.end_cell(self._task, outcome)
        if finished is not None and not finished.wait(_PATIENCE):
            self._problems = ["The server is slow; the end of this run is still being sent."]
            if finished.done():
                self._settle(finished)
            self.draw()

    def _settle(self, finished: ThreadFuture[None]) -> None:
        """Show how the run ended, on the thread that sends it, and what could not be sent."""
        record = self._record
        assert record is not None, "it was begun"
        self._problems = []
        if finished.error is not None:
            self._problems = [f"The end was not recorded: {_reason(finished.error)}"]
        elif record.lost_lines:
            self._problems = [f"{record.lost_lines:,} printed lines were not recorded."]
        try:
            self.draw()
        except Exception:  # functions of the shell can raise anything
            logger.exception("The card of a recorded cell could not be drawn")

    def draw(self) -> bool:
        """Show the run, and return whether the cell is running."""
        with self._drawing:
            goes_on, record = self.goes_on, self._record
            if record is None or record.run is None:
                return goes_on
            ended = self._recording.clock() if self._ended is None else self._ended
            if not goes_on or (self._output is not None and self._output.in_place):
                seconds = ended - self._began
                self._show(
                    recorded_card(record.run, self._flow, self._ui_url, seconds, self._problems)
                )
            return goes_on

    def _show(self, view: Card | Line) -> None:
        if self._output is not None:
            self._output.show(view, self._recording.mode())

    def _wrote(self, stream: str, text: str) -> None:
        # A task or a thread of another cell may print while this one runs.
        if self._record is not None and self._recording.current_cell() is self._cell:
            self._record.printed.write(stream, text)

    def _showed(self, bundle: dict[str, Any]) -> None:
        content = output_artifact(bundle)
        if content is not None and self._record is not None:
            self._record.add_artifact(content)


class CellTask:
    """The task run of one cell."""

    def __init__(self, number: int, began: float) -> None:
        self.id: uuid.UUID = uuid.uuid4()
        self.number = number
        self.began = began


class NotebookRecord:
    """A whole notebook as one flow run, whose task runs are its cells. Cells do not wait for it."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        settings = get_settings()
        self._secrets = Secrets(secret_texts(settings))
        self._record = Record(notebook_name(recording.shell), secrets=self._secrets)
        # Its own, so that it outlives a switch to another server: it ends where it began.
        self._client = SyncPrefectClient(api_of(settings), settings=settings)
        self._client.__enter__()  # waits for the start of an in-kernel server
        self._began = recording.clock()
        self._cells = 0
        self._open: dict[int, CellTask] = {}
        self._failed = 0
        self._problem = ""
        try:
            created = recording.recorder.begin(self._record, self._client)
            if not created.wait(_PATIENCE) and self._record.abandon():
                raise TimeoutError(f"the server did not respond within {_PATIENCE:g} s")
            created.result()
        except BaseException:
            self._client.close()
            raise

    def begin_cell(self, source: str) -> CellTask:
        """Create the task run of a cell."""
        self._cells += 1
        self._open[self._cells] = task = CellTask(self._cells, self._recording.clock())
        run = self._record.run
        assert run is not None, "it was created"
        self._send(
            create_task_run(
                "cell",
                run.id,
                str(task.number),
                id=task.id,
                name=self._secrets.mask(cell_name(source, task.number)),
                state="RUNNING",
            )
        )
        return task

    def end_cell(self, task: CellTask, outcome: Outcome) -> None:
        """Set the last state of a cell's task run."""
        self._open.pop(task.number, None)
        self._failed += outcome.type == "FAILED"
        seconds = self._recording.clock() - task.began
        words = (
            f"{outcome.message} (after {seconds:.3g} s)" if outcome.message else f"{seconds:.3g} s"
        )
        state = models.State(type=outcome.type, message=self._secrets.mask(words))
        self._send(_finished(task, state))

    def end(self) -> Card:
        """Finish the flow run, and return its card."""
        for task in list(self._open.values()):  # the cell that ends it
            self.end_cell(task, Outcome("COMPLETED"))
        cells = "1 cell" if self._cells == 1 else f"{self._cells:,} cells"
        words = f"{cells}, {self._failed:,} failed" if self._failed else cells
        finished = self._recording.recorder.end(self._record, Outcome("COMPLETED", words))
        if not finished.wait(_PATIENCE):
            self._problem = f"The server did not respond within {_PATIENCE:g} s."
        elif finished.error is not None:
            self._problem = f"The end was not recorded: {_reason(finished.error)}"
        finished.when_done(self._client.close)
        return self.view()

    def view(self) -> Card:
        """Return the card of the flow run."""
        assert self._record.run is not None, "it was created"
        seconds = self._recording.clock() - self._began
        problems = [self._problem] if self._problem else []
        return recorded_card(
            self._record.run, self._record.flow, self._client.ui_url, seconds, problems
        )

    def _send(self, steps: Any) -> None:
        sent = self._recording.recorder.do(self._client, steps)

        def look() -> None:
            if sent.error is not None:
                self._problem = f"Some cells were not recorded: {_reason(sent.error)}"

        sent.when_done(look)


def _finished(task: CellTask, state: Any) -> Generator[Call[Any], Any, None]:
    result = yield from set_task_run_state(task.id, state)
    if result.status != "ACCEPT":
        yield from set_task_run_state(task.id, state, force=True)


def cell_name(source: str, number: int) -> str:
    """Return a name for a cell: its first line that is not an import, if there is one."""
    from orchnb.text import one_line

    lines = [one_line(line, 60) for line in source.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("%%orch_track")]
    first = [line for line in lines if not line.startswith(("import ", "from "))] or lines
    return f"[{number}] {first[0] if first else ''}".strip()


def secret_texts(settings: Settings) -> Iterator[str]:
    """Yield the credentials in the settings and the environment, which are never recorded."""
    variables = ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING")
    found = [os.environ.get(name, "") for name in variables]
    secrets = (settings.api_key, settings.api_auth_string, *settings.client_custom_headers.values())
    found += [secret.get_secret_value() for secret in secrets if secret is not None]
    for text in found:
        yield from (part for part in (text, text.partition(":")[2]) if len(part) >= 4)


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, TimeoutError) else error_line(error)
