"""The lines of magics: words, quotation marks, ``-h``, a bare URL, and Tab."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.magic_arguments import argument, magic_arguments

from orchnb.notebook.magic_lines import candidates_for, completes, parsed_line, split_line
from orchnb.notebook.magics import OrchMagics
from tests.notebook.kernels import Kernel, kernel

PROFILES = """
active = "local"
[profiles.local]
[profiles."my lab"]
PREFECT_API_URL = "http://127.0.0.1:9/lab/api"
[profiles.secret]
PREFECT_API_URL = "http://me:canary@127.0.0.1:9/api"
"""


@magic_arguments()
@argument("verb", nargs="?", choices=("start", "stop"))
@argument("names", nargs="*")
@argument("-n", "--count", type=int)
@argument("-f", "--follow", action="store_true")
@argument("--tag", dest="tags", action="append")
@completes(names=lambda: ["one", "two words"], tags=["a", "b"])
def example(self: Any, line: str) -> None:
    """Do nothing."""
    del self, line


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("  a   b ", ["a", "b"]),
        ("""server "http://x/api" """, ["server", "http://x/api"]),
        ("""--profile='my lab'""", ["--profile=my lab"]),
        ("""a"b c"d""", ["ab cd"]),
        ("""'' "" """, ["", ""]),
        (r"C:\here", [r"C:\here"]),
        ("a # a comment", ["a"]),
        ("http://x/#fragment", ["http://x/#fragment"]),
        ("'a # b' # c", ["a # b"]),
        ("# 'it", []),
    ],
)
def test_a_line_is_split_as_in_a_shell(line: str, words: list[str]) -> None:
    assert split_line(line).words == words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("'abc", r"^%example: a quotation mark \('\) is not closed$"),
        ("--nope", "^%example: unrecognized arguments: --nope. `%example -h` lists the arguments$"),
        ("-n x", "^%example: argument -n/--count: invalid int value: 'x'"),
    ],
)
def test_what_is_wrong_with_a_line(line: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parsed_line(example, line)


@pytest.mark.parametrize(
    ("words", "fragment", "found"),
    [
        ([], "", ["start", "stop", "-n", "-f", "--tag"]),
        ([], "sto", ["stop"]),
        ([], "stop", []),
        (["start"], "", ["one", "two words", "-n", "-f", "--tag"]),
        (["start", "one"], "t", ["two words"]),
        (["start"], "-", ["-n", "-f", "--tag"]),
        (["start"], "--", ["--count", "--follow", "--tag"]),
        (["start", "-n", "3"], "--", ["--follow", "--tag"]),
        (["start", "-n"], "", []),
        (["start", "--tag"], "", ["a", "b"]),
        (["start", "--tag", "a", "--tag"], "b", []),
        (["start"], "--tag=", ["--tag=a", "--tag=b"]),
        (["--tag=a"], "st", ["start", "stop"]),
        (["--follow"], "--", ["--count", "--tag"]),
        (["--nope"], "st", ["start", "stop"]),
    ],
)
def test_what_can_follow(words: list[str], fragment: str, found: list[str]) -> None:
    assert candidates_for(example, words, fragment) == found


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("magic-lines")
    (folder / "profiles.toml").write_text(PROFILES)
    settings = {"PREFECT_PROFILES_PATH": str(folder / "profiles.toml")}
    with kernel(folder, **settings, PREFECT_CLIENT_MAX_RETRIES="0") as running:
        running("%load_ext orchnb")
        yield running
        magics = "[m for m in get_ipython().Completer.custom_matchers if 'orchnb' in m.__module__]"
        assert running.value(f"len({magics})") == "1"
        running("%unload_ext orchnb")
        assert running.value(f"len({magics})") == "0"


def completed(cell: Kernel, code: str) -> list[str]:
    """Return the whole line that each completion makes of the code."""
    cell.client.complete(code, len(code))
    reply = cell.client.get_shell_msg(timeout=30)["content"]
    return [code[: reply["cursor_start"]] + match for match in reply["matches"]]


SERVER = "%orch_server_type "


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (SERVER, ["ephemeral", "server", "cloud", "auto", "--profile", "--fresh", "--verbose"]),
        (f"{SERVER}s", ["server"]),
        (f"st = {SERVER}cl", ["cloud"]),
        (f"x = 1\n{SERVER}cl", ["cloud"]),
        (f"{SERVER}ephemeral --f", ["ephemeral --fresh"]),
        (f"{SERVER}server h", ["server http://127.0.0.1:9/lab/api"]),
        (f"{SERVER}server http://127.0.0.1:9/", ["server http://127.0.0.1:9/lab/api"]),
        (f"{SERVER}--profile my", ['--profile "my lab"']),
        (f"{SERVER}--profile 'my l", ["--profile 'my lab'"]),
        (f"{SERVER}nonsense pri", []),
        (f"{SERVER}# a comment", []),
        ("%orch_server_logs --level ", None),
        ("%orch_display h", ["html"]),
        ("%orch_serve -", ["--stop"]),
        ("%orch_traceback pri", []),
    ],
)
def test_tab_completes_the_arguments_and_nothing_else(
    cell: Kernel, code: str, found: list[str] | None
) -> None:
    if found is None:
        found = ["notset", "debug", "info", "warning", "error", "critical"]
        start = code
    else:
        start = code[: code.index("%")] + code[code.index("%") :].split()[0] + " "
    assert completed(cell, code) == [start + each for each in found]


def test_tab_elsewhere_is_as_usual(cell: Kernel) -> None:
    assert "print" in completed(cell, "prin")
    assert "%orch_serve" in completed(cell, "%orch_serv")


def test_every_magic_explains_itself(cell: Kernel) -> None:
    for name, method in OrchMagics.magics["line"].items():
        for option in ("-h", "--help"):
            shown = cell(f"%{name} {option}")
            assert not shown.errors
            assert not shown.bundles
            first = str(inspect.getdoc(getattr(OrchMagics, method))).split("\n\n")[1]
            assert shown.streams.startswith(f"%{name}")
            assert first.strip() in shown.streams
    shown = cell("%orch_server_type server -h")
    assert "--profile PROFILE  use the server of this profile" in shown.streams


def test_quotation_marks_and_a_bare_address(cell: Kernel) -> None:
    for line in (
        'server "http://127.0.0.1:9/Lab/api"',
        "http://127.0.0.1:9/Lab/api",
        "'http://127.0.0.1:9/Lab/api'  # the lab's",
    ):
        cell("%orch_server_type ephemeral")
        assert "http://127.0.0.1:9/Lab/api" in cell(f"%orch_server_type {line}").text
    assert "http://127.0.0.1:9/lab/api" in cell('%orch_server_type --profile "my lab"').text
    shown = cell("%orch_server_type 'http://127.0.0.1:9/api")
    assert "a quotation mark (') is not closed" in shown.stderr
    shown = cell("%orch_server_type --frsh")
    assert "unrecognized arguments: --frsh" in shown.stderr
    assert "%orch_server_type -h" in shown.stderr
