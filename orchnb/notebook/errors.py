"""Errors of orchnb's in cells: a card, then a traceback of the person's own frames."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

from IPython.display import display

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class ErrorCards:
    """Stands before a shell's ``showtraceback``; passes on what is not ours, untouched.

    IPython's own hook, ``set_custom_exc``, has a single place, which another extension may hold,
    and wants the error classes, and so the HTTP client, to be imported when the extension loads.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._original = shell.showtraceback
        self._installed = True
        # Kept, as each access to the attribute would make another bound method.
        self._ours = self._show
        shell.showtraceback = self._ours  # type: ignore[method-assign] # on the object alone

    def remove(self) -> None:
        """Take it out; if somebody has put theirs before it since, it just passes everything on."""
        self._installed = False
        if self._shell.__dict__.get("showtraceback") is self._ours:
            del self._shell.showtraceback

    def _show(self, exc_tuple: Any = None, *args: Any, **kwargs: Any) -> None:
        error = exc_tuple[1] if exc_tuple else sys.exc_info()[1]
        # Nothing in flight: %tb asks for the last one, whole.
        if not self._installed or not isinstance(error, Exception) or not _is_ours(error):
            self._original(exc_tuple, *args, **kwargs)
            return
        from orchnb.notebook import error_views, views

        card = error_views.error_card(error)
        display({"text/html": views.html(card), "text/plain": views.text(card)}, raw=True)
        whole = error.__traceback__
        with _bare(error):
            kwargs["tb_offset"] = 0
            self._original((type(error), error, _own_frames(whole)), *args, **kwargs)
        # %tb and %debug want it whole.
        sys.last_traceback = whole


def _is_ours(error: Exception) -> bool:
    """Whether orchnb raised it, or httpx beneath orchnb."""
    errors, httpx = sys.modules.get("orchnb.errors"), sys.modules.get("httpx")
    if errors is not None and isinstance(error, errors.OrchnbError):
        return True
    if httpx is None or not isinstance(error, httpx.TransportError):
        return False
    return any(_file(tb).startswith(_OWN_FOLDER) for tb in _frames(error.__traceback__))


@contextmanager
def _bare(error: Exception) -> Iterator[None]:
    """The error without the chain of its causes, which is made of libraries' frames."""
    chain = error.__cause__, error.__context__, error.__suppress_context__
    error.__cause__ = error.__context__ = None
    try:
        yield
    finally:
        error.__cause__, error.__context__, error.__suppress_context__ = chain


def _own_frames(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames of libraries; whole if there are no others."""
    kept = None
    for part in reversed(list(_frames(traceback))):
        if not _file(part).startswith(_library_folders()):
            kept = TracebackType(kept, part.tb_frame, part.tb_lasti, part.tb_lineno)
    return kept or traceback


def _frames(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _file(traceback: TracebackType) -> str:
    return traceback.tb_frame.f_code.co_filename


@lru_cache(maxsize=1)
def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders.update(getattr(site, "getsitepackages", list)())
    folders.add(site.getusersitepackages())
    return (_OWN_FOLDER, *(os.path.join(folder, "") for folder in folders))
