"""Read long results page by page.

The API pages by offset, and rows come and go in the meantime. So rows are requested in an order that does
not change, mostly by id; rows already returned are recognized by their ids; and each page begins with the
last row of the previous one. A page without any known row is too far ahead, because rows have been
deleted: then paging goes back. A page without any new row occurs while many rows are being created; but a
server, or a cache in between, could repeat the same page endlessly, so there is a limit.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterator,
    Sequence,
)
from typing import (
    Any,
    Concatenate,
    Generic,
    Protocol,
    TypeVar,
    get_args,
    overload,
)

from typing_extensions import ParamSpec, Self

from orchnb.api.answers import M
from orchnb.api.methods import AsyncClient, SyncClient, dressed, hints_of, refuse_unknown
from orchnb.api.models.base import ModelList
from orchnb.api.wrong_calls import wrong_call
from orchnb.errors import PrefectHTTPStatusError, UnexpectedAnswer
from orchnb.http.calls import AT_MOST, Call, Deferred, LongSteps, Steps
from orchnb.http.effects import Sleep

P = ParamSpec("P")

PAGE = 200
"""Rows per page: the most that Prefect's server returns, unless it is configured to return fewer."""


_MOST_REPEATED = 3 * PAGE
"""How many consecutive known rows are allowed: as many rows as can be created while a few pages are
read."""


class Identified(Protocol):
    """A row with an id."""

    @property
    def id(self) -> Any: ...


Row = TypeVar("Row", bound=Identified)
Row_co = TypeVar("Row_co", bound=Identified, covariant=True)
Any_co = TypeVar("Any_co", covariant=True)


class Pages(Protocol[Row_co]):
    """A long result, page by page."""

    @property
    def done(self) -> bool:
        """Whether there are no more pages."""

    def call(self) -> LongSteps[Any]:
        """Return the calls for the next page."""

    def take(self, page: Any, /) -> Sequence[Row_co]:
        """Return the rows of that page that were not returned before."""


