"""``client.operations``: the operations that the server describes, as attributes with Tab completion."""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import anyio
import httpx
from typing_extensions import Self

from orchnb.concealed import forget_frames
from orchnb.errors import ClientClosed, OrchnbError
from orchnb.event_loop import Loop, current_loop
from orchnb.openapi.discovery import FoundDescription
from orchnb.openapi.naming import free_name
from orchnb.openapi.parser import DescribedOperation
from orchnb.openapi.requests import call_of

if TYPE_CHECKING:
    from orchnb.http.calls import Call, Steps

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")


class _AnyClient(Protocol):
    def _usable(self) -> object: ...
    def _find_operations(
        self, refresh: bool = False
    ) -> Generator[Call[Any], Any, FoundDescription]:
        """Get the server's description; ``refresh`` means from the server, even if it is cached."""

    def _perform_briefly(self, steps: Steps[T]) -> T: ...


class AsyncOpenAPIClient(_AnyClient, Protocol):
    """An async client that makes calls."""

    async def perform(self, steps: Steps[T]) -> T: ...


class SyncOpenAPIClient(_AnyClient, Protocol):
    """A sync client that makes calls."""

    def perform(self, steps: Steps[T]) -> T: ...


C = TypeVar("C", AsyncOpenAPIClient, SyncOpenAPIClient)

_WIDTH = 100


class Listed(NamedTuple):
    """An operation as a row of a table."""

    name: str
    """The name to call it by: ``flow_runs.read_flow_run``."""
    request: str
    """``GET /flow_runs/{id}``."""
    summary: str


class OperationGroup:
    """A server's operations under one tag of its OpenAPI document, each as a method."""

    if TYPE_CHECKING:  # tools cannot know the names; at run time they are attributes

        def __getattr__(self, name: str) -> Callable[..., Any]: ...

    def __init__(self, name: str, methods: Iterable[tuple[DescribedOperation, Any]]) -> None:
        self.__dict__["_name"] = name
        self.__dict__["_described"] = {}
        for operation, method in methods:
            self._described[operation.name] = operation
            self.__dict__[operation.name] = method

    _name: str
    _described: dict[str, DescribedOperation]

    def __dir__(self) -> list[str]:
        return sorted(self._described)

    def __iter__(self) -> Iterator[Listed]:
        for name, each in sorted(self._described.items()):
            yield Listed(f"{self._name}.{name}", f"{each.method} {each.path}", each.summary)

    def __len__(self) -> int:
        return len(self._described)

    def __repr__(self) -> str:
        rows = [(each.name.partition(".")[2], each.request, each.summary) for each in self]
        return "\n".join([f"<{self._name}: {_count(rows, 'operation')}>", *_columns(rows)])


class Overview(NamedTuple):
    """The contents of ``client.operations``, without a request to the server."""

    place: str
    """The server they belong to."""
    groups: Mapping[str, OperationGroup] | None
    """By name; None if they have not been loaded yet."""


class _DescribedOperations(Generic[C]):
    """The operations in the server's OpenAPI document, in groups: ``client.operations``.

    The document is fetched when the first group is accessed, or by `load`, and is not checked for
    changes afterwards.
    """

    def __init__(self, client: C, place: str) -> None:
        """``place`` is the server, in words."""
        # The client refers to this object; a strong reference back would keep the client alive.
        self._client_ref: weakref.ref[C] = weakref.ref(client)
        self._place = place
        self._lock: threading.RLock = threading.RLock()
        self._groups: dict[str, OperationGroup] | None = None

    def __getattr__(self, name: str) -> OperationGroup:
        # Called only for missing attributes. Tools ask for names with an underscore.
        if name.startswith("_") or self._groups is not None:
            raise AttributeError(self._unknown(name), name=name, obj=self)
        self._load_here()
        group = self.__dict__.get(name)
        if not isinstance(group, OperationGroup):
            raise AttributeError(self._unknown(name), name=name, obj=self)
        return group

    def __dir__(self) -> list[str]:
        if self._groups is None:
            try:
                self._glance()
            except (OrchnbError, httpx.HTTPError, RuntimeError, OSError) as exc:
                # Pressing Tab should not raise; using an operation will raise the same error.
                logger.debug("Cannot complete the server's operations: %r", exc)
        return sorted([*(self._groups or ()), "load"])

    def __iter__(self) -> Iterator[Listed]:
        for group in (self._groups or {}).values():
            yield from group

    def __len__(self) -> int:
        return len({row.request for row in self})

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        if self._groups is None:
            return f"<operations of {self._place}: not loaded yet>"
        rows: list[tuple[str, str]] = [
            (name, ", ".join(dir(group))) for name, group in sorted(self._groups.items())
        ]
        head = f"<operations of {self._place}: {len(self)} in {_count(rows, 'group')}>"
        return "\n".join([head, *_columns(rows)])

    def _unknown(self, name: str) -> str:
        groups = self.__dict__.get("_groups") or {}
        words = f"The server does not describe a group of operations {name!r}"
        holders = [f"{group}.{name}" for group, each in groups.items() if name in dir(each)]
        near = holders[:3] or get_close_matches(name, groups, 3, 0.5)
        return f"{words}: did you mean {' or '.join(near)}?" if near else words

    def _client(self) -> C:
        client = self._client_ref()
        if client is None:
            raise ClientClosed("The client of these operations no longer exists")
        return client

    def _fill(self, found: FoundDescription) -> None:
        """Set the operations as attributes, replacing the previous ones."""
        description, place = found
        grouped: dict[str, list[tuple[DescribedOperation, Any]]] = {}
        for operation in description.operations:
            method = self._method(operation, place.address(description.servers, operation.path))
            for group in operation.groups:
                grouped.setdefault(group, []).append((operation, method))
        groups: dict[str, OperationGroup] = {}
        for name, methods in grouped.items():
            name = free_name(f"{name}_" if name in _OWN_NAMES else name, groups)
            groups[name] = OperationGroup(name, methods)
        with self._lock:
            for name in self._groups or ():
                del self.__dict__[name]
            self.__dict__.update(groups)
            self._groups = groups

    def _load_here(self) -> None:
        raise NotImplementedError

    def _method(self, operation: DescribedOperation, address: str) -> Callable[..., Any]:
        raise NotImplementedError

    def _glance(self) -> None:
        """Load the operations synchronously with a short timeout, for Tab completion."""
        with self._lock:
            if self._groups is None:
                client = self._client()
                self._fill(client._perform_briefly(client._find_operations()))


