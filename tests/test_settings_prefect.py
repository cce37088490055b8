"""The same configuration, read by orchnb and by Prefect itself, gives the same values."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from orchnb.settings import Settings, get_settings
from tests.servers import clean_environment

pytest.importorskip("prefect")

FIELDS = {
    "api_url": "s.api.url",
    "api_key": "s.api.key",
    "api_auth_string": "s.api.auth_string",
    "api_request_timeout": "s.api.request_timeout",
    "api_enable_http2": "s.api.enable_http2",
    "api_tls_insecure_skip_verify": "s.api.tls_insecure_skip_verify",
    "cloud_api_url": "s.cloud.api_url",
    "home": "s.home",
    "server_allow_ephemeral_mode": "s.server.ephemeral.enabled",
    "client_max_retries": "s.client.max_retries",
    "client_retry_jitter_factor": "s.client.retry_jitter_factor",
    "client_retry_extra_codes": "s.client.retry_extra_codes",
    "client_custom_headers": "s.client.custom_headers",
    "client_csrf_support_enabled": "s.client.csrf_support_enabled",
}

# One process for the whole table, as importing Prefect takes seconds. Its cache of toml files goes by
# path and time of change, so every case has a folder of its own.
ASK_PREFECT = """
import json, os, sys
import prefect.settings.sources as sources
from prefect.settings import Settings

def plain(value):
    value = getattr(value, "get_secret_value", lambda: value)()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)

fields, cases = json.load(sys.stdin)
answers = []
for folder, home, environment in cases:
    os.chdir(folder)
    os.environ["HOME"] = home
    for name in [n for n in os.environ if n.upper().startswith("PREFECT_")]:
        del os.environ[name]
    os.environ.update(environment)
    sources.DEFAULT_PREFECT_HOME = sources.Path(home) / ".prefect"
    s = Settings()
    answers.append({name: plain(eval(path)) for name, path in fields.items()})
