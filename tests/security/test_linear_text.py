"""Nothing that reads or prepares a server's text takes more than linear time, whatever the text is."""

from __future__ import annotations

import ast
import importlib
import json
import logging
import re
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import orchnb
from orchnb.hosting.logs import LogRing, secret_mask
from orchnb.http.errors import status_error
from orchnb.http.response import PrefectResponse
from orchnb.redaction import Secrets, redact_url
from orchnb.text import one_line, printable
from tests.security.growth import grows_linearly, seconds

# Every regular expression

METHODS = ("match", "fullmatch", "search", "sub", "split", "findall", "finditer")
_ROOT = Path(orchnb.__file__).parent


OWN_TEXT = {
    "orchnb.notebook.views.errors": "the path of a request that the user has made",
    "orchnb.api.times": "a length of time that the user has typed",
}
"""Modules whose patterns never see a server's text, and what they see."""


class Use(NamedTuple):
    """One pattern and how it is applied."""

    place: str
    pattern: re.Pattern[str]
    method: str


def _modules() -> dict[str, ast.Module]:
    return {
        ".".join(("orchnb", *path.relative_to(_ROOT).with_suffix("").parts)): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for path in sorted(_ROOT.rglob("*.py"))
        if path.name != "__init__.py"
    }


def uses() -> Iterator[Use]:
    """Each use of a regular expression in the package, found in its source."""
    trees = _modules()
    calls = [
        node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.Call)
    ]
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if not (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "re"
                and node.func.attr in ("compile", *METHODS)
            ):
                continue
            place = f"{name}:{node.lineno}"
            if name in OWN_TEXT:
                continue
            source = compile(ast.Expression(node.args[0]), place, "eval")
            text = eval(source, vars(importlib.import_module(name)))
            flags = re.IGNORECASE if "IGNORECASE" in ast.unparse(node) else re.RegexFlag(0)
            flags |= re.DOTALL if "DOTALL" in ast.unparse(node) else re.RegexFlag(0)
            pattern = re.compile(text, flags)
            if node.func.attr != "compile":
                yield Use(place, pattern, node.func.attr)
                continue
            owner = next(
                target.id
                for parent in ast.walk(tree)
                if isinstance(parent, ast.Assign) and parent.value is node
                for target in parent.targets
                if isinstance(target, ast.Name)
            )
            methods = {
                call.func.attr
                for call in calls
                if isinstance(call.func, ast.Attribute)
                and call.func.attr in METHODS
                and ast.unparse(call.func.value).split(".")[-1] == owner
            }
            for method in sorted(methods) or ["search"]:
                yield Use(place, pattern, method)


USES = list(uses())

_TOKEN = re.compile(r"\\x[0-9a-f]{2}|\\[a-zA-Z]|\\.|[A-Za-z_=:/,<>' ]{2,}|.", re.DOTALL)
_STANDS_FOR = {r"\w": "a0_", r"\W": "-", r"\d": "0", r"\s": " \n", r"\S": "a", ".": "a"}


def pumps(pattern: str) -> list[str]:
    """Texts that, repeated, may keep a pattern busy: its characters, words and pairs of them."""
    parts: set[str] = {"a", "0", " ", "\u0394"}
    for token in _TOKEN.findall(pattern):
        if token in _STANDS_FOR:
            parts.update(_STANDS_FOR[token])
        elif token.startswith("\\x"):
            parts.add(chr(int(token[2:], 16)))
        elif not token.startswith("\\") or not token[1].isalnum():
            parts.add(token.removeprefix("\\"))
    single = sorted(parts)
    return [*single, *(first + second for first in single for second in single)]


def apply(use: Use, text: str) -> object:
    if use.method == "sub":
        return use.pattern.sub("", text)
    found = getattr(use.pattern, use.method)(text)
    return deque(found, 0) if use.method == "finditer" else found


@pytest.mark.parametrize("use", USES, ids=lambda use: f"{use.place}:{use.method}")
def test_no_pattern_takes_more_than_linear_time(use: Use) -> None:
    def work(pump: str, before: str, after: str) -> Callable[[int], Callable[[], object]]:
        return lambda size: lambda: apply(use, f"{before}{pump * (size // len(pump))}{after}")

    starts = {"", *re.findall(r"[A-Za-z_=:,<>/ ]{2,}", use.pattern.pattern)}
    for pump in pumps(use.pattern.pattern):
        for before in starts:
            for after in ("", "\n!", "\0"):
                attack = work(pump, before, after)
                # What takes exponential time shows with a few characters already.
                slow = any(seconds(attack(size)) > 0.005 for size in (20, 200, 3_000))
                assert not slow or grows_linearly(attack), (pump, before, after)


def test_the_patterns_are_found() -> None:
    assert len(USES) > 45
    assert {use.method for use in USES} >= {"sub", "fullmatch", "search", "finditer", "split"}


