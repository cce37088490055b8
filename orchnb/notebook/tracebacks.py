"""Show orchnb's errors in cells: a card, then a traceback of the user's own frames."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import site
import sys
import sysconfig
import traceback as python_traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any

from orchnb.notebook._ipython import rendered_traceback, traceback_without_values
from orchnb.notebook.await_advice import advice_on_error

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from orchnb.notebook.display_mode import Mode
    from orchnb.notebook.views.model import Card

logger: logging.Logger = logging.getLogger(__name__)

_OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# The code that talks to a server; `loops` and `context` also run other people's code.
_CLIENT_FILES = tuple(
    os.path.join(_OWN_FOLDER, *parts) for parts in (("http", ""), ("api", "client.py"))
)
_API_FILES = (os.path.join(_OWN_FOLDER, "api", ""),)

_MOST_CARDS = 3
"""Number of errors in a group that get a card."""

NOTHING_YET = "No error has been shown in this notebook yet."


class ErrorCards:
    """Wraps a shell's ``showtraceback``, and passes on errors that are not ours unchanged.

    IPython's own hook, ``set_custom_exc``, has room for one handler, which another extension may have
    set, and needs the error classes, and so the HTTP client, to be imported when the extension loads.
    Errors that are handled there do not arrive here.
    """

    def __init__(self, shell: InteractiveShell, mode: Callable[[], Mode]) -> None:
        self._shell = shell
        self._mode = mode
        self._pid = os.getpid()
        self._previous = vars(shell).get("showtraceback")  # set by another extension, if any
        self._original = shell.showtraceback
        self._installed = True
        # Stored, because each access to the attribute creates a new bound method.
        self._ours = self._show
        shell.showtraceback = self._ours  # type: ignore[method-assign] # on the object alone
        self._shown: BaseException | None = None
        self._hook = self._forget_shown
        shell.events.register("post_run_cell", self._hook)

    def remove(self) -> None:
        """Remove the wrapper; if it was wrapped again since then, it only passes everything on."""
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
        # No exception is being handled: %tb asks for the whole last one.
        ours = self._installed and error is not None and self._show_cards(error)
        if error is None or not ours:
            self._original(exc_tuple, *args, **kwargs)
            return
        whole = error.__traceback__
        own = own_frames(whole)
        if own is not None:
            kwargs["tb_offset"] = 0  # it is for IPython's own frame, which is removed already
        elif isinstance(error, KeyboardInterrupt):  # stopped outside of the user's code
            kwargs["exception_only"] = True
        shown = own or whole
        is_group = bool(_members(error))
        is_wrapped = vars(self._shell).get("showtraceback") is not self._ours
        with ExitStack() as put_back:
            # For handlers that take the error that is being handled, such as rich's, and for groups.
            seen = _with_first_frame(shown, whole) if is_wrapped and own is not None else shown
            put_back.enter_context(_with_traceback(error, seen))
            if is_group or is_wrapped or self._previous is not None:
                for each in _leaves(error):
                    put_back.enter_context(_bare(each, is_member=is_group))
            if not is_group:
                exc_tuple = type(error), error, shown
                # IPython shows what this renders, and gives front ends the whole text of the error.
                self._store_as_shown(error, shown, **kwargs)
            self._original(exc_tuple, *args, **kwargs)
        # %tb and %debug need the whole traceback.
        sys.last_traceback = whole

    def _show_cards(self, error: BaseException) -> bool:
        """Show the cards above the traceback, and return whether the error is ours."""
        try:
            mode = self._mode()
            if mode == "off":
                return False
            cards = _cards(error)
            for card in cards:
                self._display(card, mode)
            return (
                bool(cards) or _is_interrupt_within_ours(error) or _is_time_limit_around_ours(error)
            )
        except Exception:  # the error must be shown even if this fails
            logger.debug("No card was shown of a %s", type(error).__name__, exc_info=True)
            return False

    def _display(self, card: Card, mode: Mode) -> None:
        from orchnb.notebook.display_output import display_here

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
        """Make IPython store the traceback with the cell as it was shown.

        Since version 9 it renders the text again, with all frames: the cell would not end before the
        source of every library involved was parsed, which takes seconds while other threads import.
        """

        def render() -> list[str]:
            with _bare(error):
                return rendered_traceback(
                    self._shell, error, shown, tb_offset=tb_offset, exception_only=exception_only
                )

        self._forget_shown()
        self._shown = error
        vars(error)["_render_traceback_"] = render  # IPython's protocol

    def _forget_shown(self, _: Any = None) -> None:
        """Remove the renderer, because the cell is stored and %tb does not need it."""
        if self._shown is not None:
            vars(self._shown).pop("_render_traceback_", None)
            self._shown = None


def whole_traceback(shell: InteractiveShell) -> str:
    """Return the text of the last error shown, ours or not, with every frame and all causes.

    This is IPython's last error, ``sys.last_value``, as for ``%tb`` and ``%debug``; errors that another
    extension's handler (``set_custom_exc``) took are not included. Values of variables, which ``%xmode
    Verbose`` would add, are left out: in our frames they may be secrets.
    """
    error = getattr(sys, "last_value", None)
    if error is None:
        return NOTHING_YET
    if _members(error) or isinstance(error, SyntaxError):
        return _harmless("".join(python_traceback.format_exception(error)).rstrip())
    return _harmless(traceback_without_values(shell, error, sys.last_traceback))


_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")


def _harmless(traceback: str) -> str:
    """Return the traceback without control characters, which may be a server's, except for colours."""
    from orchnb.text import printable  # late, so that the extension loads quickly

    parts = _COLOUR.split(traceback.expandtabs())
    return "".join(part if _COLOUR.fullmatch(part) else printable(part) for part in parts)


