"""The log lines of a flow run in a cell: the last ones, or as they arrive."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from orchnb.api.context import get_client
from orchnb.api.models import FlowRun, Log, ModelList
from orchnb.notebook.cell_tracking import Cell
from orchnb.notebook.display_mode import Mode
from orchnb.notebook.display_output import Output
from orchnb.notebook.pacer import Pacer
from orchnb.notebook.views.model import Card
from orchnb.notebook.views.run_logs import MOST_LINES, run_log_card
from orchnb.runs.log_tail import level_of

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from orchnb.api.client import SyncPrefectClient


class RunLog:
    """What ``%orch_logs`` shows of one run.

    Args:
        reference: the run, or what it is called by.
        level: only lines of at least this level.
        task: only lines of task runs whose name contains this; empty for all lines.
    """

    def __init__(self, reference: Any, *, level: str = "notset", task: str = "") -> None:
        self._client: SyncPrefectClient = get_client(sync_client=True)
        self.run: FlowRun = self._client.read_flow_run(getattr(reference, "id", reference))
        self._level = level_of(level) or 0
        self._level_name = level
        self._task = task

    def last(self, count: int) -> Card:
        """Return the last lines."""
        wanted: dict[str, Any] = {
            "flow_run_id": {"any_": [str(self.run.id)]},
            "level": {"ge_": self._level},
        }
        if self._task:
            wanted["task_run_id"] = {"any_": [str(each) for each in self._tasks()]}
        found = self._client.read_logs(wanted, limit=count, sort="TIMESTAMP_DESC")
        return self.card(ModelList(reversed(found), model=Log), cut=found.cut)

    def _tasks(self) -> Sequence[Any]:
        runs = self._client.iter_task_runs(flow_run_id=self.run.id, name_like=self._task)
        return [run.id for run in runs]

    def _matcher(self) -> Callable[[Log], bool]:
        """Return whether a line is from one of the tasks. New tasks are looked up once."""
        known: dict[Any, bool] = {None: not self._task}

        def matches(line: Log) -> bool:
            if self._task and line.task_run_id not in known:
                known.update(dict.fromkeys(self._tasks(), True))
                known.setdefault(line.task_run_id, False)
            return not self._task or known[line.task_run_id]

        return matches

    def card(self, lines: Sequence[Log], *, cut: bool = False, notes: Sequence[str] = ()) -> Card:
        """Return the view of some of its lines."""
        among = "" if self._level_name == "notset" else f", {self._level_name} or higher"
        return run_log_card(
            self.run,
            lines,
            cut=cut,
            among=among + (f", {self._task}" if self._task else ""),
            notes=notes,
        )

    def follow(
        self, shell: InteractiveShell, cell: Cell | None, mode: Callable[[], Mode], pacer: Pacer
    ) -> None:
        """Show the lines in a cell as they arrive, until the run has ended. An interrupt ends it."""
        display = _Following(self, Output.of(shell, cell) if cell is not None else None, mode)
        pacer.add(display)
        ending = "The stop button ended this. The run is not affected."
        matches = self._matcher()
        try:
            for line in self._client.follow_logs(self.run, level=self._level):
                if matches(line):
                    display.add(line)
            self.run = self._client.read_flow_run(self.run.id)
            ending = ""
        finally:
            display.end(ending)


class _Following:
    """A live display of log lines."""

    def __init__(self, log: RunLog, output: Output | None, mode: Callable[[], Mode]) -> None:
        self._log = log
        self._output = output
        self._mode = mode
        self._lock = threading.Lock()
        self._lines: deque[Log] = deque(maxlen=MOST_LINES)
        self._count = 0
        self._told = 0
        self._ending: str | None = None

    @property
    def goes_on(self) -> bool:
        """Whether more lines can come."""
        return self._ending is None

    def add(self, line: Log) -> None:
        """Take note of a line."""
        with self._lock:
            self._lines.append(line)
            self._count += 1

    def end(self, ending: str) -> None:
        """Show the final state."""
        self._ending = ending
        self.draw()

    def draw(self) -> bool:
        """Show the lines so far, and return whether more can come."""
        with self._lock:
            lines, goes_on = list(self._lines), self.goes_on
            news = self._count - self._told
            self._told = self._count
            if self._output is None or (goes_on and not news):
                return goes_on
            if not self._output.in_place:  # a terminal: each line once
                lines = lines[-news:] if news else []
            notes = ["More lines are shown as they arrive."] if goes_on else [self._ending or ""]
            self._output.show(
                self._log.card(lines, notes=[each for each in notes if each]), self._mode()
            )
            return goes_on
