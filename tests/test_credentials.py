"""Credentials go only where they belong: not to an address that a file of the working folder chooses."""

from __future__ import annotations

import base64
import os
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

import orchnb
from orchnb.api.status import server_status
from orchnb.credentials import withheld
from orchnb.errors import InvalidSetting
from orchnb.notebook.views.objects import status_card
from orchnb.settings import get_settings
from tests.api.fakes import http_server

CLOUD = "https://api.prefect.cloud/api/accounts/a/workspaces/w"
ELSEWHERE = "http://elsewhere.test/api"


def write(place: str, name: str, value: str) -> None:
    """Set ``api.url`` and its like in one of the places that settings are read from."""
    environment = "PREFECT_" + name.replace(".", "_").upper()
    if place == "environment":
        os.environ[environment] = value
    elif place == ".env":
        with Path(".env").open("a") as file:
            file.write(f"{environment}='{value}'\n")
    elif place == "prefect.toml":
        with Path("prefect.toml").open("a") as file:
            file.write(f"{name} = '{value}'\n")
    elif place == "pyproject.toml":
        path = Path("pyproject.toml")
        start = path.read_text() if path.exists() else "[tool.prefect]\n"
        path.write_text(f"{start}{name} = '{value}'\n")
    else:
        home = Path.home() / ".prefect"
        home.mkdir(exist_ok=True)
        path = home / "profiles.toml"
        start = path.read_text() if path.exists() else 'active = "mine"\n[profiles.mine]\n'
        path.write_text(f"{start}{environment} = '{value}'\n")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"):
        monkeypatch.setenv(name, "x")  # so that it is put back
        monkeypatch.delenv(name)


FOLDER = [".env", "prefect.toml", "pyproject.toml"]
PERSONAL = ["environment", "profile"]


@pytest.mark.parametrize("credential", ["api.key", "api.auth_string"])
@pytest.mark.parametrize("address", [*FOLDER, *PERSONAL])
@pytest.mark.parametrize("source", [*FOLDER, *PERSONAL])
def test_what_is_sent_where(credential: str, address: str, source: str) -> None:
    write(address, "api.url", ELSEWHERE)
    write(source, credential, "secret:value")
    field = credential.replace(".", "_")
    settings = get_settings()
    expected = address in FOLDER and source in PERSONAL
    assert (field in withheld(settings)) is expected
    sent = orchnb.PrefectClient(ELSEWHERE)._credentials
    assert bool(sent) is not expected
    if expected:
        assert str(settings.source(field)) in withheld(settings)[field]
        assert str(settings.source("api_url")) in withheld(settings)[field]
        assert "secret" not in withheld(settings)[field]


@pytest.mark.parametrize("address", FOLDER)
def test_a_folder_may_name_an_address_of_the_cloud(address: str) -> None:
    write(address, "api.url", CLOUD)
    write("environment", "api.key", "pnu_secret")
    assert withheld(get_settings()) == {}
    assert orchnb.get_client()._credentials == {"Authorization": "Bearer pnu_secret"}


@pytest.mark.parametrize("place", FOLDER)
def test_a_folder_cannot_say_what_the_cloud_is(place: str) -> None:
    write(place, "api.url", ELSEWHERE)
    write(place, "cloud.api_url", ELSEWHERE)
    write("profile", "api.key", "pnu_secret")
    assert "api_key" in withheld(get_settings())
    assert orchnb.get_client()._credentials == {}


def test_a_folder_cannot_bring_profiles_of_its_own() -> None:
    Path("theirs.toml").write_text(f'active = "x"\n[profiles.x]\nPREFECT_API_URL = "{ELSEWHERE}"\n')
    write("prefect.toml", "profiles_path", "theirs.toml")
    write("environment", "api.key", "pnu_secret")
    assert get_settings().api_url == ELSEWHERE
    assert "api_key" in withheld(get_settings())