def test_the_check_finds_what_backtracks() -> None:
    for text in (r"\x9d[^\x07]*\x07", r"\s+x", r"(?<=://)[^\s]+(?=@)"):
        with pytest.raises(AssertionError):
            test_no_pattern_takes_more_than_linear_time(Use("here", re.compile(text), "search"))


# Every function that prepares a text

WORST = {
    "starts of sequences": "\x9d",
    "starts and a stray escape": "\x9d\x1b",
    "escapes": "\x1b]",
    "short sequences": "\x1b[1",
    "short and long": "\x9b\x9d;",
    "ends": "\x07",
    "spaces": " \n",
    "nothing is seen": "\u200b\u202e",
    "titles": "<title",
    "tags": "<title>",
    "entities": "&#x41;&amp;&nosuch",
    "echoes": "input_value=",
    "addresses": "://a",
    "credentials": "://a:b@",
    "quotes": "\"'\\",
    "percent": "%41%",
    "letters": "abcdefgh",
    "one letter": "a",
    "digits": "1234567",
    "deep": "[{",
}


def _error(body: str, sent: str = "{}") -> object:
    request = httpx.Request("POST", "http://s/x", content=sent, headers={"X-Key": "abcdefgh"})
    response = httpx.Response(422, content=body.encode("utf-8", "replace"), request=request)
    return status_error(PrefectResponse.from_httpx_response(response))


def _echo(text: str) -> object:
    """A 422 that repeats a request of many values."""
    values = [f"{text[start : start + 12]} {start}" for start in range(0, len(text), 12)]
    sent = json.dumps({"values": values})
    return _error(
        json.dumps({"request_body": values, "detail": [{"msg": sent}], "e": values}), sent
    )


def _logged(text: str) -> object:
    ring = LogRing()
    ring.add(logging.LogRecord("name", logging.INFO, "", 1, text, (), None))
    return ring.lines(1)


FUNCTIONS: dict[str, Callable[[str], object]] = {
    "one_line": one_line,
    "one_line of all": lambda text: one_line(text, 10**9),
    "printable": printable,
    "an error of text": _error,
    "an error with a detail": lambda text: _error(json.dumps({"detail": text})),
    "an error with rows": lambda text: _error(json.dumps({"detail": [*text]})),
    "an error that repeats the request": _echo,
    "a secret as long as the text": lambda text: Secrets([text[: len(text) // 2]]).mask(text),
    "secrets that begin alike": lambda text: Secrets(
        [text[: 4 + number] for number in range(60)] + [text[-9:]]
    ).mask(text),
    "the texts of JSON": lambda text: Secrets([text[:20]]).mask_json([text]),
    "redact_url": lambda text: redact_url(f"http://s/{text}?{text}"),
    "a log line": _logged,
    "a server's words": lambda text: secret_mask()(text),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("text", WORST.values(), ids=list(WORST))
def test_no_function_takes_more_than_linear_time(name: str, text: str) -> None:
    function = FUNCTIONS[name]

    def work(size: int) -> Callable[[], object]:
        whole = text * (size // len(text))
        return lambda: function(whole)

    if seconds(work(10_000)) > 0.02:
        assert grows_linearly(work, 4_000)
    assert seconds(work(40_000)) < 1 or grows_linearly(work, 4_000)


# The long sequences go as they went by the pattern that said it in one line.

_BY_PATTERN = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]|"
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\x9c)"
)
SEQUENCES = st.lists(
    st.sampled_from(
        [
            "\x1b[",
            "\x9b",
            "\x1b]",
            "\x9d",
            "\x90",
            "\x07",
            "\x1b\\",
            "\x1b",
            "\x9c",
            "a",
            "1;2",
            "m",
        ]
    ),
    max_size=12,
).map("".join)


@given(SEQUENCES, st.sampled_from([0, 4090, 4096, 4097]), SEQUENCES)
def test_terminal_sequences_go_whole(before: str, size: int, after: str) -> None:
    text = before + "x" * size + after
    kept = _BY_PATTERN.sub("", text)
    assert printable(text) == "".join(char for char in kept if char.isprintable())


# Secrets are found as they were one by one.


@given(
    st.text("ab", max_size=300),
    st.lists(st.text("ab", min_size=1, max_size=90), max_size=6),
)
def test_each_occurrence_of_each_secret_is_masked(text: str, secrets: list[str]) -> None:
    covered = [False] * len(text)
    for secret in secrets:
        start = text.find(secret)
        while start >= 0:
            covered[start : start + len(secret)] = [True] * len(secret)
            start = text.find(secret, start + 1)
    shown = "".join("*" if hidden else char for hidden, char in zip(covered, text, strict=True))
    expected = re.sub(r"\*+", "***", shown)
    found = Secrets(secrets).mask(text)
    if all(len(secret) <= 64 for secret in secrets):
        assert found == expected
    else:  # of a long one parts are masked as well
        kept = iter(expected.replace("***", ""))
        assert all(char in kept for char in found.replace("***", ""))