class AsyncOperations(_DescribedOperations[AsyncOpenAPIClient]):
    __doc__ = _DescribedOperations.__doc__

    async def load(self, *, refresh: bool = False) -> Self:
        """Fetch the server's operations unless they are loaded; ``refresh`` fetches them again.

        Without this call, Tab or the first attribute fetches them. Neither can await, so this blocks the
        event loop: usually for a moment, at most 15 s.

        Raises:
            UnexpectedAnswer: the server's document cannot be used.
            PrefectHTTPStatusError: the server has no document, or refuses the request.
        """
        if refresh or self._groups is None:
            client = self._client()
            client._usable()
            async with self._loading:
                if refresh or self._groups is None:
                    self._fill(await client.perform(client._find_operations(refresh)))
        return self

    _lock_here: tuple[Loop | None, anyio.Lock] | None = None

    @property
    def _loading(self) -> anyio.Lock:
        """The lock held while fetching. Each event loop has a separate one."""
        loop = current_loop()
        if self._lock_here is None or self._lock_here[0] is not loop:
            self._lock_here = loop, anyio.Lock()
        return self._lock_here[1]

    def _load_here(self) -> None:
        self._glance()

    def _method(self, operation: DescribedOperation, address: str) -> Callable[..., Any]:
        async def method(*args: Any, **kwargs: Any) -> Any:
            try:
                call = _call_of(operation, address, args, kwargs)
            finally:
                args, kwargs = (), {}  # they may hold secrets, and a traceback can show them
            return await self._client().perform(call)

        return _dressed(method, operation)


class SyncOperations(_DescribedOperations[SyncOpenAPIClient]):
    __doc__ = _DescribedOperations.__doc__

    def load(self, *, refresh: bool = False) -> Self:
        """Fetch the server's operations unless they are loaded; ``refresh`` fetches them again.

        Without this call, Tab or the first attribute fetches them.

        Raises:
            UnexpectedAnswer: the server's document cannot be used.
            PrefectHTTPStatusError: the server has no document, or refuses the request.
        """
        with self._lock:
            if refresh or self._groups is None:
                client = self._client()
                self._fill(client.perform(client._find_operations(refresh)))
        return self

    def _load_here(self) -> None:
        self.load()

    def _method(self, operation: DescribedOperation, address: str) -> Callable[..., Any]:
        def method(*args: Any, **kwargs: Any) -> Any:
            try:
                call = _call_of(operation, address, args, kwargs)
            finally:
                args, kwargs = (), {}
            return self._client().perform(call)

        return _dressed(method, operation)


def _call_of(
    operation: DescribedOperation, address: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call[Any]:
    handled = sys.exc_info()[1]
    try:
        return call_of(operation, address, args, kwargs)
    except Exception as exc:
        args, kwargs = (), {}
        forget_frames(exc, ("orchnb.openapi.requests", "inspect"), handled=handled)
        raise


_OWN_NAMES = frozenset({"load"})


def _dressed(method: Any, operation: DescribedOperation) -> Callable[..., Any]:
    """Return the method with the name, signature and help of its operation."""
    signature = operation.signature
    method.__name__ = operation.name
    method.__qualname__ = f"operations.{operation.groups[0]}.{operation.name}"
    method.__doc__ = operation.help
    method.__signature__ = signature
    method.__annotations__ = {
        **{name: parameter.annotation for name, parameter in signature.parameters.items()},
        "return": signature.return_annotation,
    }
    found: Callable[..., Any] = method
    return found


def overview(operations: _DescribedOperations[Any]) -> Overview:
    """Return what is already loaded. Not a method, because it would hide a group with its name."""
    groups = operations._groups
    return Overview(operations._place, None if groups is None else dict(sorted(groups.items())))


def _count(rows: Sequence[Any], what: str) -> str:
    return f"{len(rows)} {what}{'' if len(rows) == 1 else 's'}"


def _columns(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield lines with aligned cells, cut at the usual width of a screen."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        line = f"  {'  '.join(cells)}".rstrip()
        yield line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..."
