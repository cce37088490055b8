"""Find the ASGI app that ORCHNB_EPHEMERAL_APP names."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from orchnb.asgi import ASGIApp
from orchnb.errors import ServerStartFailed
from orchnb.runtime.background_imports import importing


def find_app(spec: str) -> Callable[[], ASGIApp]:
    """Import ``module:name`` and return a function that returns the app.

    Raises:
        ServerStartFailed: the text has a different form, or does not name an app or a factory.
    """
    module_name, separator, path = spec.partition(":")
    if not separator or not module_name or not path:
        raise _bad_app(spec, "should have the form module:app or module:factory")
    try:
        with importing():
            target: Any = importlib.import_module(module_name)
    except BaseException as exc:  # noqa: BLE001 - also SystemExit: modules do anything
        raise _bad_app(spec, _import_problem(module_name, exc)) from None
    for name in path.split("."):
        try:
            target = getattr(target, name)
        except AttributeError:
            raise _bad_app(spec, f"names {path!r}, which {module_name} does not have") from None
    if is_asgi(target):
        return lambda: target
    if not _accepts(target, 0):
        raise _bad_app(
            spec, "is not an ASGI app: it should take (scope, receive, send), or return such an app"
        )
    if _is_async(target):
        raise _bad_app(spec, "is an async factory; a factory should be a sync function")
    return partial(_make, spec, target)


def is_asgi(target: object) -> bool:
    """Return whether the target looks like an ASGI app rather than a factory."""
    # A factory's parameters have defaults, so it might accept three arguments as well.
    return _accepts(target, 3) and (_is_async(target) or not _accepts(target, 0))


def _import_problem(module_name: str, exc: BaseException) -> str:
    if not isinstance(exc, ModuleNotFoundError):
        return f"cannot be imported: {type(exc).__name__}: {exc}"
    if exc.name and (module_name == exc.name or module_name.startswith(f"{exc.name}.")):
        return f"names a module that cannot be found: {exc.name}"
    return f"cannot be imported: it needs the module {exc.name}, which cannot be found"


def _make(spec: str, factory: Callable[[], Any]) -> ASGIApp:
    app = factory()
    if not _accepts(app, 3):
        raise ServerStartFailed(
            f"ORCHNB_EPHEMERAL_APP={spec} returned {type(app).__name__!r}, which is not an ASGI app",
            phase="create",
            hint="The factory should return an app that takes (scope, receive, send).",
        )
    return app  # type: ignore[no-any-return]


def _accepts(target: object, count: int) -> bool:
    if not callable(target):
        return False
    try:
        inspect.signature(target).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True


def _is_async(target: object) -> bool:
    if inspect.isclass(target):
        return False  # its instances are async, if any
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(
        getattr(target, "__call__", None)  # noqa: B004 - to inspect it, not to test for it
    )


def _bad_app(spec: str, problem: str) -> ServerStartFailed:
    return ServerStartFailed(
        f"ORCHNB_EPHEMERAL_APP={spec} {problem}",
        phase="import",
        hint="Set ORCHNB_EPHEMERAL_APP to an ASGI app that can be imported from here, or unset it "
        "to run the Prefect server.",
    )
