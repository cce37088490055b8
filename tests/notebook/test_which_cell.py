"""The cell that code belongs to, with IPython's own events and a stand-in for the shell."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.events import EventManager, available_events

from orchnb.notebook.cell_tracking import Cell, Cells
from orchnb.runtime.loops import is_hosted


class Shell:
    """Begins and ends cells as a kernel's shell does."""

    def __init__(self) -> None:
        self.events = EventManager(self, available_events)
        self.ast_transformers: list[Any] = []
        self.parent: dict[str, Any] = {}

    def get_parent(self) -> dict[str, Any]:
        return self.parent

    def begin(self, name: str) -> None:
        self.parent = {"header": {"msg_id": name}}
        self.events.trigger("pre_run_cell", SimpleNamespace(raw_cell=name))

    def end(self, name: str) -> None:
        self.parent = {"header": {"msg_id": name}}
        self.events.trigger("post_run_cell", None)


@pytest.fixture
def shell() -> Shell:
    return Shell()


@pytest.fixture
def cells(shell: Shell) -> Iterator[Cells]:
    cells = Cells(shell, on_end=lambda cell, interrupted: None)  # type: ignore[arg-type]
    yield cells
    cells.remove()


def source(cell: Cell | None) -> str | None:
    return None if cell is None else cell.source


def in_a_thread(function: Callable[[], Any]) -> Any:
    """What a function returns in a new thread without a context, as threads are before Python 3.14."""
    found = []
    empty = contextvars.Context()
    thread = threading.Thread(target=lambda: found.append(empty.run(function)))
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_without_a_context_belongs_to_the_cell_that_began_last(
    shell: Shell, cells: Cells
) -> None:
    seen = []
    for event, name in [
        (shell.begin, "one"),
        (shell.end, "one"),
        (shell.begin, "two"),
        (shell.begin, "in a subshell"),
        (shell.end, "in a subshell"),
        (shell.end, "two"),
    ]:
        event(name)
        seen.append(in_a_thread(lambda: source(cells.current())))
    assert seen == ["one", None, "two", "in a subshell", "two", None]


def test_a_context_names_the_cell_while_that_runs(shell: Shell, cells: Cells) -> None:
    shell.begin("one")
    of_one = contextvars.copy_context()
    shell.begin("two")
    assert in_a_thread(lambda: of_one.run(lambda: source(cells.current()))) == "one"


@pytest.mark.parametrize(
    ("has_loop", "running", "expected"),
    [
        (True, "two", "one"),  # a task continues in its cell
        (False, "two", "two"),  # a pool whose threads inherit a context works for any cell
        (True, None, "one"),
        (False, None, "one"),
    ],
)
def test_a_context_of_a_cell_that_has_ended(
    shell: Shell, cells: Cells, has_loop: bool, running: str | None, expected: str
) -> None:
    shell.begin("one")
    of_one = contextvars.copy_context()
    shell.end("one")
    if running:
        shell.begin(running)

    async def current() -> Cell | None:
        return cells.current()

    look: Callable[[], Any] = (lambda: asyncio.run(current())) if has_loop else cells.current
    assert source(in_a_thread(lambda: of_one.run(look))) == expected


def test_code_on_the_host_belongs_to_no_cell(shell: Shell, cells: Cells) -> None:
    def current() -> Cell | None:
        is_hosted.set(True)
        return cells.current()

    shell.begin("one")
    assert in_a_thread(current) is None
