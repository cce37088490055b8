"""Reading what is long, page by page.

The API pages by offset, and rows come and go meanwhile. So they are asked for in an order that does not
change, mostly that of their ids; what has been given is known by its id; and each page begins with the
last row of the one before. A page without any row that is known is one too far, because rows have been
deleted: then it goes back. A page without any row that is new happens while many rows are created; but a
server, or a cache in between, that repeats itself would be asked without end, so there is a limit.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Protocol,
    TypeVar,
    get_args,
    overload,
)

from typing_extensions import ParamSpec

from orchnb.api.calls import AT_MOST, Call, M, Steps
from orchnb.api.methods import dressed, hints_of
from orchnb.api.models.base import ModelList
from orchnb.errors import PrefectHTTPStatusError, UnexpectedAnswer

if TYPE_CHECKING:
    from orchnb.api.client import PrefectClient, SyncPrefectClient

P = ParamSpec("P")

PAGE = 200
"""Rows of a page: so many Prefect's server gives at most, unless it is set to give fewer."""


_MOST_REPEATED = 3 * PAGE
"""Rows that may come again with no new one among them: as many as were created before them while a few
pages were read."""


class Identified(Protocol):
    """A row that can be told from the others."""

    @property
    def id(self) -> Any: ...


Row = TypeVar("Row", bound=Identified)
Row_co = TypeVar("Row_co", bound=Identified, covariant=True)


class Pages(Protocol[Row_co]):
    """A long read, by its pages."""

    @property
    def done(self) -> bool:
        """Whether there is no further page."""

    def call(self) -> Steps[Any]:
        """The calls for the page that is wanted next."""

    def take(self, page: Any, /) -> Sequence[Row_co]:
        """What of that page was not given before."""


class Paging(Generic[Row]):
    """A long read by offset, in an order that does not change.

    ``page(offset, limit)`` makes the call for one page. ``limit`` is how many rows are wanted, None
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
        self.done = self._given.are_enough
        """Whether there is no further page."""

    def call(self) -> Generator[Call[Any], Any, ModelList[Any]]:
        """The call for the page that is wanted next; the pages are smaller if the server wants that."""
        try:
            return (yield from self._page(self._offset, self._size))
        except PrefectHTTPStatusError as exc:
            most = AT_MOST.search(exc.detail)
            # Pages of one row would never get beyond the row that they begin with.
            if exc.status_code != 422 or most is None or not 1 < int(most[1]) < self._size:
                raise
            self._size = int(most[1])
        return (yield from self._page(self._offset, self._size))

    def take(self, rows: Sequence[Row]) -> Sequence[Row]:
        """What of that page was not given before.

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


def pages_of(query: Steps[ModelList[M]]) -> Callable[[int, int], Call[ModelList[M]]]:
    """What makes the call for each page of a read. The read is made once: ``"1h"`` is an hour before the
    first page for all of them, and names that are given by an iterator are there for all of them."""
    assert isinstance(query, Call), "a read of one page is one call"
    return lambda offset, limit: dataclasses.replace(
        query, json={**query.json, "offset": offset, "limit": limit}
    )


def every(pages: Pages[Row]) -> Generator[Call[Any], Any, list[Row]]:
    """Read all pages, within an operation of several calls."""
    found: list[Row] = []
    while not pages.done:
        found.extend(pages.take((yield from pages.call())))
    return found


