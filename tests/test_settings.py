"""Which settings hold, where they came from, and what is said about bad ones."""

from __future__ import annotations

import json
import os
import pickle
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr

from orchnb import settings as settings_module
from orchnb.errors import InvalidSetting
from orchnb.settings import (
    Settings,
    all_profiles,
    choose_for_session,
    get_settings,
    profile_values,
    session_choice,
    temporary_settings,
)

CANARY = "c4nary-Secret"


@pytest.fixture(autouse=True)
def no_choice_is_left() -> Iterator[None]:
    yield
    choose_for_session({}, "")


def home() -> Path:
    folder = Path.home() / ".prefect"
    folder.mkdir(exist_ok=True)
    return folder


def write_profiles(text: str) -> Path:
    path = home() / "profiles.toml"
    path.write_text(text, encoding="utf-8")
    return path


# The layers

FIELDS: dict[str, tuple[str, str, list[Any]]] = {
    # field: (environment name, toml path, one value for each layer)
    "api_url": ("PREFECT_API_URL", "api.url", [f"http://layer{i}/api" for i in range(8)]),
    "client_max_retries": ("PREFECT_CLIENT_MAX_RETRIES", "client.max_retries", list(range(8))),
    "ephemeral_app": (
        "ORCHNB_EPHEMERAL_APP",
        "orchnb.ephemeral_app",
        [f"m:a{i}" for i in range(8)],
    ),
    "client_retry_jitter_factor": (
        "PREFECT_CLIENT_RETRY_JITTER_FACTOR",
        "client.retry_jitter_factor",
        [i / 8 for i in range(8)],
    ),
}
LAYERS = [
    "argument",
    "temporary_settings",
    "%orch_server_type",
    "environment",
    ".env",
    "prefect.toml",
    "pyproject.toml",
    "profile",
]


@contextmanager
def layers(field: str, chosen: set[str]) -> Iterator[dict[str, Any]]:
    """Set ``field`` in each of the chosen layers, in each to another value; yields the arguments."""
    name, toml, values = FIELDS[field]
    value = dict(zip(LAYERS, values, strict=True))
    table, key = toml.split(".")
    with ExitStack() as stack:
        if "environment" in chosen:
            os.environ[name] = str(value["environment"])
            stack.callback(os.environ.pop, name)
        if ".env" in chosen:
            Path(".env").write_text(f"{name}={value['.env']}\n")
            stack.callback(Path(".env").unlink)
        for file, head in (("prefect.toml", table), ("pyproject.toml", f"tool.prefect.{table}")):
            if file in chosen:
                Path(file).write_text(f"[{head}]\n{key} = {json.dumps(value[file])}\n")
                stack.callback(Path(file).unlink)
        if "profile" in chosen:
            text = (
                f'active = "mine"\n[profiles.mine]\n{name} = {json.dumps(str(value["profile"]))}\n'
            )
            stack.callback(write_profiles(text).unlink)
        if "%orch_server_type" in chosen:
            choose_for_session({field: value["%orch_server_type"]}, "%orch_server_type")
            stack.callback(choose_for_session, {}, "")
        if "temporary_settings" in chosen:
            stack.enter_context(temporary_settings(**{field: value["temporary_settings"]}))
        yield {field: value["argument"]} if "argument" in chosen else {}


@pytest.mark.parametrize("field", FIELDS)
@given(chosen=st.sets(st.sampled_from(LAYERS)))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_the_strongest_layer_wins_and_is_named(field: str, chosen: set[str]) -> None:
    with layers(field, chosen) as arguments:
        settings = Settings(**arguments)
    winner = next((layer for layer in LAYERS if layer in chosen), None)
    if winner is None:
        assert getattr(settings, field) == Settings.model_fields[field].default
        assert str(settings.source(field)) == "default"
    else:
        assert getattr(settings, field) == FIELDS[field][2][LAYERS.index(winner)]
        assert winner in str(settings.source(field))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("argument", "api_url (argument)"),
        ("temporary_settings", "api_url (temporary_settings)"),
        ("%orch_server_type", "%orch_server_type"),
        ("environment", "PREFECT_API_URL (environment)"),
        (".env", "PREFECT_API_URL (.env)"),
        ("prefect.toml", "api.url (prefect.toml)"),
        ("pyproject.toml", "api.url ([tool.prefect] in pyproject.toml)"),
        ("profile", "PREFECT_API_URL (profile 'mine')"),
    ],
)
def test_a_source_is_named_as_people_know_it(layer: str, words: str) -> None:
    with layers("api_url", {layer}) as arguments:
        assert str(Settings(**arguments).source("api_url")) == words


