"""Make text from servers and apps fit to show: printable, on one line, of limited length; and suggest
similar names."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator

_LONGEST_DETAIL = 500
_LONGEST_NAME = 200
_MOST_NAMES = 3
LONGEST_LOOKED_AT = 20_000
"""How many characters of a text are looked at."""


def one_line(text: str, longest: int = _LONGEST_DETAIL) -> str:
    """Make server text fit for a message: one line, no control characters, limited length."""
    plain = printable(re.sub(r"\s+", " ", text[:LONGEST_LOOKED_AT])).strip()
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def near_names(name: str, names: Iterable[str], likeness: float = 0.6) -> list[str]:
    """Return at most three names that are similar to this one, the most similar first.

    ``likeness``: the least similarity, from 0 to 1, as measured by `difflib.SequenceMatcher.ratio`.
    """
    by_key = {each.casefold(): each for each in names}
    keys = difflib.get_close_matches(name.casefold(), by_key, _MOST_NAMES, likeness)
    return [by_key[key] for key in keys]


def did_you_mean(names: Iterable[str]) -> str:
    """Return the question; an empty string if there are no names."""
    words = " or ".join(repr(one_line(name, _LONGEST_NAME)) for name in names)
    return f"Did you mean {words}?" if words else ""


def printable(text: str) -> str:
    """Remove control and other invisible characters from text; line ends stay."""
    if text.isascii() and text.isprintable():
        return text
    text = "".join(_outside_sequences(text))
    return "".join(
        char for char in text if char == "\n" or unicodedata.category(char) not in _UNPRINTABLE
    )


def _outside_sequences(text: str) -> Iterator[str]:
    """Yield the text without terminal sequences (ECMA-48), removed completely so that no part is shown.

    A regular expression for long sequences would search for the end again and again; this searches once.
    """
    done = 0
    end: re.Match[str] | None = (
        None  # the first possible end of a long sequence, from where the search began
    )
    for match in _SEQUENCE_START.finditer(text):
        if match.start() < done:
            continue  # it is within the previous one
        after = match.end()
        if match["long"]:
            if end is None or end.start() < after:
                end = _LONG_END.search(text, after)
            if end is None:
                break  # neither this one nor any later one ends; short ones are removed below
            if end["stray"] is not None or end.start() - after > _LONGEST_SEQUENCE:
                continue
            after = end.end()
        yield text[done : match.start()]
        done = after
    yield _SHORT_SEQUENCE.sub("", text[done:])


# A complete CSI sequence, or the start of OSC, DCS and similar sequences.
_SHORT_SEQUENCE = re.compile(r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]")
_SEQUENCE_START = re.compile(
    rf"{_SHORT_SEQUENCE.pattern}|(?P<long>\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])"
)
_LONG_END = re.compile(r"\x07|\x1b\\|\x9c|(?P<stray>\x1b)")
_LONGEST_SEQUENCE = 4096


# Control and format characters (terminal escapes, bidi overrides), surrogates, private use.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
