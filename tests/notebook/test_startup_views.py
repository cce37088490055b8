"""What a person reads while the server in the kernel comes up: pure, with a clock by hand."""

from __future__ import annotations

import pytest

from orchnb.hosting.ephemeral import Phase, StartupEvent
from orchnb.notebook.views.model import Line, text
from orchnb.notebook.views.startup import UNSEEN, Startup


class Watch:
    """A start-up and its clock."""

    def __init__(self) -> None:
        self.time = 50.0
        self.startup = Startup(lambda: self.time)
        self.began = 0.0

    def begin(self, phase: Phase) -> None:
        self.began = self.time
        self.startup.add(StartupEvent(phase, "began", 0.0, "Prefect 3.8.8"))

    def end(self, phase: Phase, kind: str = "ended") -> None:
        elapsed = self.time - self.began
        self.startup.add(StartupEvent(phase, kind, elapsed, "Prefect 3.8.8"))  # type: ignore[arg-type]


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_the_phases_come_with_their_times(watch: Watch) -> None:
    watch.begin("import")
    watch.time += 1.4
    watch.end("import")
    watch.begin("create")
    watch.time += 0.2
    assert watch.startup.goes_on
    assert text(watch.startup.view()) == (
        "Starting Prefect 3.8.8 in this kernel\n"
        "  ✓  import the server   1.4 s\n"
        "  …  create the app      0.2 s\n"
        "  ·  open the database\n"
        "  ·  start the services"
    )


def test_what_it_waits_for_is_shown_while_it_waits(watch: Watch) -> None:
    watch.begin("migrate")
    assert watch.startup.wait is None
    what = "another notebook (process 4711), which is starting a server on the same database"
    watch.startup.add(StartupEvent("migrate", "waits", title="Prefect 3.8.8", waits_for=what))
    watch.time += 1
    line = f"Waiting for {what}"
    assert watch.startup.goes_on
    assert text(watch.startup.view()).endswith(f"  ·  start the services\n  {line}")
    assert watch.startup.wait == Line(line, "warn")
    watch.startup.add(StartupEvent("migrate", "waits", title="Prefect 3.8.8"))
    assert watch.startup.wait is None
    assert "Waiting" not in text(watch.startup.view())


@pytest.mark.parametrize("kind", ["ended", "failed", "stopped"])
def test_it_waits_no_longer_than_its_phase(kind: str, watch: Watch) -> None:
    watch.begin("migrate")
    watch.startup.add(StartupEvent("migrate", "waits", title="Prefect 3.8.8", waits_for="x"))
    watch.end("migrate", kind)
    assert watch.startup.wait is None
    assert "Waiting" not in text(watch.startup.view())


def test_between_two_phases_it_goes_on(watch: Watch) -> None:
    assert watch.startup.goes_on
    watch.begin("import")
    watch.end("import")
    assert watch.startup.goes_on
    watch.begin("create")
    watch.end("create")
    assert watch.startup.goes_on


def test_it_collapses_to_one_line(watch: Watch) -> None:
    phases: tuple[Phase, ...] = ("import", "create", "migrate", "start")
    for phase in phases:
        watch.begin(phase)
        watch.time += 1.03
        watch.end(phase)
    watch.time += 60
    assert not watch.startup.goes_on
    assert watch.startup.view() == Line("Prefect 3.8.8 in this kernel, ready in 4.1 s", "good")


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("failed", "✗ Prefect 3.8.8 did not start: create failed after 2.0 s"),
        ("stopped", "! The start of Prefect 3.8.8 was stopped after 2.0 s"),
    ],
)
def test_one_that_does_not_come_up(watch: Watch, kind: str, line: str) -> None:
    watch.begin("import")
    watch.time += 1
    watch.end("import")
    watch.begin("create")
    watch.time += 1
    watch.end("create", kind)
    assert not watch.startup.goes_on
    assert text(watch.startup.view()) == line


def test_a_short_one_is_never_seen(watch: Watch) -> None:
    assert not watch.startup.is_seen(0)
    phases: tuple[Phase, ...] = ("import", "create", "migrate", "start")
    for phase in phases:
        watch.begin(phase)
        watch.time += 0.05
        watch.end(phase)
    watch.time += 60
    assert not watch.startup.is_seen(0)


def test_a_long_one_is_seen_while_it_lasts(watch: Watch) -> None:
    watch.begin("import")
    watch.time += UNSEEN + 0.01
    assert watch.startup.is_seen(0)


def test_a_short_wait_for_a_long_one_is_never_seen(watch: Watch) -> None:
    watch.begin("import")
    watch.time += 20
    waits_since = watch.time
    watch.time += UNSEEN - 0.01
    assert not watch.startup.is_seen(waits_since)
    watch.end("import", "failed")
    watch.time += 60
    assert not watch.startup.is_seen(waits_since)
    assert watch.startup.is_seen(waits_since - 1)


@pytest.mark.parametrize("over", [False, True])
def test_one_that_has_not_begun_goes_on_until_it_is_given_up(watch: Watch, over: bool) -> None:
    watch.startup.add(StartupEvent("import", "awaited", over=lambda: over))
    assert watch.startup.goes_on is not over
    watch.begin("import")
    assert watch.startup.goes_on