def test_the_source_of_what_is_no_setting_is_an_error() -> None:
    with pytest.raises(AttributeError, match="api_ulr"):
        Settings().source("api_ulr")


def test_a_change_shows_at_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    before = get_settings()
    monkeypatch.setenv("PREFECT_API_URL", "http://new/api")
    assert get_settings().api_url == "http://new/api"
    assert before.api_url is None


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().api_url = "http://x"  # type: ignore[misc]


# Names and forms


EVERY_NAME: dict[str, tuple[str, str, Any]] = {
    "PREFECT_API_URL": ("http://s/api/", "api_url", "http://s/api"),
    "PREFECT_API_KEY": ("k", "api_key", SecretStr("k")),
    "PREFECT_API_AUTH_STRING": ("u:p", "api_auth_string", SecretStr("u:p")),
    "PREFECT_API_REQUEST_TIMEOUT": ("1.5", "api_request_timeout", 1.5),
    "PREFECT_API_ENABLE_HTTP2": ("true", "api_enable_http2", True),
    "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": ("1", "api_tls_insecure_skip_verify", True),
    "PREFECT_API_SSL_CERT_FILE": ("/c.pem", "api_ssl_cert_file", Path("/c.pem")),
    "PREFECT_UI_URL": ("https://ui", "ui_url", "https://ui"),
    "PREFECT_CLOUD_API_URL": ("https://c/api", "cloud_api_url", "https://c/api"),
    "PREFECT_HOME": ("/h", "home", Path("/h")),
    "PREFECT_PROFILES_PATH": ("/p.toml", "profiles_path", Path("/p.toml")),
    "PREFECT_PROFILE": ("local", "profile", "local"),
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": ("no", "server_allow_ephemeral_mode", False),
    "PREFECT_SERVER_EPHEMERAL_ENABLED": ("0", "server_allow_ephemeral_mode", False),
    "PREFECT_CLIENT_MAX_RETRIES": ("0", "client_max_retries", 0),
    "PREFECT_CLIENT_RETRY_JITTER_FACTOR": ("0", "client_retry_jitter_factor", 0.0),
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": ("500,504", "client_retry_extra_codes", {500, 504}),
    "PREFECT_CLIENT_CUSTOM_HEADERS": (
        '{"X": "y"}',
        "client_custom_headers",
        {"X": SecretStr("y")},
    ),
    "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": ("off", "client_csrf_support_enabled", False),
    "ORCHNB_EPHEMERAL_APP": ("m:a", "ephemeral_app", "m:a"),
    "ORCHNB_EPHEMERAL_HOME": ("/own", "ephemeral_home", Path("/own")),
    "ORCHNB_EPHEMERAL_STARTUP_TIMEOUT": ("9", "ephemeral_startup_timeout", 9.0),
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": ("110", "ephemeral_startup_timeout", 110.0),
    "ORCHNB_CLIENT_MAX_WAIT": ("90.5", "client_max_wait", 90.5),
    "ORCHNB_EPHEMERAL_PREWARM": ("0", "ephemeral_prewarm", False),
    "ORCHNB_DISPLAY": ("text", "display", "text"),
}


_OURS, _PREFECTS = (
    "ORCHNB_EPHEMERAL_STARTUP_TIMEOUT",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS",
)
_IN_TOML = "[server.ephemeral]\nstartup_timeout_seconds = 110\n"
_OURS_IN_TOML = "[orchnb]\nephemeral_startup_timeout = 9\n"


