"""Read answers of the API as models, and create objects exactly once."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Generator, Mapping
from typing import Annotated, Any, TypeVar

import httpx
from pydantic import FailFast, TypeAdapter, ValidationError

from orchnb.api.models.base import Model, ModelList
from orchnb.concealed import concealed
from orchnb.errors import ObjectAlreadyExists, UnexpectedAnswer
from orchnb.http.calls import API_HINT, Call, Steps, json_of, was_resent
from orchnb.http.response import PrefectResponse
from orchnb.redaction import shown_url
from orchnb.text import one_line

T = TypeVar("T")
M = TypeVar("M", bound=Model)

_SERVERS_LIMIT = 200
"""The most objects that Prefect's server returns at once, by default."""

_BATCH = 1_000
"""Objects of a list that are checked at a time."""


def a(kind: Callable[[], type[T]]) -> Callable[[PrefectResponse], T]:
    """Read the answer as something of this type, which is asked for when there is an answer: models are
    imported when they are first used."""
    adapter = functools.cache(lambda: TypeAdapter(kind()))
    return lambda response: _validated(adapter(), json_of(response), response)


def list_of(kind: Callable[[], type[M]]) -> Callable[[PrefectResponse], ModelList[M]]:
    """Read the answer as a list of these models."""
    adapter: Callable[[], TypeAdapter[list[M]]] = functools.cache(
        lambda: TypeAdapter(Annotated[list[kind()], FailFast()])  # type: ignore[arg-type, misc] # made at run time
    )

    def read(response: PrefectResponse) -> ModelList[M]:
        data = concealed(json_of(response))
        # A batch at a time: an interrupt has to wait while pydantic is at work.
        starts = range(0, len(data), _BATCH) if isinstance(data, list) else ()
        items: list[M] = []
        for start in starts:
            batch: list[M] = _validated(adapter(), data[start : start + _BATCH], response, start)
            items += batch
        if not starts:
            items = _validated(adapter(), data, response)
        return ModelList(items, model=kind(), cut=bool(items) and len(items) == _limit_of(response))

    return read


def _limit_of(response: PrefectResponse) -> int:
    """How many objects were asked for at most."""
    try:
        asked = json.loads(response.request.content or b"{}").get("limit")
    except (ValueError, AttributeError, httpx.RequestNotRead):
        asked = None
    return asked if isinstance(asked, int) else _SERVERS_LIMIT


def _validated(adapter: TypeAdapter[T], data: Any, response: PrefectResponse, start: int = 0) -> T:
    """The data as what the adapter makes of it; ``start`` is where in a list it begins."""
    data = concealed(data)  # the values of a block, say, which an error's frames would show
    try:
        return adapter.validate_python(data)
    except ValidationError as exc:
        found = exc.errors(include_url=False, include_input=False)[:3]
        places = [
            (problem["loc"][0] + start, *problem["loc"][1:])
            if start and isinstance(problem["loc"][0], int)
            else problem["loc"]
            for problem in found
        ]
        problems = "; ".join(
            ": ".join(filter(None, (one_line(".".join(map(str, place))), problem["msg"])))
            for place, problem in zip(places, found, strict=True)
        )
    # Outside of the except: that error holds what was answered.
    raise UnexpectedAnswer(
        f"{shown_url(response.request.url)} answered with JSON of another form than the "
        f"API's: {one_line(problems)}",
        hint=API_HINT,
    )


def created_once(create: Call[M], again: Steps[M | None]) -> Generator[Call[Any], Any, M]:
    """Create what has a unique name. Where an earlier try of the same request made it, and its answer was
    lost, the server says that there is one already: then that one is read ``again``, and is the result
    if it has all that was sent.

    Raises:
        ObjectAlreadyExists: there is one that somebody else has made.
    """
    try:
        created: M = yield from create
    except ObjectAlreadyExists as exc:
        if not was_resent(exc):
            raise
        found = yield from again
        if found is None or not has_all_of(
            found.model_dump(mode="json", exclude_unset=True), create
        ):
            raise
        return found
    return created


def has_all_of(fields: Mapping[str, Any], create: Call[Any]) -> bool:
    """Whether what has these fields has all that the body of ``create`` says of it."""
    sent = json.loads(create.options()["content"])
    return all(fields.get(name) == value for name, value in sent.items())