json.dump(answers, sys.stdout)
"""

PROFILES = """
active = "mine"
[profiles.mine]
PREFECT_API_URL = "http://mine/api"
PREFECT_CLIENT_RETRY_EXTRA_CODES = "500"
PREFECT_CLIENT_CUSTOM_HEADERS = '{"X-Profile": "p"}'
[profiles.here]
PREFECT_SERVER_EPHEMERAL_ENABLED = "true"
[profiles.old]
PREFECT_SERVER_ALLOW_EPHEMERAL_MODE = "true"
[profiles.typed]
PREFECT_CLIENT_MAX_RETRIES = 2
PREFECT_API_ENABLE_HTTP2 = true
"""
TOML = """
home = "/from/toml"
[api]
url = "http://toml/api"
key = "toml-key"
[client]
max_retries = 7
retry_extra_codes = [418]
custom_headers = { "X-Toml" = "t" }
[server.ephemeral]
enabled = false
"""
IN_PROJECT = """
[tool.prefect.api]
url = "http://project/api"
[tool.prefect.client]
max_retries = 8
[tool.prefect.server.ephemeral]
enabled = false
"""

# environment, files of the working folder, profiles.toml
Case = tuple[dict[str, str], dict[str, str], str]
CASES: dict[str, Case] = {
    "nothing set": ({}, {}, ""),
    "environment": (
        {
            "PREFECT_API_URL": "http://env/api",
            "PREFECT_API_KEY": "k",
            "PREFECT_API_AUTH_STRING": "u:p",
            "PREFECT_API_REQUEST_TIMEOUT": "2.5",
            "PREFECT_API_ENABLE_HTTP2": "1",
            "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "true",
            "PREFECT_CLOUD_API_URL": "https://cloud/api",
            "PREFECT_CLIENT_MAX_RETRIES": "0",
            "PREFECT_CLIENT_RETRY_JITTER_FACTOR": "0.5",
            "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500, 504",
            "PREFECT_CLIENT_CUSTOM_HEADERS": '{"X-Env": "e"}',
            "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",
        },
        {},
        "",
    ),
    "small letters": ({"prefect_api_url": "http://low/api"}, {"x": ""}, ""),
    "one code": ({"PREFECT_CLIENT_RETRY_EXTRA_CODES": "418"}, {}, ""),
    "a number with a space": ({"PREFECT_CLIENT_MAX_RETRIES": " 3"}, {}, ""),
    "no server here": ({"PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false"}, {}, ""),
    "no server here, new name": ({"PREFECT_SERVER_EPHEMERAL_ENABLED": "false"}, {}, ""),
    "both names": (
        {
            "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        },
        {},
        "",
    ),
    "old name over a profile's new one": (
        {"PREFECT_PROFILE": "here", "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false"},
        {},
        PROFILES,
    ),
    "new name over a profile's old one": (
        {"PREFECT_PROFILE": "old", "PREFECT_SERVER_EPHEMERAL_ENABLED": "false"},
        {},
        PROFILES,
    ),
    "home": ({"PREFECT_HOME": "~/other"}, {}, ""),
    "active profile": ({}, {}, PROFILES),
    "chosen profile": ({"PREFECT_PROFILE": "here"}, {}, PROFILES),
    "chosen profile, old name": ({"PREFECT_PROFILE": "old"}, {}, PROFILES),
    "typed values in a profile": ({"PREFECT_PROFILE": "typed"}, {}, PROFILES),
    "no active profile": ({}, {}, PROFILES.replace('active = "mine"', "")),
    "dotenv": ({}, {".env": 'PREFECT_API_URL="http://dotenv/api"\n'}, PROFILES),
    "dotenv with export": ({}, {".env": "export PREFECT_API_KEY=k # comment\n"}, PROFILES),
    "prefect.toml": ({}, {"prefect.toml": TOML}, PROFILES),
    "pyproject.toml": ({}, {"pyproject.toml": IN_PROJECT}, PROFILES),
    "all of them": (
        {"PREFECT_CLIENT_MAX_RETRIES": "1"},
        {
            ".env": "PREFECT_API_KEY=dotenv-key\n",
            "prefect.toml": TOML,
            "pyproject.toml": IN_PROJECT,
        },
        PROFILES,
    ),
    "headers in many places": (
        {"PREFECT_CLIENT_CUSTOM_HEADERS": '{"X-Toml": "from the environment", "X-Env": "e"}'},
        {"prefect.toml": TOML},
        PROFILES,
    ),
    "a profile named in a file": (
        {},
        {".env": "PREFECT_PROFILE=here\n", "prefect.toml": 'profile = "here"\n'},
        PROFILES,
    ),
    "a home named in a file": ({}, {".env": "PREFECT_HOME=/from/dotenv\n"}, PROFILES),
    "an empty address over a profile's": ({"PREFECT_API_URL": ""}, {}, PROFILES),
    "an empty address in .env": ({}, {".env": "PREFECT_API_URL=\n"}, PROFILES),
    "empty credentials over a file's": (
        {"PREFECT_API_KEY": "", "PREFECT_API_AUTH_STRING": ""},
        {"prefect.toml": TOML},
        "",
    ),
    "an auth string of two words": ({"PREFECT_API_AUTH_STRING": "me:two words"}, {}, ""),
    "environment over all": (
        {"PREFECT_API_URL": "http://env/api"},
        {".env": "PREFECT_API_URL=http://dotenv/api\n", "prefect.toml": TOML},
        PROFILES,
    ),
}


def prepare(folder: Path, case: Case) -> tuple[str, str, dict[str, str]]:
    environment, files, profiles = case
    home, work = folder / "home", folder / "work"
    (home / ".prefect").mkdir(parents=True)
    work.mkdir()
    for name, text in files.items():
        (work / name).write_text(text)
    if profiles:
        (home / ".prefect" / "profiles.toml").write_text(profiles)
    return str(work), str(home), environment


def plain(value: Any) -> Any:
    value = getattr(value, "get_secret_value", lambda: value)()
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, dict[str, Any]]]:
    """By case: where it is laid out, and what Prefect makes of it."""
    base = tmp_path_factory.mktemp("cases")
    laid_out = {
        name: prepare(base / str(number), case) for number, (name, case) in enumerate(CASES.items())
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK_PREFECT],
        input=json.dumps([FIELDS, list(laid_out.values())]),
        env=clean_environment(base),
        cwd=base,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: (laid_out[name], answer) for name, answer in zip(CASES, found, strict=True)}


@pytest.mark.parametrize("name", CASES)
def test_orchnb_reads_what_prefect_reads(
    name: str, answers: dict[str, tuple[Any, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (work, home, environment), theirs = answers[name]
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", home)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    settings: Settings = get_settings()
    ours = {field: plain(getattr(settings, field)) for field in FIELDS}
    if "prefect.toml" in CASES[name][1] and Version(version("prefect")) < Version("3.7"):
        # Before 3.7 Prefect does not see the headers in that file.
        del ours["client_custom_headers"], theirs["client_custom_headers"]
    # An empty text, which Prefect keeps, means the same to it as nothing.
    assert ours == {field: None if value == "" else value for field, value in theirs.items()}