@pytest.mark.parametrize(
    ("environment", "files", "seconds", "source"),
    [
        ({}, {}, 60, ""),
        ({_PREFECTS: "110"}, {}, 110, _PREFECTS),
        ({_PREFECTS: "110", _OURS: "9"}, {}, 9, _OURS),
        ({}, {".env": f"{_PREFECTS}=110\n"}, 110, _PREFECTS),
        ({}, {"prefect.toml": _IN_TOML}, 110, "server.ephemeral.startup_timeout_seconds"),
        (
            {},
            {"prefect.toml": _IN_TOML + _OURS_IN_TOML},
            9,
            "orchnb.ephemeral_startup_timeout",
        ),
        (
            {},
            {"pyproject.toml": _IN_TOML.replace("[", "[tool.prefect.")},
            110,
            "server.ephemeral.startup_timeout_seconds",
        ),
        ({_PREFECTS: "30"}, {"prefect.toml": _IN_TOML}, 30, _PREFECTS),
    ],
)
def test_the_limit_of_a_start_is_prefects_unless_orchnbs_is_set(
    environment: dict[str, str],
    files: dict[str, str],
    seconds: float,
    source: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name, text in files.items():
        Path(name).write_text(text)
    settings = Settings()
    assert settings.ephemeral_startup_timeout == seconds
    assert settings.source("ephemeral_startup_timeout").name == source


def test_the_limit_of_a_start_is_read_from_a_profile() -> None:
    write_profiles(f'active = "mine"\n[profiles.mine]\n{_PREFECTS} = "110"\n')
    assert Settings().ephemeral_startup_timeout == 110


@pytest.mark.parametrize("case", [str.upper, str.lower], ids=["upper", "lower"])
@pytest.mark.parametrize("name", EVERY_NAME)
def test_every_setting_is_read_from_its_variable(
    name: str, case: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small letters do as well, as with Prefect."""
    text, field, value = EVERY_NAME[name]
    monkeypatch.setenv(case(name), text)
    settings = Settings()
    assert getattr(settings, field) == value
    assert settings.source(field).name == name


def test_the_table_above_is_complete() -> None:
    fields = set(Settings.model_fields) - {"origins"}
    assert {field for _, field, _ in EVERY_NAME.values()} == fields


@pytest.mark.parametrize("name", EVERY_NAME)
@pytest.mark.parametrize("place", ["environment", ".env", "profile"])
def test_an_empty_value_counts_as_not_set(
    name: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = Settings()
    field = EVERY_NAME[name][1]
    if place == "environment":
        monkeypatch.setenv(name, "")
    elif place == ".env":
        Path(".env").write_text(f"{name}=\n")
    else:
        write_profiles(f'active = "ephemeral"\n[profiles.ephemeral]\n{name} = ""\n')
    if place == "profile" and field in ("profile", "server_allow_ephemeral_mode"):
        assert not getattr(Settings(), field) or field == "profile"
    else:
        assert getattr(Settings(), field) == getattr(default, field)


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("500", {500}),
        ("500,504", {500, 504}),
        (" 500 , 504 ", {500, 504}),
        ("500 504", {500, 504}),
        ("[500, 504]", {500, 504}),
        (500, {500}),
        ([500, 500], {500}),
    ],
)
def test_extra_codes_are_read_in_every_usual_form(text: Any, codes: set[int]) -> None:
    assert Settings(client_retry_extra_codes=text).client_retry_extra_codes == codes


def test_headers_of_all_places_count_together_and_given_ones_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT_CLIENT_CUSTOM_HEADERS", '{"X-A": "strong", "X-B": "b"}')
    Path("prefect.toml").write_text('[client.custom_headers]\nX-A = "weak"\nX-C = "c"\n')
    read = Settings().client_custom_headers
    assert {name: value.get_secret_value() for name, value in read.items()} == {
        "X-A": "strong",
        "X-B": "b",
        "X-C": "c",
    }
    assert Settings(client_custom_headers={}).client_custom_headers == {}


@pytest.mark.parametrize("name", ["home", "profiles_path"])
def test_a_tilde_is_the_home_folder(name: str) -> None:
    assert getattr(Settings(**{name: "~/x"}), name) == Path.home() / "x"


def test_what_other_programs_set_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "DEBUG")
    Path("prefect.toml").write_text('[server.database]\nconnection_url = "x"\n')
    write_profiles('[profiles.ephemeral]\nPREFECT_LOGGING_LEVEL = "DEBUG"\n')
    Settings()


# Temporary settings


def test_blocks_nest_and_end() -> None:
    with temporary_settings(api_url="http://one/api", client_max_retries=1):
        with temporary_settings(api_url="http://two/api") as inner:
            assert (inner.api_url, inner.client_max_retries) == ("http://two/api", 1)
        assert get_settings().api_url == "http://one/api"
    assert get_settings().api_url is None


def test_a_block_ends_when_its_body_fails() -> None:
    with pytest.raises(ZeroDivisionError), temporary_settings(client_max_retries=1):
        raise ZeroDivisionError
    assert get_settings().client_max_retries == 5


@pytest.mark.parametrize("field", sorted(set(Settings.model_fields) - {"origins"}))
def test_none_unsets_any_field(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    default = Settings()
    for name, (text, its_field, _) in EVERY_NAME.items():
        if its_field == field and field not in ("home", "profiles_path", "profile"):
            monkeypatch.setenv(name, text)
    with temporary_settings(**{field: None}) as settings:
        if field == "server_allow_ephemeral_mode":  # the default profile's value is gone as well
            assert settings.server_allow_ephemeral_mode is False
        else:
            assert getattr(settings, field) == getattr(default, field)
        if field != "profile":  # which falls back to the file's own choice
            assert "temporary_settings" in str(settings.source(field))


@pytest.mark.parametrize("value", [None, 1])
def test_an_unknown_field_is_refused_and_leaves_nothing_behind(value: Any) -> None:
    with (
        pytest.raises(InvalidSetting, match="no setting named 'api_ulr'"),
        temporary_settings(api_ulr=value),
    ):
        pass
    Settings()


def test_another_thread_does_not_see_the_block() -> None:
    seen: list[int] = []
    with temporary_settings(client_max_retries=1):
        thread = threading.Thread(target=lambda: seen.append(get_settings().client_max_retries))
        thread.start()
        thread.join(10)
    assert seen == [5]


def test_threads_have_blocks_of_their_own() -> None:
    barrier = threading.Barrier(4)
    seen: dict[int, int] = {}

    def work(number: int) -> None:
        with temporary_settings(client_max_retries=number):
            barrier.wait(10)
            seen[number] = get_settings().client_max_retries
            barrier.wait(10)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert seen == {0: 0, 1: 1, 2: 2, 3: 3}


def test_a_choice_for_the_session_can_be_read_and_taken_back() -> None:
    given_values = {"api_url": "http://s/api"}
    choose_for_session(given_values, "%orch_server_type")
    given_values.clear()
    assert session_choice() == ({"api_url": "http://s/api"}, "%orch_server_type")
    session_choice()[0].clear()
    assert get_settings().api_url == "http://s/api"
    choose_for_session({}, "")
    assert get_settings().api_url is None


# Profiles

MINE = """
active = "mine"
[profiles.mine]
PREFECT_API_URL = "http://mine/api"
[profiles.other]
PREFECT_API_URL = "http://other/api"
"""


def test_with_no_profile_of_ones_own_a_server_may_run_here() -> None:
    settings = Settings()
    assert settings.profile is None
    assert settings.server_allow_ephemeral_mode
    assert str(settings.source("server_allow_ephemeral_mode")) == "default"


@pytest.mark.parametrize(
    ("active", "variable", "profile", "url", "ephemeral"),
    [
        ("mine", None, "mine", "http://mine/api", False),
        ("mine", "other", "other", "http://other/api", False),
        ("mine", "local", "local", "http://127.0.0.1:4200/api", False),
        ("mine", "ephemeral", "ephemeral", None, True),
        ("mine", "cloud", "cloud", None, False),
        ("", None, None, None, True),
        (None, None, None, None, True),
        (None, "other", "other", "http://other/api", False),
    ],
)
def test_the_active_profile(
    active: str | None,
    variable: str | None,
    profile: str | None,
    url: str | None,
    ephemeral: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = MINE.replace('active = "mine"', "" if active is None else f'active = "{active}"')
    path = write_profiles(text)
    if variable:
        monkeypatch.setenv("PREFECT_PROFILE", variable)
    settings = Settings()
    assert (settings.profile, settings.api_url) == (profile, url)
    assert settings.server_allow_ephemeral_mode is ephemeral
    if profile and not variable:
        assert str(settings.source("profile")) == f"active ({path})"


def test_a_profile_of_ones_own_takes_a_built_in_ones_place() -> None:
    write_profiles('active = "local"\n[profiles.local]\nPREFECT_API_URL = "http://mine/api"\n')
    assert Settings().api_url == "http://mine/api"
    assert set(all_profiles()) == {"cloud", "ephemeral", "local"}


def test_what_a_profile_holds_can_be_asked() -> None:
    write_profiles(MINE)
    assert profile_values("other") == {"api_url": "http://other/api"}
    with pytest.raises(InvalidSetting, match="no profile 'nope'"):
        profile_values("nope")


@pytest.mark.parametrize("how", ["PREFECT_HOME", "PREFECT_PROFILES_PATH", "argument", "toml"])
def test_profiles_are_found_where_they_were_put(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "profiles.toml"
    path.write_text(MINE)
    arguments = {}
    if how == "PREFECT_HOME":
        monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    elif how == "PREFECT_PROFILES_PATH":
        monkeypatch.setenv("PREFECT_PROFILES_PATH", str(path))
    elif how == "toml":
        Path("prefect.toml").write_text(f"profiles_path = {json.dumps(str(path))}\n")
    else:
        arguments = {"profiles_path": path}
    assert Settings(**arguments).api_url == "http://mine/api"


def test_an_unknown_profile_says_who_named_it_and_which_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_profiles(MINE)
    monkeypatch.setenv("PREFECT_PROFILE", "prod")
    with pytest.raises(InvalidSetting) as caught:
        Settings()
    assert "'prod'" in str(caught.value)
    assert "PREFECT_PROFILE (environment)" in str(caught.value)
    assert "cloud, ephemeral, local, mine, other" in str(caught.value)
    assert "prefect profile create" in str(caught.value)


def test_an_unknown_active_profile_names_the_file() -> None:
    path = write_profiles('active = "prod"\n')
    with pytest.raises(InvalidSetting, match="'prod'") as caught:
        Settings()
    assert f"active ({path})" in str(caught.value)


# Files that cannot be used

BAD_TOML = {
    "broken": f'PREFECT_API_KEY = "{CANARY}'.encode(),
    "duplicate": f'a = "{CANARY}"\na = "{CANARY}"'.encode(),
    "not UTF-8": b"a = '\xff" + CANARY.encode(),
    "UTF-16": f"a = '{CANARY}'".encode("utf-16"),
}


@pytest.mark.parametrize("content", BAD_TOML.values(), ids=BAD_TOML)
@pytest.mark.parametrize("file", ["profiles.toml", "prefect.toml", "pyproject.toml"])
def test_a_file_that_cannot_be_read_is_named_and_not_quoted(file: str, content: bytes) -> None:
    path = home() / file if file == "profiles.toml" else Path(file)
    path.write_bytes(content)
    with pytest.raises(InvalidSetting) as caught:
        Settings()
    assert str(path) in str(caught.value)
    assert "Fix or remove the file" in str(caught.value)
    assert CANARY not in shown(caught.value)


@pytest.mark.parametrize("file", ["profiles.toml", "prefect.toml", "pyproject.toml"])
def test_a_folder_in_a_files_place_is_named(file: str) -> None:
    path = home() / file if file == "profiles.toml" else Path(file)
    path.mkdir()
    with pytest.raises(InvalidSetting, match=r"cannot be read: .*directory"):
        Settings()


def test_a_dotenv_that_is_no_text_is_named() -> None:
    Path(".env").write_bytes(b"PREFECT_API_KEY=\xff" + CANARY.encode())
    with pytest.raises(InvalidSetting, match=r"\.env cannot be read") as caught:
        Settings()
    assert CANARY not in shown(caught.value)


def test_a_dotenv_folder_is_no_file_of_settings() -> None:
    Path(".env").mkdir()
    Settings()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no such users here")
def test_a_file_without_permission_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        path = folder / "profiles.toml"
        path.write_text(MINE)
        path.chmod(0)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("PREFECT_PROFILES_PATH", str(path))
        with nobody(), pytest.raises(InvalidSetting) as caught:
            Settings()
        monkeypatch.undo()
    assert f"{path} cannot be read: Permission denied" in str(caught.value)


@contextmanager
def nobody() -> Iterator[None]:
    """Nothing is forbidden to root, so be somebody else for a moment."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("profiles = 5", "should be a table"),
        ("[profiles]\nmine = 5", "should be a table"),
        ("active = 5", "name of a profile"),
        ('active = ["a"]', "name of a profile"),
    ],
)
def test_profiles_of_another_shape_are_refused(text: str, words: str) -> None:
    write_profiles(text)
    with pytest.raises(InvalidSetting, match=words):
        Settings()