class Paging(Generic[Row]):
    """A long result read by offset, in an order that does not change.

    ``page(offset, limit)`` returns the call for one page. ``limit`` is the maximum number of rows, None
    for all.

    Raises:
        ValueError: ``limit`` is negative.
    """

    def __init__(
        self,
        page: Callable[[int, int], Steps[ModelList[Any]]],
        limit: int | None = None,
        *,
        size: int = PAGE,
    ) -> None:
        self._page = page
        self._size = size
        self._offset = 0
        self._given: _Given[Row] = _Given(limit)
        self.done: bool = self._given.are_enough
        """Whether there are no more pages."""

    def call(self) -> Generator[Call[Any], Any, ModelList[Any]]:
        """Make the call for the next page; with smaller pages if the server requires that."""
        try:
            return (yield from self._page(self._offset, self._size))
        except PrefectHTTPStatusError as exc:
            most = AT_MOST.search(exc.detail)
            # With one row per page, paging would never get past the row that each page begins with.
            if exc.status_code != 422 or most is None or not 1 < int(most[1]) < self._size:
                raise
            self._size = int(most[1])
        return (yield from self._page(self._offset, self._size))

    def take(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the rows of that page that were not returned before.

        Raises:
            UnexpectedAnswer: the pages repeat themselves.
        """
        if self._offset and not any(row in self._given for row in rows):
            self._offset = max(0, self._offset - self._size + 1)
            return []
        new = self._given.add(rows, weight=len(rows) - 1)
        self._offset += len(rows) - 1
        self.done = len(rows) < self._size or self._given.are_enough
        if not self.done:
            self._given.refuse_repetition()
        return new


def pages_of(query: Steps[ModelList[M]]) -> Callable[[int, int], Steps[ModelList[M]]]:
    """Return a function that makes the call for each page of a read. The read is evaluated once: for all
    pages ``"1h"`` means an hour before the first one, and an iterator of names is consumed only once."""
    call: Any = query

    def page(offset: int, limit: int) -> Generator[Call[Any], Any, ModelList[M]]:
        nonlocal call
        if isinstance(call, Deferred):
            call = yield from call.prepared()
        assert isinstance(call, Call), "a read of one page is one call"
        body = {**call.json, "offset": offset, "limit": limit}
        found: ModelList[M] = yield from dataclasses.replace(call, json=body)
        return found

    return page


def every(pages: Paging[Row]) -> Generator[Call[Any], Any, list[Row]]:
    """Read all pages, within an operation of several calls."""
    found: list[Row] = []
    while not pages.done:
        found.extend(pages.take((yield from pages.call())))
    return found


class Chain(Generic[Row]):
    """A long result whose pages each name the next one.

    ``first`` is the call for the first page; ``following`` returns the call for the page after a given
    one, None if it is the last; ``rows`` returns a page's rows. ``limit`` is the maximum number of rows,
    None for all.

    Raises:
        ValueError: ``limit`` is negative.
    """

    def __init__(
        self,
        first: Steps[Any],
        following: Callable[[Any], Steps[Any] | None],
        rows: Callable[[Any], Sequence[Row]],
        limit: int | None = None,
    ) -> None:
        self._given: _Given[Row] = _Given(limit)
        self._next: Steps[Any] | None = None if self._given.are_enough else first
        self._following = following
        self._rows = rows

    @property
    def done(self) -> bool:
        """Whether there are no more pages."""
        return self._next is None

    def call(self) -> Steps[Any]:
        """Return the call for the next page."""
        assert self._next is not None, "there is no next page when done"
        return self._next

    def take(self, page: Any) -> Sequence[Row]:
        """Return the rows of that page that were not returned before.

        Raises:
            UnexpectedAnswer: the pages repeat themselves.
        """
        new = self._given.add(self._rows(page), weight=PAGE)  # three in a row are too many
        self._next = None if self._given.are_enough else self._following(page)
        if self._next is not None:
            self._given.refuse_repetition()
        return new


class Later(Generic[Row]):
    """A long result that needs something first, such as ids for names.

    Args:
        find: makes the calls that find it.
        then: returns the long result, given what was found.
    """

    def __init__(
        self,
        find: Callable[[], Generator[Call[Any], Any, Any]],
        then: Callable[[Any], Pages[Row]],
    ) -> None:
        self._find = find
        self._then = then
        self._pages: Pages[Row] | None = None

    @property
    def done(self) -> bool:
        """Whether there are no more pages."""
        return self._pages is not None and self._pages.done

    def call(self) -> Generator[Call[Any] | Sleep, Any, Any]:
        """Find what is needed, if that was not done, and make the calls for the next page."""
        if self._pages is None:
            self._pages = self._then((yield from self._find()))
        return None if self._pages.done else (yield from self._pages.call())

    def take(self, page: Any) -> Sequence[Row]:
        """Return the rows of that page that were not returned before."""
        assert self._pages is not None, "a page was called before"
        return [] if page is None else self._pages.take(page)


class _Given(Generic[Row]):
    """The rows that have been returned, at most ``limit``."""

    def __init__(self, limit: int | None) -> None:
        if limit is not None and limit < 0:
            raise ValueError(f"limit should be 0 or more, or None for all; it is {limit}")
        self._limit = limit
        self._ids: set[Any] = set()
        self._repeated = 0
        """How many known rows have been received since the last new one."""

    def __contains__(self, row: Row) -> bool:
        return row.id in self._ids

    @property
    def are_enough(self) -> bool:
        """Whether the limit is reached."""
        return len(self._ids) == self._limit

    def add(self, rows: Sequence[Row], *, weight: int) -> Sequence[Row]:
        """Record the new rows and return them; if there are none, ``weight`` counts as repetition."""
        new = list({row.id: row for row in rows if row not in self}.values())
        if self._limit is not None:
            new = new[: self._limit - len(self._ids)]
        self._ids.update(row.id for row in new)
        self._repeated = 0 if new else self._repeated + weight
        return new

    def refuse_repetition(self) -> None:
        """Raise `UnexpectedAnswer` if too many known rows came without a new one."""
        if self._repeated >= _MOST_REPEATED:
            raise UnexpectedAnswer(
                f"Paging makes no progress: after {len(self._ids):,} rows the server returns only rows "
                "that it has returned before",
                hint="A cache or proxy in between may be repeating an old page: check where "
                "PREFECT_API_URL points. A narrower filter needs fewer pages.",
            )


class AsyncRows(AsyncIterator[Any_co]):
    """The rows of a long result, page by page: ``async for row in rows``, or ``await rows.to_list()``."""

    def __init__(self, rows: AsyncGenerator[Any_co, None]) -> None:
        self._rows = rows

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any_co:
        return await self._rows.__anext__()

    async def aclose(self) -> None:
        """End the iteration."""
        await self._rows.aclose()

    async def to_list(self: AsyncRows[M]) -> ModelList[M]:
        """Return all rows that are left, as a list that a notebook shows as a table."""
        return _listed([row async for row in self])


class Rows(Iterator[Any_co]):
    """The rows of a long result, page by page: ``for row in rows``, or ``rows.to_list()``."""

    def __init__(self, rows: Generator[Any_co, None, None]) -> None:
        self._rows = rows

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any_co:
        return next(self._rows)

    def close(self) -> None:
        """End the iteration."""
        self._rows.close()

    def to_list(self: Rows[M]) -> ModelList[M]:
        """Return all rows that are left, as a list that a notebook shows as a table."""
        return _listed(list(self))


def _listed(rows: list[M]) -> ModelList[M]:
    return ModelList(rows, model=type(rows[0]) if rows else None)


class iteration(Generic[P, Row]):
    """An iterator method of both clients, made from a function that returns the pages."""

    def __init__(self, function: Callable[P, Pages[Row]]) -> None:
        self._function = function
        self.__doc__ = function.__doc__
        self.__name__: str = function.__name__

        def made(method: Any, args: Any, kwargs: Any) -> Pages[Row]:
            try:
                refuse_unknown(function, *kwargs.keys())
                return function(*args, **kwargs)
            except TypeError:
                wrong = wrong_call(method, args, kwargs)
                if wrong is None:
                    raise
            raise wrong

        async def rows_async(client: AsyncClient, paging: Pages[Row]) -> AsyncGenerator[Row, None]:
            while not paging.done:
                for row in paging.take(await client.perform(paging.call())):
                    yield row

        def rows(client: SyncClient, paging: Pages[Row]) -> Generator[Row, None, None]:
            while not paging.done:
                yield from paging.take(client.perform(paging.call()))

        def iterate_async(
            client: AsyncClient, /, *args: P.args, **kwargs: P.kwargs
        ) -> AsyncRows[Row]:
            return AsyncRows(rows_async(client, made(iterate_async, args, kwargs)))

        def iterate(client: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> Rows[Row]:
            return Rows(rows(client, made(iterate, args, kwargs)))

        self._made = (iterate_async, iterate)

    @functools.cached_property
    def _methods(self) -> tuple[Any, Any]:
        """The async and the sync method, completed on first use, because that imports the models."""
        iterate_async, iterate = self._made
        row = get_args(hints_of(self._function)["return"])[-1]  # Paging[Row], or Chain[Row]
        return (
            dressed(iterate_async, self._function, returns=AsyncRows[row]),  # type: ignore[valid-type] # made at run time
            dressed(iterate, self._function, returns=Rows[row]),  # type: ignore[valid-type] # as above
        )

    @overload
    def __get__(
        self, client: None, owner: type[AsyncClient]
    ) -> Callable[Concatenate[AsyncClient, P], AsyncRows[Row]]: ...
    @overload
    def __get__(
        self, client: None, owner: type[SyncClient]
    ) -> Callable[Concatenate[SyncClient, P], Rows[Row]]: ...
    @overload
    def __get__(
        self, client: AsyncClient, owner: type[AsyncClient]
    ) -> Callable[P, AsyncRows[Row]]: ...
    @overload
    def __get__(self, client: SyncClient, owner: type[SyncClient]) -> Callable[P, Rows[Row]]: ...
    def __get__(self, client: Any, owner: Any) -> Any:
        method = self._methods[0 if owner.is_async else 1]
        return method if client is None else method.__get__(client, owner)
