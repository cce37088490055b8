"""Methods of both clients, each made from one function, with its name, docstring and signature.

The async client's methods are awaited, the sync client's are not.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import (
    Any,
    ClassVar,
    Concatenate,
    Generic,
    Literal,
    Protocol,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from typing_extensions import ParamSpec, Unpack

from orchnb.api import models
from orchnb.api.wrong_calls import wrong_call
from orchnb.http.calls import LongSteps, Steps
from orchnb.text import did_you_mean, near_names

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_PACKAGE = __name__.partition(".")[0]


class AsyncClient(Protocol):
    """What an async client's methods need of it."""

    is_async: ClassVar[Literal[True]]

    async def perform(self, steps: LongSteps[T], operation: str = "") -> T: ...


class SyncClient(Protocol):
    """What a sync client's methods need of it."""

    is_async: ClassVar[Literal[False]]

    def perform(self, steps: LongSteps[T], operation: str = "") -> T: ...


class operation(Generic[P, T]):
    """A method of both clients, made from a function that returns the calls to make."""

    def __init__(self, function: Callable[P, LongSteps[T]]) -> None:
        self._function = function
        self.__doc__ = function.__doc__
        self.__name__: str = function.__name__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Steps[T]:
        """Return the operation's calls, for use within another operation."""
        return cast(Steps[T], self._function(*args, **kwargs))  # one that waits is not used so

    @functools.cached_property
    def _methods(
        self,
    ) -> tuple[
        Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]],
        Callable[Concatenate[SyncClient, P], T],
    ]:
        """The async and the sync method, made on first use, because that imports the models."""
        return _methods(self._function)

    @overload
    def __get__(
        self, client: None, owner: type[AsyncClient]
    ) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(
        self, client: None, owner: type[SyncClient]
    ) -> Callable[Concatenate[SyncClient, P], T]: ...
    @overload
    def __get__(
        self, client: AsyncClient, owner: type[AsyncClient]
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, client: SyncClient, owner: type[SyncClient]) -> Callable[P, T]: ...
    def __get__(self, client: Any, owner: Any) -> Any:
        method = self._methods[0 if owner.is_async else 1]
        return method if client is None else method.__get__(client, owner)


def _methods(
    function: Callable[P, LongSteps[T]],
) -> tuple[
    Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]],
    Callable[Concatenate[SyncClient, P], T],
]:
    async def call_async(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        wrong = None
        try:
            refuse_unknown(function, *kwargs.keys())
            steps = function(*args, **kwargs)
        except TypeError:
            wrong = wrong_call(call_async, args, kwargs)
            if wrong is None:
                raise
        finally:
            # They may hold secrets, and a traceback can show them.
            args, kwargs = (), {}  # type: ignore[assignment] # a ParamSpec's are of no other type
        if wrong is not None:
            raise wrong
        return await self.perform(steps, function.__name__)

    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        wrong = None
        try:
            refuse_unknown(function, *kwargs.keys())
            steps = function(*args, **kwargs)
        except TypeError:
            wrong = wrong_call(call, args, kwargs)
            if wrong is None:
                raise
        finally:
            args, kwargs = (), {}  # type: ignore[assignment] # as above
        if wrong is not None:
            raise wrong
        return self.perform(steps, function.__name__)

    result = get_args(hints_of(function)["return"])[-1]  # Call[T], Generator[..., T]
    result = type(None) if result is None else result  # as type hints spell it
    return (
        dressed(call_async, function, returns=result),
        dressed(call, function, returns=result),
    )


def hints_of(annotated: Callable[..., Any]) -> dict[str, Any]:
    """Return the type hints of a function or of a ``TypedDict``. Imports the models, which modules import
    for type checkers only."""
    return get_type_hints(
        annotated, localns={name: getattr(models, name) for name in models.__all__}
    )


def dressed(method: F, function: Callable[..., Any], *, returns: Any) -> F:
    """Return a client's method with the name, docstring and signature of the function it is made from, so
    that people and tools see its arguments and its result instead of calls."""
    parameters = _parameters(function)
    client = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    made: Any = method
    functools.update_wrapper(made, function)
    del made.__wrapped__  # its signature lacks the client
    made.__signature__ = inspect.Signature([client, *parameters], return_annotation=returns)
    made.__annotations__ = {shown.name: shown.annotation for shown in parameters}
    made.__annotations__["return"] = returns
    return method


@functools.cache
def _parameters(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    """Return a function's parameters with their types; for ``**query: Unpack[Query]``, its keywords."""
    hints = hints_of(function)
    return tuple(
        shown
        for parameter in inspect.signature(function).parameters.values()
        for shown in _named(parameter, hints[parameter.name])
    )


def _named(parameter: inspect.Parameter, hint: Any) -> Iterator[inspect.Parameter]:
    """Yield a parameter with its type; for ``**query: Unpack[Query]``, the keywords of ``Query``."""
    if get_origin(hint) is not Unpack:
        yield parameter.replace(annotation=hint)
        return
    (query,) = get_args(hint)
    for name, kind in hints_of(query).items():
        yield inspect.Parameter(name, parameter.KEYWORD_ONLY, default=None, annotation=kind)


def refuse_unknown(function: Callable[..., Any], *keywords: str) -> None:
    """Check the names of keyword arguments: ``**query: Unpack[Query]`` accepts any at run time.

    It does not take the values: they may hold secrets, and a traceback can show them.

    Raises:
        TypeError: the function has no such argument; the message suggests similar names.
    """
    known = [parameter.name for parameter in _parameters(function)]
    for name in keywords:
        if name not in known:
            words = f"{function.__name__}() got an unexpected keyword argument {name!r}"
            question = did_you_mean(near_names(name, known))
            raise TypeError(f"{words}. {question}" if question else words)


def warn_caller(message: str) -> None:
    """Issue a warning that names the line that called this package."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == _PACKAGE:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
