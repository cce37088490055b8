"""The names of IPython and ipykernel that orchnb uses and that their documentation does not promise.

Nothing else in orchnb uses them. `tests/test_internals.py` fails when a version of either drops one.
"""

from __future__ import annotations

import asyncio
import base64
from types import TracebackType
from typing import TYPE_CHECKING, Any

from IPython.core import async_helpers

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.core.magic import Magics


# The event loop of cells.


def cell_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop on which a shell without a running loop, such as a terminal's, runs cells.

    IPython runs them with ``loop_runner``, a documented option, but the loop itself has no public name.
    """
    get = getattr(async_helpers, "get_asyncio_loop", asyncio.get_event_loop)
    loop: asyncio.AbstractEventLoop = get()
    return loop


def default_loop_runner(shell: InteractiveShell) -> object:
    """Return the ``loop_runner`` that a shell uses unless the user has chosen one; None if unknown."""
    known: Any = getattr(shell, "loop_runner_map", {})
    return known.get("asyncio", (None,))[0]


# Kernels.


def is_kernel(shell: InteractiveShell) -> bool:
    """Return whether a shell belongs to a kernel, and not to a terminal."""
    return hasattr(shell, "kernel")


def current_request(shell: InteractiveShell) -> dict[str, Any] | None:
    """Return the message that the running cell came with: empty before the first one, None if the shell
    does not get messages. IPython tells its hooks the source of a cell, but not its message."""
    get = getattr(shell, "get_parent", None)
    return None if get is None else dict(get() or {})


def has_subshells(shell: InteractiveShell) -> bool:
    """Return whether the kernel handles other messages while a cell awaits. It tells front ends so
    (``supported_features`` in the reply to ``kernel_info_request``), but not its own code."""
    information = getattr(getattr(shell, "kernel", None), "kernel_info", {})
    return "kernel subshells" in information.get("supported_features", ())


def can_send(publisher: Any) -> bool:
    """Return whether `send_display` works with a shell's ``display_pub``: it does in a kernel."""
    return all(hasattr(publisher, name) for name in ("session", "pub_socket", "topic"))


def send_display(
    publisher: Any, kind: str, content: dict[str, Any], parent: dict[str, Any]
) -> None:
    """Send a message with an output, as a reply to the request ``parent``.

    The publisher's public method, ``publish``, sends it as a reply to the request of the running cell,
    and so to that cell.
    """
    publisher.session.send(
        publisher.pub_socket, kind, content, parent=parent, ident=publisher.topic
    )


# What a cell shows.


def has_echo(stream: Any) -> bool:
    """Return whether a stream is ipykernel's, which copies what it gets to its ``echo``.

    The option to set it is public only where the stream is created. The public hooks, ``register_hook``,
    work only on the thread that sends, and exist in newer versions only.
    """
    return hasattr(stream, "echo") and hasattr(stream, "pub_thread")


def echo_of(stream: Any) -> Any:
    """Return what a stream copies to; None if nothing."""
    return stream.echo


def set_echo(stream: Any, echo: Any) -> None:
    """Set what a stream copies to."""
    stream.echo = echo


def result_of(shell: InteractiveShell, result: Any) -> dict[str, Any]:
    """Return the MIME bundle of a cell's result, for versions without hooks for results; empty if it has
    none, or ends with a semicolon."""
    value = getattr(result, "result", None)
    hook: Any = shell.displayhook
    formatter: Any = shell.display_formatter
    if value is None or hook.quiet():
        return {}
    bundle, _ = formatter.format(value)
    return {kind: _as_base64(data) for kind, data in dict(bundle).items()}


def _as_base64(data: Any) -> Any:
    return base64.b64encode(data).decode() if isinstance(data, bytes) else data


def name_of_code(shell: InteractiveShell, filename: str) -> str:
    """Return the name that IPython shows for a file of code, such as ``In[3]`` for a cell."""
    name = getattr(shell.compile, "format_code_name", lambda _: None)(filename)
    return filename if name is None else " ".join(name)


# Magics.


def remove_magics(shell: InteractiveShell, magics: type[Magics]) -> None:
    """Undo ``shell.register_magics``, for which IPython has no counterpart."""
    manager: Any = shell.magics_manager
    for kind, names in magics.magics.items():
        for name in names:
            manager.magics[kind].pop(name, None)
    manager.registry.pop(magics.__name__, None)


# Tracebacks. The public method, `showtraceback`, prints.


def rendered_traceback(
    shell: InteractiveShell,
    error: BaseException,
    traceback: TracebackType | None,
    *,
    tb_offset: int | None = None,
    exception_only: bool = False,
) -> list[str]:
    """Return the lines that the shell prints for an error and a traceback."""
    formatter: Any = shell.InteractiveTB
    if exception_only:
        return list(formatter.get_exception_only(type(error), error))
    lines = formatter.structured_traceback(type(error), error, traceback, tb_offset=tb_offset)
    return list(lines)


def traceback_without_values(
    shell: InteractiveShell, error: BaseException, traceback: TracebackType | None
) -> str:
    """Return the text of a whole traceback, without the values of variables that ``%xmode Verbose``
    adds."""
    formatter: Any = shell.InteractiveTB
    mode = formatter.mode
    formatter.set_mode("Plain" if mode == "Plain" else "Context")
    try:
        lines = formatter.structured_traceback(type(error), error, traceback)
        text: str = formatter.stb2text(lines)
        return text
    finally:
        formatter.set_mode(mode)
