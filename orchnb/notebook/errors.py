"""Errors of orchnb's in cells: a card, then a traceback of the person's own frames."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import site
import sys
import sysconfig
import traceback as python_traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from orchnb.notebook.modes import Mode
    from orchnb.notebook.views import Card

logger = logging.getLogger(__name__)

_OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# What talks to a server; `loops` and `context` run code of other people's as well.
_CLIENT_FILES = tuple(
    os.path.join(_OWN_FOLDER, *parts) for parts in (("http", ""), ("api", "client.py"))
)
_API_FILES = (os.path.join(_OWN_FOLDER, "api", ""),)

_MOST_CARDS = 3
"""So many of a group's errors get a card."""

NOTHING_YET = "No error has been shown in this notebook yet."


class ErrorCards:
    """Stands before a shell's ``showtraceback``; passes on what is not ours, untouched.

    IPython's own hook, ``set_custom_exc``, has a single place, which another extension may hold,
    and wants the error classes, and so the HTTP client, to be imported when the extension loads.
    Errors that somebody handles there do not come here.
    """

    def __init__(self, shell: InteractiveShell, mode: Callable[[], Mode]) -> None:
        self._shell = shell
        self._mode = mode
        self._pid = os.getpid()
        self._previous = vars(shell).get("showtraceback")  # of somebody who stood there before
        self._original = shell.showtraceback
        self._installed = True
        # Kept, as each access to the attribute would make another bound method.
        self._ours = self._show
        shell.showtraceback = self._ours  # type: ignore[method-assign] # on the object alone
        self._shown: BaseException | None = None
        self._hook = self._forget_shown
        shell.events.register("post_run_cell", self._hook)

    def remove(self) -> None:
        """Take it out; if somebody has put theirs before it since, it just passes everything on."""
        self._installed = False
        self._shell.events.unregister("post_run_cell", self._hook)
        self._forget_shown()
        if vars(self._shell).get("showtraceback") is not self._ours:
            return
        if self._previous is None:
            del self._shell.showtraceback
        else:
            self._shell.showtraceback = self._previous  # type: ignore[method-assign] # as it was

    def _show(self, exc_tuple: Any = None, *args: Any, **kwargs: Any) -> None:
        error = exc_tuple[1] if exc_tuple else sys.exc_info()[1]
        # Nothing in flight: %tb asks for the last one, whole.
        ours = self._installed and error is not None and self._show_cards(error)
        # IPython leaves the tracebacks of groups to Python, which prints what is in flight.
        if error is None or not ours or _members(error):
            self._original(exc_tuple, *args, **kwargs)
            return
        whole = error.__traceback__
        own = _own_frames(whole)
        if own is not None:
            kwargs["tb_offset"] = 0  # for IPython's own frame, which is out already
        elif isinstance(error, KeyboardInterrupt):  # stopped where none of the person's code was
            kwargs["exception_only"] = True
        shown = own or whole
        with _bare(error):
            self._original((type(error), error, shown), *args, **kwargs)
        # %tb and %debug want it whole.
        sys.last_traceback = whole
        self._store_as_shown(error, shown, **kwargs)

    def _show_cards(self, error: BaseException) -> bool:
        """Show what is to be shown before the traceback; whether the error is ours."""
        try:
            mode = self._mode()
            if mode == "off":
                return False
            cards = _cards(error)
            for card in cards:
                self._display(card, mode)
            return bool(cards) or _is_interrupt_within_ours(error)
        except Exception:  # whatever is wrong here, the error has to be shown
            logger.debug("No card was shown of a %s", type(error).__name__, exc_info=True)
            return False

    def _display(self, card: Card, mode: Mode) -> None:
        from orchnb.notebook.outputs import display_here

        display_here(card, mode, self._pid)

    def _store_as_shown(
        self,
        error: BaseException,
        shown: TracebackType | None,
        *,
        tb_offset: int | None = None,
        exception_only: bool = False,
        **_: Any,
    ) -> None:
        """Have IPython store the traceback with the cell as it was shown.

        It makes the text anew, from 9 on, of all frames: the cell would not end before the source of
        every library on the way was parsed, which takes seconds while others import.
        """
        formatter: Any = self._shell.InteractiveTB

        def render() -> list[str]:
            with _bare(error):
                if exception_only:
                    return list(formatter.get_exception_only(type(error), error))
                lines = formatter.structured_traceback(
                    type(error), error, shown, tb_offset=tb_offset
                )
                return list(lines)

        self._forget_shown()
        self._shown = error
        vars(error)["_render_traceback_"] = render  # IPython's protocol

    def _forget_shown(self, _: Any = None) -> None:
        """The cell is stored; %tb asks the error for nothing."""
        if self._shown is not None:
            vars(self._shown).pop("_render_traceback_", None)
            self._shown = None


