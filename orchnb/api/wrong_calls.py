"""Explain a call with wrong arguments: the signature and an example."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchnb.text import did_you_mean, near_names


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
    unknown = [each for each in kwargs if each not in named]
    if unknown:
        words = [f"{name}() got an unexpected keyword argument {unknown[0]!r}."]
    else:
        words = [f"{name}(): {problem}."]
    words += [did_you_mean(near_names(each, named)) for each in unknown]
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
