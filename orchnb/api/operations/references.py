"""What people call an object by: its id, the beginning of its id, its name, or the object itself."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from uuid import UUID

import httpx
from typing_extensions import ParamSpec

from orchnb.api import models
from orchnb.api.answers import list_of
from orchnb.api.models.base import ModelList
from orchnb.api.operations.coercion import HasId, as_uuid
from orchnb.api.operations.payloads import quoted
from orchnb.api.pagination import PAGE, Paging, every
from orchnb.errors import AmbiguousReference, OrchnbError, PrefectHTTPStatusError, ReferenceNotFound
from orchnb.http.calls import Call, Deferred, path
from orchnb.text import did_you_mean, near_names, one_line

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun

P = ParamSpec("P")
T = TypeVar("T")

SHORTEST = 4
"""Characters that a short id has at least."""

_DISPLAYED = 8
"""Characters of an id in tables. As many identify a run: no two of a million have the same, mostly."""

_SHORT_ID = re.compile(rf"[0-9a-f-]{{{SHORTEST},36}}")

_NEWEST = 2_000
"""Runs among which a short id is looked for. The API cannot filter by the beginning of an id, so they are
read: ten requests at most."""

_SOONEST = 400
"""Runs of the future among which it is looked for then: two requests at most."""

_MOST_NAMED = 5

_MOST_FAILURES = 50
"""Requests that may fail while others are tried: about eight of them skip one run."""


DeploymentRef: TypeAlias = UUID | str | HasId
"""A deployment: its id, at least the first four characters of its id, its name, with or without that of
its flow (``flow/deployment``), or the deployment itself."""

FlowRunRef: TypeAlias = UUID | str | HasId
"""A flow run: its id, at least the first four characters of its id, its name, or the run itself."""

_runs = list_of(lambda: models.FlowRun)


def known_id(reference: object, kind: str) -> UUID | None:
    """Return the id in a reference; None if it is a name or a short id, which must be looked up.

    Raises:
        TypeError: it is something else.
        ValueError: it is an empty string.
    """
    if isinstance(reference, str):
        if not reference.strip():
            raise ValueError("An empty string is not a valid id or name")
        return as_uuid(reference.strip())
    found = as_uuid(getattr(reference, "id", reference))
    if found is None:
        raise TypeError(
            f"A {kind} should be an id, a name, or the {kind} itself, not {one_line(repr(reference), 80)}"
        )
    return found


def find_flow_run(reference: FlowRunRef) -> Generator[Call[Any], Any, UUID]:
    """Return the id of a flow run; see `find_flow_runs`."""
    (found,) = yield from find_flow_runs([reference])
    return found


def find_flow_runs(references: Iterable[FlowRunRef]) -> Generator[Call[Any], Any, list[UUID]]:
    """Return the ids of flow runs, in the order given. Only names and short ids make requests.

    A name takes precedence over a short id. The API cannot search for the beginning of an id, so it is
    looked for among the newest 2,000 runs, and the next 400 that are scheduled.

    Raises:
        AmbiguousReference: a name or a short id fits several runs.
        ReferenceNotFound: it fits none.
        TypeError: a reference is something else.
    """
    if isinstance(references, str):
        raise TypeError(f"Give a list of flow runs, [{references!r}], or use the method for one")
    given = [(each, known_id(each, "flow run")) for each in references]
    texts = list(dict.fromkeys(str(each).strip() for each, found in given if found is None))
    if not texts:
        return [found for _, found in given if found is not None]
    fitting: dict[str, dict[UUID, FlowRun]] = {text: {} for text in texts}
    sendable = [text for text in texts if _can_be_sent(text)]
    for start in range(0, len(sendable), PAGE):
        named = {"any_": sendable[start : start + PAGE]}
        pages: Paging[FlowRun] = Paging(_page_of(name=named), PAGE)
        for run in (yield from every(pages)):
            fitting.get(run.name or "", {})[run.id] = run
    names = yield from _find_short(fitting)
    hint = f"A short id is looked for among the {_NEWEST:,} newest runs; a whole id finds any."
    ids = {
        text: only("flow run", text, [_described(run) for run in runs.values()], names, hint=hint)
        for text, runs in fitting.items()
    }
    return [ids[str(each).strip()] if found is None else found for each, found in given]


def _can_be_sent(text: str) -> bool:
    """Return whether a text can be a name. Half a character cannot, and Prefect's server fails at it."""
    return text.encode(errors="replace").decode() == text


def _described(run: FlowRun) -> tuple[str, UUID]:
    return f"{quoted(run.name)} {one_line(run.state_name or 'without a state', 40)}", run.id


def _page_of(
    sort: str = "EXPECTED_START_TIME_DESC", **conditions: Any
) -> Callable[[int, int], Call[ModelList[FlowRun]]]:
    body = {"flow_runs": conditions, "sort": sort}
    return lambda offset, limit: Call(
        "POST",
        path("/flow_runs/filter"),
        _runs,
        json={**body, "offset": offset, "limit": limit},
        repeatable=True,
    )


@dataclass(frozen=True)
class _Unreadable:
    """A run that the server fails to list, such as one with an integer beyond 64 bits."""

    id: int
    """Where it is in the list."""


