"""``orchnb doctor``: what it says, what it never says, and what it knows not to work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import orchnb
from orchnb.diagnosis import Facts, Surroundings, diagnose, known_problems
from orchnb.server_type import ServerType
from tests.http.wire import http, wire

KERNEL = Surroundings("shell", is_kernel=True, hears_buttons=True, display="auto")
KERNEL_6 = Surroundings("shell", is_kernel=True, hears_buttons=False, display="auto")
TERMINAL = Surroundings("shell", is_kernel=False, hears_buttons=False, display="auto")

PROBLEMS = [
    (Facts(server_type=ServerType.EPHEMERAL), "Prefect is not installed"),
    (Facts(versions={"prefect": "3.6.4", "fastapi": "0.150.0"}), "responds 500"),
    (Facts(versions={"prefect": "3.6", "pydantic-settings": "2.13.1"}), "reads no .env"),
    (
        Facts(versions={"ipykernel": "7.4.0"}, loaded={"nest-asyncio": "1.6.0"}),
        "the kernel loses cells",
    ),
    (Facts(versions={"ipykernel": "7.3.0"}), "can stop responding"),
    (Facts(python=(3, 12, 1)), "cannot start threads at exit"),
    (Facts(notebook=KERNEL_6), "handles no buttons"),
    (Facts(notebook=TERMINAL), "a new line"),
    (Facts(platform="emscripten"), "no threads and no sockets"),
    (
        Facts(versions={"ipython": "7.34.0"}, required=["ipython>=8.18"]),
        'ipython 7.34.0 is installed, but orchnb requires ipython>=8.18: pip install "ipython>=8.18"',
    ),
    (
        Facts(versions={"httpx": "1.0"}, required=["httpx[http2]<1,>=0.27"]),
        "httpx 1.0 is installed, but orchnb requires httpx[http2]<1,>=0.27",
    ),
    (
        Facts(versions={"fastapi": "0.151.0"}, required=["fastapi<0.151; extra == 'server'"]),
        "requires fastapi<0.151",
    ),
    (
        Facts(versions={"prefect": "3.8.8"}, loaded={"prefect": "3.7.0"}),
        "prefect 3.7.0 is imported, but 3.8.8 is installed: restart the kernel.",
    ),
]

NO_PROBLEMS = [
    Facts(server_type=ServerType.EPHEMERAL, versions={"prefect": "3.8.8"}),
    Facts(server_type=ServerType.EPHEMERAL, runs_prefect=False),
    Facts(server_type=ServerType.SERVER),
    Facts(versions={"prefect": "3.6.4", "fastapi": "0.130.0", "pydantic-settings": "2.12.0"}),
    Facts(versions={"prefect": "3.8.8", "fastapi": "0.150.0", "pydantic-settings": "2.16.3"}),
    Facts(versions={"ipykernel": "6.31.0"}, loaded={"nest-asyncio": "1.6.0"}),
    Facts(versions={"ipykernel": "7.4.0"}, loaded={"nest-asyncio2": "1.7.4"}),
    Facts(versions={"ipykernel": "7.4"}),
    Facts(python=(3, 12, 2)),
    Facts(notebook=KERNEL),
    Facts(versions={"ipython": "8.18"}, required=["ipython>=8.18.0"]),
    Facts(versions={"ipython": "9.0.0rc1"}, required=["ipython>=8.18"]),
    Facts(required=["tomli>=2; python_version < '3.11'"]),
    Facts(versions={"ruff": "0.1"}, required=['ruff>=0.6; extra == "test"']),
    Facts(versions={"httpx": "0.28.1"}, loaded={"httpx": "0.28.1", "uvloop": ""}),
    Facts(versions={"httpx": "not a version"}, loaded={"httpx": "0.28.1"}, required=["x"]),
]


@pytest.mark.parametrize(("facts", "words"), PROBLEMS)
def test_a_problem_is_known(facts: Facts, words: str) -> None:
    (problem,) = known_problems(facts)
    assert words in problem


@pytest.mark.parametrize("facts", NO_PROBLEMS)
def test_what_works_is_no_problem(facts: Facts) -> None:
    assert [each for each in known_problems(facts) if "not a version" not in each] == []


def test_it_says_the_versions_the_settings_and_the_servers_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VSCODE_PID", "1")
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "2")
    with wire(http(200, b'"3.8.8"')) as server:
        monkeypatch.setenv("PREFECT_API_URL", server.url)
        text = str(diagnose(KERNEL))
    rows = [line.partition("  ") for line in text.splitlines()]
    found = {label: words.strip() for label, _, words in rows if label}
    assert found["orchnb"] == orchnb.__version__
    assert f"httpx {__import__('httpx').__version__}," in found["Packages"]
    assert found["Signs of"].startswith("VS Code (VSCODE_PID)")
    assert found["Server"].startswith(f"SERVER: {server.url} 3.8.8, up, answered in")
    assert "client_max_retries = 2, from PREFECT_CLIENT_MAX_RETRIES (environment)" in text
    assert "api_request_timeout" not in text  # a default
    assert "buttons work" in found["Notebook"]


def test_no_secret_and_not_the_name_of_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "PREFECT_API_URL": "http://me:a-password@127.0.0.1:1/api",
        "PREFECT_UI_URL": "http://me:a-password@127.0.0.1:1",
        "PREFECT_API_KEY": "a-secret-key",
        "PREFECT_API_AUTH_STRING": "me:another-password",
        "PREFECT_CLIENT_CUSTOM_HEADERS": '{"X-Team": "a-secret-header"}',
        "HTTP_PROXY": "http://proxy-user:proxy-password@127.0.0.1:1",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PREFECT_API_SSL_CERT_FILE", str(Path.home() / "certificates.pem"))
    text = str(diagnose())
    for leak in ("password", "a-secret", str(Path.home())):
        assert leak not in text
    assert "api_key = ***" in text
    assert "{X-Team: ***}" in text
    assert f"~{os.sep}certificates.pem" in text
    assert "Variables set  HTTP_PROXY, NO_PROXY" in text


def test_settings_that_cannot_be_read_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "often")
    text = str(diagnose())
    assert "invalid: PREFECT_CLIENT_MAX_RETRIES (environment) should be" in text
    assert "Server" not in text


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["doctor"], 0, "Python"),
        (["--version"], 0, f"orchnb {orchnb.__version__}"),
        (["--help"], 0, "doctor"),
        ([], 2, "usage: orchnb"),
    ],
)
def test_the_command(arguments: list[str], status: int, words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "orchnb", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    assert words in done.stdout + done.stderr
