"""The lines of magics: split into words, parsed, explained with ``-h``, and completed with Tab.

A magic declares its arguments with IPython's ``@argument``, and gets the rest from here: ``-h``, words in
quotation marks, and the completion of its options and of the ``choices`` of an argument. Values that are
not ``choices`` are declared with `completes`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeAlias, TypeVar

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)
from IPython.core.error import UsageError
from IPython.core.magic import Magics

F = TypeVar("F", bound=Callable[..., Any])

Values: TypeAlias = Iterable[str] | Callable[[], Iterable[str]]
"""The values that Tab offers: texts, or a function that returns them. It is called at each Tab, on the
thread that runs cells, so it may read files but not wait for a server."""

_HELP = ("-h", "--help")
_WITHOUT_VALUE = frozenset({"store_true", "store_false", "store_const", "append_const", "count"})
_ON_A_LINE = re.compile(r"[^%]*%{1,2}(\w+)(\s+)")


def completes(**values: Values) -> Callable[[F], F]:
    """Declare which values Tab offers for arguments of a magic, by the arguments' names::

    @magic_arguments()
    @argument("kind", nargs="?")
    @argument("--profile")
    @completes(kind=("auto", "cloud"), profile=profile_names)
    @line_magic
    def orch_example(self, line): ...
    """

    def mark(function: F) -> F:
        vars(function)["completed_values"] = values
        return function

    return mark


def parsed_line(magic: Any, line: str) -> Any:
    """Parse the arguments on a magic's line. Words can be in quotation marks; a comment at the end, which
    IPython passes on, is ignored.

    Raises:
        UsageError: the magic does not have such arguments.
    """
    split = split_line(line)
    name = magic.__name__
    if split.quote:
        raise UsageError(f"%{name}: a quotation mark ({split.quote}) is not closed")
    try:
        return magic.parser.parse_args(split.words)
    except UsageError as error:
        words = f"%{name}: {error}"
    raise UsageError(f"{words}. `%{name} -h` lists the arguments")


@dataclass
class SplitLine:
    """The words of a line, as a shell splits it, but with backslashes as they are."""

    words: list[str]
    last_start: int
    """Where the last word begins, or the line ends after a blank."""
    quote: str = ""
    """The quotation mark that is not closed."""
    in_comment: bool = False


def split_line(line: str) -> SplitLine:
    """Split the line of a magic."""
    words: list[str] = []
    start = len(line)
    quote, inside = "", False
    for at, char in enumerate(line):
        if quote:
            if char == quote:
                quote = ""
            else:
                words[-1] += char
        elif char.isspace():
            inside = False
        elif not inside and char == "#":
            return SplitLine(words, at, in_comment=True)
        else:
            if not inside:
                words.append("")
                start, inside = at, True
            if char in "\"'":
                quote = char
            else:
                words[-1] += char
    return SplitLine(words, start if inside or quote else len(line), quote)


def with_help(methods: Mapping[str, Any]) -> dict[str, Any]:
    """Return magics that print their description when the line contains ``-h`` or ``--help``."""
    return {name: _with_help(name, method) for name, method in methods.items()}


def _with_help(name: str, method: Any) -> Any:
    @wraps(method)
    def magic(line: str, *cell: str) -> Any:
        if not any(word in _HELP for word in split_line(line).words):
            return method(line, *cell)
        print(help_of(name, method))  # noqa: T201 - a text to read, as of any command's -h
        return None

    return magic


def help_of(name: str, method: Any) -> str:
    """Return the description of a magic and its arguments as plain text."""
    text = inspect.getdoc(method) or name
    return text.removeprefix("::\n\n").replace("``", "").strip()


@dataclass
class _Argument:
    """An argument of a magic, as declared."""

    name: str
    options: tuple[str, ...]
    has_value: bool
    is_list: bool
    values: Values

    @property
    def candidates(self) -> list[str]:
        values = self.values() if callable(self.values) else self.values
        return [str(value) for value in values]


def _arguments_of(magic: Any) -> list[_Argument]:
    """Return the arguments that were declared with ``@argument``, in this order."""
    completed: Mapping[str, Values] = getattr(magic, "completed_values", {})
    found = []
    for declared in reversed(getattr(magic, "decorators", [])):
        names, options = getattr(declared, "args", ()), getattr(declared, "kwds", {})
        if not names:
            continue
        is_option = names[0].startswith("-")
        longest = max(names, key=lambda name: name.startswith("--"))
        name = options.get("dest") or longest.lstrip("-").replace("-", "_")
        found.append(
            _Argument(
                name,
                tuple(names) if is_option else (),
                options.get("action") not in _WITHOUT_VALUE,
                options.get("nargs") in ("*", "+") or options.get("action") == "append",
                completed.get(name, options.get("choices", ())),
            )
        )
    return found


def candidates_for(magic: Any, words: list[str], fragment: str) -> list[str]:
    """Return what can continue ``fragment`` after these words on the line of a magic."""
    arguments = _arguments_of(magic)
    by_option = {option: argument for argument in arguments for option in argument.options}
    positions = [argument for argument in arguments if not argument.options]
    given: list[_Argument] = []
    waiting: _Argument | None = None  # the option whose value comes next
    for word in words:
        if waiting is not None:
            waiting = None
        elif word.startswith("-"):
            option, equals, _ = word.partition("=")
            found = by_option.get(option)
            if found is not None:
                given.append(found)
                waiting = found if found.has_value and not equals else None
        elif positions and not positions[0].is_list:
            positions.pop(0)
    option, equals, _ = fragment.partition("=")
    if waiting is None and equals and option in by_option:
        found = by_option[option]
        candidates = [f"{option}={value}" for value in found.candidates]
    elif waiting is not None:
        candidates = waiting.candidates
    else:
        free = [each for each in arguments if each.is_list or each not in given]
        # The first name only: another one is only another way to write it.
        candidates = [each.options[0] for each in free if each.options]
        if not fragment.startswith("-") and positions:
            candidates = [*positions[0].candidates, *candidates]
        elif fragment.startswith("--"):
            candidates = [name for each in free for name in each.options]
    return [each for each in candidates if each.startswith(fragment) and each != fragment]


class LineCompleter:
    """Completes the lines of magics, for the list ``custom_matchers`` of IPython's completer."""

    def __init__(self, magics: type[Magics], completer: Any) -> None:
        self._magics = magics
        self._completer = completer

        # A function: IPython identifies a matcher by its ``__qualname__``.
        @context_matcher(identifier="orchnb.magic_lines")
        def match(context: CompletionContext) -> SimpleMatcherResult:
            return self.match(context.text_until_cursor)

        self._matcher = match
        completer.custom_matchers.append(match)

    def remove(self) -> None:
        """Stop completing."""
        if self._matcher in self._completer.custom_matchers:
            self._completer.custom_matchers.remove(self._matcher)

    def match(self, text: str) -> SimpleMatcherResult:
        """Return the completions of a line that ends at the cursor."""
        found = _ON_A_LINE.match(text)
        magic = None if found is None else self._magic(found[1])
        if found is None or magic is None:
            return {"completions": []}
        line = text[found.end() :]
        split = split_line(line)
        written = line[split.last_start :]
        words = split.words if not written else split.words[:-1]
        fragment = split.words[-1] if written and split.words else ""
        candidates = [] if split.in_comment else candidates_for(magic, words, fragment)
        return {
            "completions": [
                SimpleCompletion(text=_quoted_word(each, split.quote), type="param")
                for each in candidates
            ],
            "matched_fragment": written,
            # There is no code on this line, so nothing else fits.
            "suppress": True,
            "ordered": True,
        }

    def _magic(self, name: str) -> Any:
        for methods in self._magics.magics.values():
            if name in methods:
                return getattr(self._magics, methods[name])
        return None


def _quoted_word(word: str, quote: str) -> str:
    """Return the word as one word of a line: in quotation marks if it has to be, or if it began so."""
    if not quote and not any(char.isspace() or char in "\"'" for char in word):
        return word
    mark = quote or ("'" if '"' in word else '"')
    return f"{mark}{word}{mark}"