def whole_traceback(shell: InteractiveShell) -> str:
    """The last error that was shown, ours or not, as a text with every frame and all causes.

    That is IPython's last one, ``sys.last_value``, as for ``%tb`` and ``%debug``; one that another
    extension's handler (``set_custom_exc``) took is not among them. Values of variables, which
    ``%xmode Verbose`` would add, are left out: in frames of ours they may be secrets.
    """
    error = getattr(sys, "last_value", None)
    if error is None:
        return NOTHING_YET
    if _members(error) or isinstance(error, SyntaxError):
        return _harmless("".join(python_traceback.format_exception(error)).rstrip())
    formatter: Any = shell.InteractiveTB
    mode = formatter.mode
    formatter.set_mode("Plain" if mode == "Plain" else "Context")
    try:
        lines = formatter.structured_traceback(type(error), error, sys.last_traceback)
        return _harmless(formatter.stb2text(lines))
    finally:
        formatter.set_mode(mode)


_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")


def _harmless(traceback: str) -> str:
    """The traceback, with nothing left in its errors' words, which may be a server's, but colours."""
    from orchnb.http.response import printable  # late, as a load of the extension is to be quick

    parts = _COLOUR.split(traceback.expandtabs())
    return "".join(part if _COLOUR.fullmatch(part) else printable(part) for part in parts)


# Which errors are ours.


def _cards(error: BaseException) -> list[Card]:
    """What is to be shown before the traceback of this error: nothing if it is not ours."""
    try:
        if isinstance(error, (KeyboardInterrupt, asyncio.CancelledError)):
            return list(_stopped_cards(error))
        return _error_cards(error)
    except Exception:  # whatever is wrong with its card, the error has to be shown
        logger.debug("No card could be made of a %s", type(error).__name__, exc_info=True)
        return []


def _error_cards(error: BaseException) -> list[Card]:
    ours = [each for each in _leaves(error) if isinstance(each, Exception) and _is_ours(each)]
    if not ours:
        return []
    from dataclasses import replace

    from orchnb.notebook.error_views import error_card

    cards: list[Card] = []
    for number, each in enumerate(ours):
        card = error_card(each)
        if card in cards:
            continue
        if len(cards) == _MOST_CARDS:
            more = f"{len(ours) - number} more errors are in the traceback."
            cards[-1] = replace(cards[-1], notes=(more, *cards[-1].notes))
            break
        cards.append(card)
    return cards


def _members(error: BaseException) -> tuple[BaseException, ...]:
    """What an exception group holds. They are known by their looks: on Python 3.10 they come from a
    backport."""
    members = getattr(error, "exceptions", ())
    return members if isinstance(members, tuple) and hasattr(error, "subgroup") else ()


def _leaves(error: BaseException) -> Iterator[BaseException]:
    members = _members(error)
    for member in members:
        yield from _leaves(member)
    if not members:
        yield error


def _is_ours(error: Exception) -> bool:
    """Whether orchnb raised it, or httpx beneath orchnb, or an operation refuses its arguments."""
    errors, httpx = sys.modules.get("orchnb.errors"), sys.modules.get("httpx")
    if errors is not None and isinstance(error, errors.OrchnbError):
        return True
    if httpx is not None and isinstance(error, (httpx.HTTPError, httpx.InvalidURL)):
        return _is_from(error, _CLIENT_FILES)
    return isinstance(error, (TypeError, ValueError)) and _is_from(error, _API_FILES)


