"""Explain a call with wrong arguments: the signature and an example."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any


def wrong_call(
    method: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> TypeError | None:
    """Return the error for a call that does not match a client's method, None if it does.

    It contains no value that was passed. An example in the method's docstring is repeated.
    """
    name = method.__name__
    _, *parameters = inspect.signature(method).parameters.values()  # the first is the client
    signature = inspect.Signature(parameters)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as exc:
        problem = str(exc)
    else:
        return None
    named = [
        each.name for each in signature.parameters.values() if each.kind is not each.POSITIONAL_ONLY
    ]
    words = [f"{name}(): {problem}."]
    for unknown in kwargs:
        near = [] if unknown in named else get_close_matches(unknown, named)
        if near:
            words.append(f"Did you mean {' or '.join(near)}?")
    bare = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
    words.append(f"The signature is {name}{inspect.Signature(bare)}.")
    words.append(f"For example: {_example(name, signature, method.__doc__ or '', len(args))}")
    return TypeError(" ".join(filter(None, words)))


def _example(name: str, signature: inspect.Signature, doc: str, given: int) -> str:
    written = (" ".join(code.split()) for code in doc.split("``")[1::2])
    example = next((code for code in written if code.startswith(f"{name}(")), "")
    if example:
        return example
    parameters = signature.parameters.values()
    by_position = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    by_name = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    shown = [each.name for each in by_position if each.default is each.empty or given > 1]
    extra = max(given - len(by_position), 0 if shown else 1)
    return f"{name}({', '.join([*shown, *(f'{each}=...' for each in by_name[:extra])])})"