def test_custom_headers_are_credentials_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a profile are not sent together with those of the folder."""
    write(".env", "api.url", ELSEWHERE)
    write(".env", "client.custom_headers", '{"X-Theirs": "1"}')
    assert withheld(get_settings()) == {}
    write("profile", "client.custom_headers", '{"X-Mine": "secret"}')
    assert "client_custom_headers" in withheld(get_settings())
    assert not orchnb.get_client().settings.client_custom_headers


def test_what_the_person_says_in_code_is_sent() -> None:
    write(".env", "api.url", ELSEWHERE)
    write("environment", "api.key", "pnu_secret")
    with orchnb.temporary_settings(api_url=ELSEWHERE):
        assert orchnb.get_client()._credentials
    assert orchnb.PrefectClient(ELSEWHERE, api_key="given")._credentials
    assert orchnb.PrefectClient("http://another.test/api")._credentials


def test_nothing_of_the_persons_reaches_a_server_that_the_folder_names() -> None:
    seen: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        seen.append(request.requestline + str(request.headers))
        return 200, {"content-type": "application/json"}, b'"3.8.8"'

    with http_server(answer) as url:
        write(".env", "api.url", f"{url}/api")
        write("environment", "api.key", "pnu_canary")
        write("profile", "api.auth_string", "canary:canary")
        with orchnb.get_client(sync_client=True) as client:
            client.api_version()
            client.hello()
    encoded = base64.b64encode(b"canary:canary").decode()
    assert len(seen) == 2
    assert not any("canary" in text or encoded in text for text in seen)


def test_the_status_and_a_401_say_what_is_not_sent_and_how_to_send_it() -> None:
    def answer(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        if request.path == "/api/health":
            return 200, {"content-type": "application/json"}, b"true"
        return 401, {"content-type": "application/json"}, b'{"detail": "Unauthorized"}'

    with http_server(answer) as url:
        write("prefect.toml", "api.url", f"{url}/api")
        write("environment", "api.key", "pnu_canary")
        status = server_status(get_settings())
        with (
            orchnb.get_client(sync_client=True) as client,
            pytest.raises(orchnb.PrefectHTTPStatusError) as caught,
        ):
            client.read_flows()
    words = (
        "PREFECT_API_KEY (environment) is not sent, as the address comes from api.url (prefect.toml), "
        "a file in the working folder. To send it, name the address yourself, in PREFECT_API_URL or with "
        "%orch_server_type server URL."
    )
    assert status.withheld == (words,)
    assert words in str(status)
    assert ("Not sent", words) in status_card(status).rows
    assert words in caught.value.hint


@pytest.mark.parametrize(
    "name", ["api.url", "api.key", "api.auth_string", "client.custom_headers", "cloud.api_url"]
)
def test_a_variable_is_not_expanded_in_what_is_sent(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    environment = "PREFECT_" + name.replace(".", "_").upper()
    Path(".env").write_text(
        f'{environment}="http://elsewhere.test/${{AWS_SECRET_ACCESS_KEY}}/api"\n'
    )
    with pytest.raises(
        InvalidSetting, match=rf"{environment} \(\.env\) contains a variable"
    ) as caught:
        get_settings()
    assert "canary" not in str(caught.value)


def test_a_variable_is_expanded_in_what_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH", "/scratch")
    Path(".env").write_text("PREFECT_HOME=${SCRATCH}/prefect\n")
    assert get_settings().home == Path("/scratch/prefect")


@pytest.mark.parametrize("name", [".env", "prefect.toml", "pyproject.toml"])
@pytest.mark.parametrize("kind", ["device", "pipe", "large"])
def test_a_file_of_settings_is_a_small_regular_file(name: str, kind: str) -> None:
    if kind == "large":
        Path(name).write_bytes(b"#" * 1_000_001)
    elif not hasattr(os, "mkfifo"):
        pytest.skip("this system has no such files")
    elif kind == "device":
        Path(name).symlink_to("/dev/zero")
    else:
        os.mkfifo(name)
    words = "larger than 1 MB" if kind == "large" else "not a regular file"
    with pytest.raises(InvalidSetting, match=f"{name} cannot be read: it is {words}"):
        get_settings()


def test_a_virtual_environment_may_be_named_as_the_file_is() -> None:
    Path(".env").mkdir()
    assert get_settings().api_url is None