# Which errors are ours.


def _cards(error: BaseException) -> list[Card]:
    """Return the cards to show above the traceback of an error: none if it is not ours."""
    try:
        stop = _stop_of(error)
        if stop is not None:
            return list(_stopped_cards(stop, by_limit=stop is not error))
        return _error_cards(error)
    except Exception:  # the error must be shown even if its card fails
        logger.debug("No card could be made of a %s", type(error).__name__, exc_info=True)
        return []


def _error_cards(error: BaseException) -> list[Card]:
    leaves = [each for each in _leaves(error) if isinstance(each, Exception)]
    ours = [each for each in leaves if _is_ours(each)]
    if not ours:
        return list(_await_cards(leaves))
    from dataclasses import replace

    from orchnb.notebook.views.errors import error_card

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


def _await_cards(errors: Iterable[Exception]) -> Iterator[Card]:
    """Yield a card if an ``await`` of a call of ours is missing, or is one too many."""
    if "orchnb.api.client" not in sys.modules:
        return
    for error in errors:
        advice = advice_on_error(error, lambda file: not file.startswith(_library_folders()))
        if advice is not None:
            from orchnb.notebook.views.awaiting import await_card

            yield await_card([advice.write], is_missing=advice.is_missing, failed=True)
            return


def _members(error: BaseException) -> tuple[BaseException, ...]:
    """Return the members of an exception group. Groups are recognized by their attributes, because on
    Python 3.10 they come from a backport."""
    members = getattr(error, "exceptions", ())
    return members if isinstance(members, tuple) and hasattr(error, "subgroup") else ()


def _leaves(error: BaseException) -> Iterator[BaseException]:
    members = _members(error)
    for member in members:
        yield from _leaves(member)
    if not members:
        yield error


def _is_ours(error: Exception) -> bool:
    """Return whether orchnb raised it, or httpx under orchnb, or an operation that refuses arguments."""
    errors, httpx = sys.modules.get("orchnb.errors"), sys.modules.get("httpx")
    if errors is not None and isinstance(error, errors.OrchnbError):
        return True
    if httpx is not None and isinstance(error, (httpx.HTTPError, httpx.InvalidURL)):
        return _is_from(error, _CLIENT_FILES)
    return isinstance(error, (TypeError, ValueError)) and _is_from(error, _API_FILES)


def _is_from(error: Exception, files: tuple[str, ...]) -> bool:
    """Return whether it was raised in or below these files, and not in user code that they called."""
    ours = False
    for part in _frames(error.__traceback__):
        if _file(part).startswith(files):
            ours = True
        elif _is_own(part):
            ours = False  # raised by the user's code, which our code called
    return ours


# Interrupts.


def _stop_of(error: BaseException) -> BaseException | None:
    """Return what stopped the code: an interrupt, or a cancellation, which may be the reason for a
    time-out, as of ``asyncio.timeout``; None for any other error."""
    if isinstance(error, (KeyboardInterrupt, asyncio.CancelledError)):
        return error
    reason = error.__cause__ or error.__context__
    # Before Python 3.11, asyncio's is another class.
    is_timeout = isinstance(error, (TimeoutError, asyncio.TimeoutError))
    return reason if is_timeout and isinstance(reason, asyncio.CancelledError) else None