@pytest.mark.parametrize(
    "text",
    ["tool = 5", "[tool]\nprefect = 5", "[tool.prefect]\napi = 5", '[tool.other]\nx = "y"', ""],
)
def test_a_pyproject_of_another_shape_says_nothing_about_us(text: str) -> None:
    Path("pyproject.toml").write_text(text)
    assert Settings().api_url is None


@pytest.mark.parametrize("name", ["home", "profiles_path"])
@pytest.mark.parametrize("value", [5, [1], True, {}])
def test_a_path_that_is_none_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidSetting, match=rf"{name} \(argument\)"):
        Settings(**{name: value})


def test_a_path_in_a_file_that_is_none_is_refused() -> None:
    Path("prefect.toml").write_text("home = 5\n")
    with pytest.raises(InvalidSetting, match=r"home \(prefect.toml\)"):
        Settings()


@pytest.mark.parametrize("value", [5, ["a"], ""])
def test_a_profile_that_is_no_name_is_refused(value: Any) -> None:
    with pytest.raises(InvalidSetting, match="no profile"):
        Settings(profile=value)


# Bad values

BAD_VALUES: list[tuple[str, str, str]] = [
    ("PREFECT_API_URL", CANARY, "full URL"),
    ("PREFECT_API_URL", f"ftp://me:{CANARY}@s", "full URL"),
    ("PREFECT_API_URL", f"http:/me:{CANARY}@s/api", "full URL"),
    ("PREFECT_API_URL", f"http://me:{CANARY}@s:port/api", "full URL"),
    ("PREFECT_API_URL", f"http://[{CANARY}/api", "full URL"),
    ("PREFECT_API_URL", f"http://s/a b{CANARY}", "full URL"),
    ("PREFECT_API_URL", f"http://s/{CANARY}\nHost: evil", "full URL"),
    ("PREFECT_CLOUD_API_URL", f"//{CANARY}", "full URL"),
    ("PREFECT_API_KEY", f"{CANARY} {CANARY}", "ASCII without spaces"),
    ("PREFECT_API_KEY", f"{CANARY}\n", "ASCII without spaces"),
    ("PREFECT_API_KEY", f"{CANARY}é", "ASCII"),
    ("PREFECT_API_AUTH_STRING", f"me:\n{CANARY}", "one line"),
    ("PREFECT_API_REQUEST_TIMEOUT", CANARY, "number"),
    ("PREFECT_API_REQUEST_TIMEOUT", "0", "greater than 0"),
    ("PREFECT_API_REQUEST_TIMEOUT", "nan", "number"),
    ("PREFECT_API_REQUEST_TIMEOUT", "inf", "finite"),
    ("PREFECT_API_ENABLE_HTTP2", CANARY, "true or false"),
    ("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", CANARY, "true or false"),
    ("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", CANARY, "true or false"),
    ("PREFECT_SERVER_EPHEMERAL_ENABLED", CANARY, "true or false"),
    ("PREFECT_CLIENT_MAX_RETRIES", CANARY, "integer"),
    ("PREFECT_CLIENT_MAX_RETRIES", "-1", "greater than or equal to 0"),
    ("PREFECT_CLIENT_MAX_RETRIES", "1.5", "integer"),
    ("PREFECT_CLIENT_RETRY_JITTER_FACTOR", "-0.1", "greater than or equal to 0"),
    ("PREFECT_CLIENT_RETRY_JITTER_FACTOR", "11", "less than or equal to 10"),
    ("PREFECT_CLIENT_RETRY_JITTER_FACTOR", "nan", "number"),
    ("PREFECT_CLIENT_RETRY_EXTRA_CODES", f"500,{CANARY}", "integer"),
    ("PREFECT_CLIENT_RETRY_EXTRA_CODES", "99", "greater than or equal to 100"),
    ("PREFECT_CLIENT_RETRY_EXTRA_CODES", "600", "less than or equal to 599"),
    ("PREFECT_CLIENT_CUSTOM_HEADERS", CANARY, "JSON object"),
    ("PREFECT_CLIENT_CUSTOM_HEADERS", f'["{CANARY}"]', "dictionary"),
    ("PREFECT_CLIENT_CUSTOM_HEADERS", f'{{"{CANARY} x": "v"}}', "header name"),
    ("PREFECT_CLIENT_CUSTOM_HEADERS", f'{{"X": "{CANARY}\\nY: z"}}', "one line"),
    ("PREFECT_CLIENT_CUSTOM_HEADERS", f'{{"X": "{CANARY}é"}}', "ASCII"),
    ("PREFECT_CLIENT_CUSTOM_HEADERS", '{"X": 5}', "string"),
    ("PREFECT_CLIENT_CSRF_SUPPORT_ENABLED", CANARY, "true or false"),
    ("ORCHNB_EPHEMERAL_STARTUP_TIMEOUT", "-5", "greater than 0"),
    ("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", CANARY, "number"),
    ("ORCHNB_CLIENT_MAX_WAIT", "-1", "greater than or equal to 0"),
    ("ORCHNB_CLIENT_MAX_WAIT", "nan", "greater than or equal to 0"),
]