def _is_from(error: Exception, files: tuple[str, ...]) -> bool:
    """Whether it was raised in or beneath these files of ours, and not in code that they have called."""
    ours = False
    for part in _frames(error.__traceback__):
        if _file(part).startswith(files):
            ours = True
        elif _is_own(part):
            ours = False  # raised by the person's code, which ours has called
    return ours


# Interrupts.


def _stopped_cards(error: BaseException) -> Iterator[Card]:
    """One if the person stopped the cell while a request of ours was under way.

    ipykernel cancels the task of a cell that awaits; other cancellations are the person's code's.
    """
    clients = sys.modules.get("orchnb.http.clients")
    if clients is None or not (isinstance(error, KeyboardInterrupt) or _is_cell_cancelled()):
        return
    senders = (
        clients.PrefectHttpxAsyncClient.send.__code__,
        clients.PrefectHttpxSyncClient.send.__code__,
    )
    request = None
    sent = True
    for part in _stopped_frames(error):
        if part.tb_frame.f_code in senders:
            # Only the frame knows: interrupts are no errors of httpx's, which carry their request.
            request = part.tb_frame.f_locals["request"]
        sent = sent and part.tb_frame.f_code not in _start_waits()
    if request is not None:
        from orchnb.notebook.error_views import stopped_card

        yield stopped_card(request, sent=sent)


def _is_cell_cancelled() -> bool:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    # Python 3.10 does not count; there nearly all are the stop button's.
    return task is not None and (not hasattr(task, "cancelling") or task.cancelling() > 0)


def _stopped_frames(error: BaseException) -> Iterator[TracebackType]:
    """The frames that were interrupted, also those of tasks that were cancelled by it."""
    yield from _frames(error.__traceback__)
    # Before Python 3.11 each task on the way makes an error of its own, after the one before.
    if isinstance(error.__context__, asyncio.CancelledError):
        yield from _stopped_frames(error.__context__)


def _is_interrupt_within_ours(error: BaseException | None) -> bool:
    """Whether the person stopped orchnb at work, or anything at a place that has no line."""
    return isinstance(error, KeyboardInterrupt) and any(
        _file(part).startswith(_OWN_FOLDER) or _is_nowhere(part)
        for part in _frames(error.__traceback__)
    )


def _start_waits() -> tuple[CodeType, ...]:
    from orchnb.runtime.host import HostedApp

    return HostedApp.wait_started.__code__, HostedApp.wait_started_async.__code__


# Frames.


@contextmanager
def _bare(error: BaseException) -> Iterator[None]:
    """The error without the chain of its causes, which is made of libraries' frames."""
    chain = error.__cause__, error.__context__, error.__suppress_context__
    error.__cause__ = error.__context__ = None
    try:
        yield
    finally:
        error.__cause__, error.__context__, error.__suppress_context__ = chain


def _own_frames(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames of libraries and those without a line; None if no other is."""
    kept = None
    for part in reversed(list(_frames(traceback))):
        if _is_own(part) and not _is_nowhere(part):
            kept = TracebackType(kept, part.tb_frame, part.tb_lasti, part.tb_lineno)
    return kept


def _frames(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _is_own(part: TracebackType) -> bool:
    """Whether the frame is of the person's own code."""
    return not _file(part).startswith(_library_folders())


def _is_nowhere(part: TracebackType) -> bool:
    """Whether Python knows no line, as of instructions that stand for none (PEP 626).

    An interrupt can come there. IPython, which wants a number, then fails to show the error.
    """
    return not part.tb_lineno or not part.tb_frame.f_lineno


def _file(traceback: TracebackType) -> str:
    return traceback.tb_frame.f_code.co_filename


@lru_cache(maxsize=1)
def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders.update(getattr(site, "getsitepackages", list)())
    folders.add(site.getusersitepackages())
    return (_OWN_FOLDER, "<frozen ", *(os.path.join(folder, "") for folder in folders))
