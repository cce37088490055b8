"""The start-up of the in-kernel server: its phases while it is in progress, and one line at the end."""

from __future__ import annotations

from collections.abc import Callable

from orchnb.hosting.ephemeral import Phase, StartupEvent
from orchnb.notebook.views.model import Line, Live, Step, clean, duration

_WORDS: dict[Phase, str] = {
    "import": "import the server",
    "create": "create the app",
    "migrate": "open the database",
    "start": "start the services",
}
_APP_WORDS: dict[Phase, str] = {
    "import": "import the app",
    "create": "create the app",
    "start": "start the app",
}

UNSEEN = 0.3
"""Seconds. A shorter wait is not shown: it would only flicker."""


class Startup:
    """One start-up. ``clock`` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._title = ""
        self._over: Callable[[], bool] | None = None
        self._began: float | None = None
        self._took = 0.0
        self._phase_began = 0.0
        self._phases: dict[Phase, StartupEvent] = {}
        self._waits_for = ""

    def add(self, event: StartupEvent) -> None:
        """Record an event."""
        self._title = clean(event.title, 80)
        if event.kind == "awaited":
            self._over = event.over
            return
        self._waits_for = clean(event.waits_for) if event.kind == "waits" else ""
        if event.kind == "waits":
            return
        self._phase_began = self._clock() - event.elapsed
        if self._began is None:
            self._began = self._phase_began
        self._took = self._clock() - self._began
        self._phases[event.phase] = event

    @property
    def wait(self) -> Line | None:
        """What the start waits for outside of this process; None if it does not wait."""
        return Line(f"Waiting for {self._waits_for}", "warn") if self._waits_for else None

    @property
    def goes_on(self) -> bool:
        """Whether the start has neither succeeded nor failed."""
        last = self._last
        if last is None:  # it can end before it begins, if nothing needs it any more
            return self._over is None or not self._over()
        return last.kind == "began" or (last.kind, last.phase) in _BETWEEN

    def is_seen(self, since: float) -> bool:
        """Return whether a wait that began at this time takes, or took, long enough to be shown."""
        if self._began is None:
            return False
        ends = self._clock() if self.goes_on else self._began + self._took
        return ends - max(since, self._began) >= UNSEEN

    @property
    def _last(self) -> StartupEvent | None:
        return next(reversed(self._phases.values()), None)

    def view(self) -> Live | Line:
        """Return the phases while the start is in progress, or its result."""
        last = self._last
        if last is None or self.goes_on:
            words = _WORDS if self._title.startswith("Prefect ") else _APP_WORDS
            steps = [self._step(phase, label) for phase, label in words.items()]
            notes = [self.wait.words] if self.wait is not None else []
            return Live(f"Starting {self._title} in this kernel", steps, notes)
        took = duration(self._took)
        if last.kind == "failed":
            return Line(f"{self._title} did not start: {last.phase} failed after {took}", "error")
        if last.kind == "stopped":
            return Line(f"The start of {self._title} was stopped after {took}", "warn")
        return Line(f"{self._title} in this kernel, ready in {took}", "good")

    def _step(self, phase: Phase, label: str) -> Step:
        event = self._phases.get(phase)
        if event is None:
            return Step(label, "", "·")
        if event.kind == "began":
            return Step(label, duration(self._clock() - self._phase_began), "…")
        return Step(label, duration(event.elapsed), "✓")


_BETWEEN = {("ended", "import"), ("ended", "create"), ("ended", "migrate")}
