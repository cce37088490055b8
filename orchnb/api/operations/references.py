"""What people call an object by: its id, the beginning of its id, its name, or the object itself."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from uuid import UUID

from typing_extensions import ParamSpec

from orchnb.api import models
from orchnb.api.answers import list_of
from orchnb.api.operations.coercion import HasId, as_uuid
from orchnb.api.operations.payloads import quoted
from orchnb.api.pagination import PAGE, Paging, every
from orchnb.errors import AmbiguousReference, ReferenceNotFound
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

_MOST_NAMED = 5


FlowRunRef: TypeAlias = UUID | str | HasId
"""A flow run: its id, at least the first four characters of its id, its name, or the run itself."""

_runs = list_of(lambda: models.FlowRun)


def known_id(reference: object, kind: str) -> UUID | None:
    """Return the id in a reference; None if it is a name or a short id, which must be looked up.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(reference, str) and reference.strip():
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
    looked for among the 2,000 runs that start last.

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
    for start in range(0, len(texts), PAGE):
        for run in (yield from every(_newest(PAGE, name={"any_": texts[start : start + PAGE]}))):
            fitting.get(run.name or "", {})[run.id] = run
    names = yield from _find_short(fitting)
    ids = {text: _only(text, list(runs.values()), names) for text, runs in fitting.items()}
    return [ids[str(each).strip()] if found is None else found for each, found in given]


def _newest(most: int, **conditions: Any) -> Paging[FlowRun]:
    body = {"flow_runs": conditions, "sort": "EXPECTED_START_TIME_DESC"}
    return Paging(
        lambda offset, limit: Call(
            "POST",
            path("/flow_runs/filter"),
            _runs,
            json={**body, "offset": offset, "limit": limit},
            repeatable=True,
        ),
        most,
    )


def _find_short(
    fitting: dict[str, dict[UUID, FlowRun]],
) -> Generator[Call[Any], Any, set[str]]:
    """Add the runs whose ids begin with a text that is no name; return the names of the runs seen."""
    missing = [text for text, runs in fitting.items() if not runs]
    digits = {text: _digits(text) for text in missing if _SHORT_ID.fullmatch(text.lower())}
    names: set[str] = set()
    pages = _newest(_NEWEST)
    # One page is read for the names in any case, if something was not found.
    while not pages.done and (
        any(len(digits[text]) < _DISPLAYED or not fitting[text] for text in digits)
        or (missing and not names)
    ):
        for run in pages.take((yield from pages.call())):
            names.add(run.name or "")
            for text, beginning in digits.items():
                if run.id.hex.startswith(beginning):
                    fitting[text][run.id] = run
    return names


def _digits(text: str) -> str:
    return text.lower().replace("-", "")


def _only(text: str, fitting: Sequence[FlowRun], names: Iterable[str]) -> UUID:
    if len(fitting) == 1:
        return fitting[0].id
    if not fitting:
        question = did_you_mean(near_names(text, names))
        raise ReferenceNotFound(
            f"There is no flow run with the name or id {quoted(text)}",
            hint=question
            or f"A short id is looked for among the {_NEWEST:,} newest runs; a whole id finds any.",
        )
    shown = ", ".join(
        f"{quoted(run.name)} ({run.state_name or 'no state'}, {run.id})"
        for run in fitting[:_MOST_NAMED]
    )
    more = len(fitting) - _MOST_NAMED
    at_least = "at least " if len(fitting) >= PAGE else ""
    raise AmbiguousReference(
        f"{quoted(text)} fits {at_least}{len(fitting)} flow runs: {shown}"
        + (f" and {more} more" if more > 0 else ""),
        candidates=[run.id for run in fitting],
        hint="Give more characters of the id, or the whole id.",
    )


def of_flow_run(function: Callable[P, T]) -> Callable[P, T]:
    """Let the argument ``flow_run_id`` of an operation be a `FlowRunRef`: the function gets the id."""
    (first, *_) = inspect.signature(function).parameters

    @functools.wraps(function)
    def with_reference(*args: P.args, **kwargs: P.kwargs) -> T:
        is_first = first == _ARGUMENT and bool(args)
        reference: Any = args[0] if is_first else kwargs.get(_ARGUMENT)
        is_required = first == _ARGUMENT and (args or kwargs)
        if reference is None and not is_required:
            return function(*args, **kwargs)

        def call(run_id: UUID) -> T:
            if is_first:
                return function(run_id, *args[1:], **kwargs)  # type: ignore[arg-type] # in the place of one
            return function(*args, **{**kwargs, _ARGUMENT: run_id})  # type: ignore[arg-type] # likewise

        found = known_id(reference, "flow run")
        if found is not None:
            return call(found)
        deferred: Any = Deferred(lambda: find_flow_run(reference), call)
        return deferred  # type: ignore[no-any-return] # steps, as the function's own

    return with_reference


_ARGUMENT = "flow_run_id"