def shown(error: BaseException) -> str:
    """All that a person or a program sees of an error."""
    return "".join(
        [
            str(error),
            repr(error),
            repr(error.args),
            repr(error.__context__),
            repr(vars(error.__context__ or error)),
            *traceback.format_exception(error),
            pickle.dumps(error).decode("latin-1"),
        ]
    )


@pytest.mark.parametrize("place", ["environment", ".env", "profile"])
@pytest.mark.parametrize(("name", "value", "remedy"), BAD_VALUES)
def test_a_bad_value_names_variable_source_and_remedy_and_never_itself(
    name: str, value: str, remedy: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = place
    if place == "environment":
        monkeypatch.setenv(name, value)
    elif place == ".env":
        escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
        Path(".env").write_text(f'{name}="{escaped}"\n', encoding="utf-8")
    else:
        write_profiles(f'active = "mine"\n[profiles.mine]\n{name} = {json.dumps(value)}\n')
        source = "profile 'mine'"
    with pytest.raises(InvalidSetting) as caught:
        Settings()
    message = str(caught.value)
    assert f"{name} ({source})" in message
    assert remedy in message
    assert "\n" not in message
    assert CANARY not in shown(caught.value)
    assert caught.value.__context__ is None, "it would hold the value"


def test_all_bad_values_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "x")
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "y")
    with pytest.raises(InvalidSetting) as caught:
        Settings()
    assert "PREFECT_API_URL" in str(caught.value)
    assert "PREFECT_CLIENT_MAX_RETRIES" in str(caught.value)


@pytest.mark.parametrize("show", [repr, str, "{!r}".format, lambda s: repr(s.origins)])
def test_settings_show_no_secret(show: Any) -> None:
    settings = Settings(
        api_url=f"http://me:{CANARY}@s/api?token={CANARY}",
        cloud_api_url=f"https://{CANARY}@c/api",
        api_key=CANARY,
        api_auth_string=f"me:{CANARY}",
        client_custom_headers={"X-Team": CANARY},
    )
    assert CANARY not in show(settings)


def test_the_module_gives_the_public_names() -> None:
    for name in ("Origin", "Settings", "get_settings", "temporary_settings", "all_profiles"):
        assert hasattr(settings_module, name)


@pytest.mark.parametrize("name", ["api_url", "cloud_api_url"])
def test_a_dump_holds_no_password_and_two_passwords_are_two_settings(name: str) -> None:
    one, other = (Settings(**{name: f"https://me:{word}@h.test/api"}) for word in ("pw1", "pw2"))
    assert "pw1" not in one.model_dump_json() + str(one.model_dump())
    assert "h.test/api" in one.model_dump()[name]
    assert one != other
    assert one == Settings(**{name: "https://me:pw1@h.test/api"})
