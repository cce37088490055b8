"""Read responses of the API as models, and create objects exactly once."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Generator, Mapping
from typing import Annotated, Any, TypeVar

import httpx
from pydantic import FailFast, TypeAdapter, ValidationError

from orchnb.api.models.base import FROM_SERVER, Model, ModelList
from orchnb.concealed import concealed
from orchnb.errors import ObjectAlreadyExists, UnexpectedAnswer
from orchnb.http.calls import API_HINT, Call, Steps, json_of, was_resent
from orchnb.http.response import PrefectResponse
from orchnb.redaction import shown_url
from orchnb.text import one_line

T = TypeVar("T")
M = TypeVar("M", bound=Model)

_BATCH = 1_000
"""How many objects of a list are validated at a time."""


def a(kind: Callable[[], type[T]]) -> Callable[[PrefectResponse], T]:
    """Return a function that reads a response as this type. ``kind`` is called with the first response,
    because models are imported when they are first used."""
    adapter = functools.cache(lambda: TypeAdapter(kind()))
    return lambda response: _validated(adapter(), json_of(response), response)


def list_of(kind: Callable[[], type[M]]) -> Callable[[PrefectResponse], ModelList[M]]:
    """Return a function that reads a response as a list of these models."""
    adapter: Callable[[], TypeAdapter[list[M]]] = functools.cache(
        lambda: TypeAdapter(Annotated[list[kind()], FailFast()])  # type: ignore[arg-type, misc] # made at run time
    )

    def read(response: PrefectResponse) -> ModelList[M]:
        data = concealed(json_of(response))
        # A batch at a time, because an interrupt must wait until pydantic returns.
        starts = range(0, len(data), _BATCH) if isinstance(data, list) else ()
        items: list[M] = []
        for start in starts:
            batch: list[M] = _validated(adapter(), data[start : start + _BATCH], response, start)
            items += batch
        if not starts:
            items = _validated(adapter(), data, response)
        found = ModelList(items, model=kind())
        if items and _LIMITED.search(response.request.url.path):
            limit = _limit_of(response)
            found.cut = len(items) == limit
            found.limit_is_servers = limit is None
        return found

    return read


_LIMITED = re.compile(r"/(filter|get_scheduled_flow_runs|get_runs)/?$")
"""The ends of the API's paths whose responses are limited in length."""


def _limit_of(response: PrefectResponse) -> int | None:
    """Return how many objects were requested at most; None if that was left to the server."""
    try:
        asked = json.loads(response.request.content or b"{}").get("limit")
    except (ValueError, AttributeError, httpx.RequestNotRead):
        asked = None
    return asked if isinstance(asked, int) else None


def _validated(adapter: TypeAdapter[T], data: Any, response: PrefectResponse, start: int = 0) -> T:
    """Return the validated data; ``start`` is the index of its first item in the whole list."""
    data = concealed(data)  # such as a block's values, which an error's frames would show
    try:
        return adapter.validate_python(data, context=FROM_SERVER)
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
    # Outside of the except block: that error contains the response's data.
    raise UnexpectedAnswer(
        f"{shown_url(response.request.url)} answered with JSON that does not have the API's "
        f"form: {one_line(problems)}",
        hint=API_HINT,
    )


def created_once(create: Call[M], again: Steps[M | None]) -> Generator[Call[Any], Any, M]:
    """Create an object with a unique name. If an earlier try of the same request created it and the
    response was lost, the server says that it already exists: then it is read with ``again``, and
    returned if it has everything that was sent.

    Raises:
        ObjectAlreadyExists: it was created by someone else.
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
    """Return whether these fields include everything in the body of ``create``."""
    sent = json.loads(create.options()["content"])
    return all(fields.get(name) == value for name, value in sent.items())