def _stopped_cards(error: BaseException, *, by_limit: bool) -> Iterator[Card]:
    """Yield one card if the user stopped the cell, or a time limit in it expired, while a request of ours
    was in progress.

    ipykernel cancels the task of a cell that awaits; other cancellations come from the user's code.
    """
    clients = sys.modules.get("orchnb.http.clients")
    by_user = isinstance(error, KeyboardInterrupt) or _is_cell_cancelled()
    if clients is None or not (by_limit or by_user):
        return
    senders = (
        clients.PrefectHttpxAsyncClient.send.__code__,
        clients.PrefectHttpxSyncClient.send.__code__,
    )
    request = None
    sent = True
    for part in _stopped_frames(error):
        if part.tb_frame.f_code in senders:
            # Only the frame has it: interrupts are not httpx errors, which carry their request.
            request = part.tb_frame.f_locals["request"]
        sent = sent and part.tb_frame.f_code not in _start_waits()
    if request is not None:
        from orchnb.notebook.views.errors import stopped_card

        yield stopped_card(request, sent=sent, by_limit=by_limit)


def _is_cell_cancelled() -> bool:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    # Python 3.10 does not count cancellations; there nearly all come from the stop button.
    return task is not None and (not hasattr(task, "cancelling") or task.cancelling() > 0)


def _stopped_frames(error: BaseException) -> Iterator[TracebackType]:
    """Yield the interrupted frames, including those of tasks that the interrupt cancelled."""
    yield from _frames(error.__traceback__)
    # Before Python 3.11 each task involved raises a separate error, chained to the previous one.
    if isinstance(error.__context__, asyncio.CancelledError):
        yield from _stopped_frames(error.__context__)


def _is_interrupt_within_ours(error: BaseException | None) -> bool:
    """Return whether the user stopped orchnb's code, or any code at a place without a line number."""
    return isinstance(error, KeyboardInterrupt) and any(
        _file(part).startswith(_OWN_FOLDER) or _is_nowhere(part)
        for part in _frames(error.__traceback__)
    )


def _is_time_limit_around_ours(error: BaseException) -> bool:
    """Return whether a time limit in the user's code stopped orchnb's code."""
    stop = _stop_of(error)
    return (
        stop is not None
        and stop is not error
        and any(_file(part).startswith(_OWN_FOLDER) for part in _stopped_frames(stop))
    )


def _start_waits() -> tuple[CodeType, ...]:
    from orchnb.hosting.host import HostedApp

    return HostedApp.wait_started.__code__, HostedApp.wait_started_async.__code__


# Frames.


def _with_first_frame(
    shown: TracebackType | None, whole: TracebackType | None
) -> TracebackType | None:
    """Return a traceback with IPython's own frame, which is the first, for a handler that removes one."""
    if whole is None:
        return shown
    return TracebackType(shown, whole.tb_frame, whole.tb_lasti, whole.tb_lineno)


@contextmanager
def _with_traceback(error: BaseException, shown: TracebackType | None) -> Iterator[None]:
    """Within the block, give an error this traceback, and the errors in a group only the user's frames.
    Errors in a group that are not ours keep theirs."""
    members = [each for each in _parts(error) if each is not error]
    ours = [
        each
        for each in members
        if _members(each) or (isinstance(each, Exception) and _is_ours(each))
    ]
    replaced = [(error, shown), *((each, own_frames(each.__traceback__)) for each in ours)]
    before = [(each, each.__traceback__) for each, _ in replaced]
    try:
        for each, traceback in replaced:
            each.__traceback__ = traceback
        yield
    finally:
        for each, traceback in before:
            each.__traceback__ = traceback


def _parts(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and, if it is a group, everything in it."""
    yield error
    for member in _members(error):
        yield from _parts(member)


@contextmanager
def _bare(error: BaseException, *, is_member: bool = False) -> Iterator[None]:
    """Within the block, remove what the card or nobody shows: the error's chain of causes, which
    consists of library frames, the hint at the end of its text, and what the card's title says."""
    chain = error.__cause__, error.__context__, error.__suppress_context__
    error.__cause__ = error.__context__ = None
    attributes, args = vars(error), error.args
    hint = attributes.get("hint")
    if hint:
        attributes["hint"] = ""
    failures = sys.modules.get("orchnb.http.failures")
    explanation = failures and failures.explanation_of(error)
    if explanation:
        error.args = (explanation.problem,)
    cards = sys.modules.get("orchnb.notebook.views.errors")
    if cards and isinstance(error, cards.TITLED_BY_WHAT) and not is_member:
        error.args = (cards.status_of(error),)
    try:
        yield
    finally:
        error.__cause__, error.__context__, error.__suppress_context__ = chain
        error.args = args
        if hint:
            attributes["hint"] = hint


def own_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Return the traceback without library frames and frames without a line; None if none remain."""
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
    """Return whether the frame belongs to the user's own code."""
    return not _file(part).startswith(_library_folders())


def _is_nowhere(part: TracebackType) -> bool:
    """Return whether the frame has no line number, as for instructions without a line (PEP 626).

    An interrupt can arrive there. IPython needs a number, and fails to show the error without one.
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