class Chain(Generic[Row]):
    """A long read of pages that each say where the next one is.

    ``first`` makes the call for the first page, ``following`` that for the page after one, None if it
    is the last; ``rows`` are those of a page. ``limit`` is how many rows are wanted, None for all.

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
        """Whether there is no further page."""
        return self._next is None

    def call(self) -> Steps[Any]:
        """The call for the page that is wanted next."""
        assert self._next is not None, "a page is wanted only while it is not done"
        return self._next

    def take(self, page: Any) -> Sequence[Row]:
        """What of that page was not given before.

        Raises:
            UnexpectedAnswer: the pages repeat themselves.
        """
        new = self._given.add(self._rows(page), weight=PAGE)  # three in a row are too many
        self._next = None if self._given.are_enough else self._following(page)
        if self._next is not None:
            self._given.refuse_repetition()
        return new


class _Given(Generic[Row]):
    """The rows that have been given, of which there are to be ``limit`` at most."""

    def __init__(self, limit: int | None) -> None:
        if limit is not None and limit < 0:
            raise ValueError(f"limit should be 0 or more, or None for all; it is {limit}")
        self._limit = limit
        self._ids: set[Any] = set()
        self._repeated = 0
        """Rows that have come again since the last new one."""

    def __contains__(self, row: Row) -> bool:
        return row.id in self._ids

    @property
    def are_enough(self) -> bool:
        """Whether no more are wanted."""
        return len(self._ids) == self._limit

    def add(self, rows: Sequence[Row], *, weight: int) -> Sequence[Row]:
        """Take note of those that are to be given now, and return them; ``weight`` counts if there are
        none."""
        new = list({row.id: row for row in rows if row not in self}.values())
        if self._limit is not None:
            new = new[: self._limit - len(self._ids)]
        self._ids.update(row.id for row in new)
        self._repeated = 0 if new else self._repeated + weight
        return new

    def refuse_repetition(self) -> None:
        """Raise `UnexpectedAnswer` if too much has come again without anything new."""
        if self._repeated >= _MOST_REPEATED:
            raise UnexpectedAnswer(
                f"Reading page by page gets no further: after {len(self._ids):,} rows the server answers "
                "with pages of rows that it has given before",
                hint="A cache or proxy in between may repeat an old page: check what PREFECT_API_URL "
                "leads to. A narrower filter needs fewer pages.",
            )


class iteration(Generic[P, Row]):
    """A method of both clients that iterates, made from a function that says what to page through."""

    def __init__(self, function: Callable[P, Pages[Row]]) -> None:
        self._function = function
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__

        async def iterate_async(
            client: PrefectClient, /, *args: P.args, **kwargs: P.kwargs
        ) -> AsyncIterator[Row]:
            paging = function(*args, **kwargs)
            while not paging.done:
                for row in paging.take(await client.perform(paging.call())):
                    yield row

        def iterate(
            client: SyncPrefectClient, /, *args: P.args, **kwargs: P.kwargs
        ) -> Iterator[Row]:
            paging = function(*args, **kwargs)
            while not paging.done:
                yield from paging.take(client.perform(paging.call()))

        self._made = (iterate_async, iterate)

    @functools.cached_property
    def _methods(self) -> tuple[Any, Any]:
        """For the async and the sync client; dressed when first used, as that imports the models."""
        iterate_async, iterate = self._made
        row = get_args(hints_of(self._function)["return"])[-1]  # Paging[Row], or Chain[Row]
        return (
            dressed(iterate_async, self._function, returns=AsyncIterator[row]),  # type: ignore[valid-type] # made at run time
            dressed(iterate, self._function, returns=Iterator[row]),  # type: ignore[valid-type] # as above
        )

    @overload
    def __get__(
        self, client: None, owner: type[PrefectClient]
    ) -> Callable[Concatenate[PrefectClient, P], AsyncIterator[Row]]: ...
    @overload
    def __get__(
        self, client: None, owner: type[SyncPrefectClient]
    ) -> Callable[Concatenate[SyncPrefectClient, P], Iterator[Row]]: ...
    @overload
    def __get__(
        self, client: PrefectClient, owner: type[PrefectClient]
    ) -> Callable[P, AsyncIterator[Row]]: ...
    @overload
    def __get__(
        self, client: SyncPrefectClient, owner: type[SyncPrefectClient]
    ) -> Callable[P, Iterator[Row]]: ...
    def __get__(self, client: Any, owner: Any) -> Any:
        method = self._methods[0 if owner.is_async else 1]
        return method if client is None else method.__get__(client, owner)