class _Listing:
    """The newest runs, also if the server fails at some of them: then they are read in smaller parts."""

    def __init__(self, most: int, runs: Callable[[int, int], Call[ModelList[FlowRun]]]) -> None:
        self._runs = runs
        self.pages: Paging[Any] = Paging(self._page, most)
        self.failure: PrefectHTTPStatusError | None = None
        """The server's first failure, if there was one."""
        self._failures = 0

    def _page(self, offset: int, limit: int) -> Generator[Call[Any], Any, ModelList[Any]]:
        try:
            return (yield from self._runs(offset, limit))
        except PrefectHTTPStatusError as exc:
            self._failures += 1
            if exc.status_code != 500 or self._failures > _MOST_FAILURES:
                raise
            self.failure = self.failure or exc
        if limit == 1:
            return ModelList([_Unreadable(offset)])
        half = limit // 2
        first = yield from self._page(offset, half)
        if len(first) < half:
            return first
        second = yield from self._page(offset + half, limit - half)
        return ModelList([*first, *second])


def _find_short(
    fitting: dict[str, dict[UUID, FlowRun]],
) -> Generator[Call[Any], Any, set[str]]:
    """Add the runs whose ids begin with a text that is no name; return the names of the runs seen.

    Runs of the future come last: a scheduled deployment has up to a hundred of them.
    """
    missing = [text for text, runs in fitting.items() if not runs]
    digits = {text: _digits(text) for text in missing if is_short_id(text)}
    names: set[str] = set()
    now = datetime.now(timezone.utc).isoformat()
    past = _Listing(_NEWEST, _page_of(expected_start_time={"before_": now}))
    future = _Listing(
        _SOONEST, _page_of("EXPECTED_START_TIME_ASC", expected_start_time={"after_": now})
    )
    for listing in (past, future):
        pages = listing.pages
        # A text as long as those in tables is one run's. For names, one page is read to suggest others.
        while not pages.done and (
            any(len(digits[text]) < _DISPLAYED or not fitting[text] for text in digits)
            or (missing and not names and listing is past)
        ):
            try:
                page = pages.take((yield from pages.call()))
            except (OrchnbError, httpx.HTTPError):
                if digits:
                    raise
                return names  # they only add to an error
            for run in page:
                if isinstance(run, _Unreadable):
                    continue
                names.add(run.name or "")
                for text, beginning in digits.items():
                    if run.id.hex.startswith(beginning):
                        fitting[text][run.id] = run
    failure = past.failure or future.failure
    if failure and any(len(digits[text]) < _DISPLAYED or not fitting[text] for text in digits):
        raise failure  # the id may be, or may also be, that of a run that the server fails to list
    return names


def _digits(text: str) -> str:
    return text.lower().replace("-", "")


def is_short_id(text: str) -> bool:
    """Return whether a text can be the beginning of an id."""
    return _SHORT_ID.fullmatch(text.lower()) is not None


def begins(its_id: UUID, text: str) -> bool:
    """Return whether an id begins with a short id."""
    return its_id.hex.startswith(_digits(text))


def resolving(
    argument: str, kind: str, find: Callable[[Any], Generator[Call[Any], Any, UUID]]
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator for operations: their argument with this name can be a reference, which ``find``
    looks up if it is not an id; the function gets the id."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        (first, *_) = inspect.signature(function).parameters

        @functools.wraps(function)
        def with_reference(*args: P.args, **kwargs: P.kwargs) -> T:
            is_first = first == argument and bool(args)
            reference: Any = args[0] if is_first else kwargs.get(argument)
            if reference is None and not (first == argument and (args or kwargs)):
                return function(*args, **kwargs)

            def call(found: UUID) -> T:
                if is_first:
                    return function(found, *args[1:], **kwargs)  # type: ignore[arg-type] # in its place
                return function(*args, **{**kwargs, argument: found})  # type: ignore[arg-type] # likewise

            found = known_id(reference, kind)
            if found is not None:
                return call(found)
            deferred: Any = Deferred(lambda: find(reference), call)
            return deferred  # type: ignore[no-any-return] # steps, as the function's own

        return with_reference

    return decorate


def of_flow_run(function: Callable[P, T]) -> Callable[P, T]:
    """Let the argument ``flow_run_id`` of an operation be a `FlowRunRef`."""
    return resolving("flow_run_id", "flow run", find_flow_run)(function)


def only(
    kind: str,
    text: str,
    fitting: Sequence[tuple[str, UUID]],
    names: Iterable[str],
    *,
    hint: str = "",
) -> UUID:
    """Return the id of the one object that a text fits; ``fitting`` has a description of each.

    Raises:
        AmbiguousReference: it fits several.
        ReferenceNotFound: it fits none; similar ``names`` are suggested.
    """
    if len(fitting) == 1:
        return fitting[0][1]
    if not fitting:
        question = did_you_mean(near_names(text, names))
        raise ReferenceNotFound(
            f"There is no {kind} with the name or id {quoted(text)}", hint=question or hint
        )
    shown = ", ".join(f"{name} ({its_id})" for name, its_id in fitting[:_MOST_NAMED])
    more = len(fitting) - _MOST_NAMED
    at_least = "at least " if len(fitting) >= PAGE else ""
    raise AmbiguousReference(
        f"{quoted(text)} fits {at_least}{len(fitting)} {kind}s: {shown}"
        + (f" and {more} more" if more > 0 else ""),
        candidates=[its_id for _, its_id in fitting],
        hint="Give more of the name or the id, or the whole id.",
    )
