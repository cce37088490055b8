"""Which kind of server the settings point at, and that no look-alike passes for the cloud."""

from __future__ import annotations

import pickle
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchnb.errors import InvalidSetting
from orchnb.server_type import ServerType, determine_server_type, server_type_of_url
from orchnb.settings import Settings, temporary_settings

CLOUD = "https://api.prefect.cloud/api"
WORKSPACE = f"{CLOUD}/accounts/a/workspaces/w"


# The type


def test_the_values_are_the_names() -> None:
    assert [kind.value for kind in ServerType] == ["EPHEMERAL", "SERVER", "CLOUD", "UNCONFIGURED"]
    for kind in ServerType:
        assert kind == kind.name == str(kind) == f"{kind}"
        assert ServerType(kind.name) is kind
        assert pickle.loads(pickle.dumps(kind)) is kind


def test_auto_makes_values_without_a_second_import() -> None:
    class Named(ServerType.__bases__[0]):  # type: ignore[misc]
        ONE = ServerType.auto()
        OTHER_ONE = ServerType.auto()

    assert [member.value for member in Named] == ["ONE", "OTHER_ONE"]


# The settings


@pytest.mark.parametrize(
    ("url", "ephemeral", "kind"),
    [
        (WORKSPACE, True, ServerType.CLOUD),
        (WORKSPACE, False, ServerType.CLOUD),
        ("http://127.0.0.1:4200/api", True, ServerType.SERVER),
        ("http://127.0.0.1:4200/api", False, ServerType.SERVER),
        (None, True, ServerType.EPHEMERAL),
        (None, False, ServerType.UNCONFIGURED),
    ],
)
def test_the_url_decides_first_then_whether_a_server_may_run_here(
    url: str | None, ephemeral: bool, kind: ServerType
) -> None:
    fields = {"api_url": url, "server_allow_ephemeral_mode": ephemeral}
    assert determine_server_type(Settings(**fields)) is kind
    with temporary_settings(**fields):
        assert determine_server_type() is kind


def test_with_nothing_configured_a_server_runs_here() -> None:
    assert determine_server_type() is ServerType.EPHEMERAL


def test_a_cloud_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_CLOUD_API_URL", "https://cloud.corp:8443/prefect/api/")
    monkeypatch.setenv("PREFECT_API_URL", "https://cloud.corp:8443/prefect/api/accounts/a")
    assert determine_server_type() is ServerType.CLOUD
    monkeypatch.setenv("PREFECT_API_URL", WORKSPACE)
    assert determine_server_type() is ServerType.SERVER


def test_settings_that_cannot_be_read_are_an_error() -> None:
    Path("prefect.toml").write_text("[broken")
    with pytest.raises(InvalidSetting):
        determine_server_type()


# The URL

CLOUDS = [
    CLOUD,
    f"{CLOUD}/",
    WORKSPACE,
    "https://api.prefect.cloud//api//accounts/a",
    "HTTPS://API.Prefect.CLOUD/api",
    "https://api.prefect.cloud:443/api",
    "https://api.prefect.cloud./api",
    "https://api.prefect.cloud:/api",
    "https://me:secret@api.prefect.cloud/api",
    f"{CLOUD}?x=1",
    f"{CLOUD}#x",
    f"{CLOUD}/accounts/a.b/..workspaces",
]
OTHERS = [
    "http://127.0.0.1:4200/api",
    "http://api.prefect.cloud/api",
    "https://api.prefect.cloud",
    "https://api.prefect.cloud/",
    "https://api.prefect.cloud/apis",
    "https://api.prefect.cloud/api.evil",
    "https://api.prefect.cloud/API",
    "https://api.prefect.cloud/%61pi",
    "https://api.prefect.cloud/x/api",
    "https://api.prefect.cloud:80/api",
    "https://api.prefect.cloud:0/api",
    "https://api.prefect.cloud:8443/api",
    "https://api.prefect.cloud../api",
    "https://api.prefect.cloud.evil.example/api",
    "https://evil-api.prefect.cloud/api",
    "https://evil.api.prefect.cloud/api",
    "https://app.prefect.cloud/api",
    "https://prefect.cloud/api",
    "https://api.prefect.cloud@evil.example/api",
    "https://api.prefect.cloud:443@evil.example/api",
    "https://api.prefect.cloud%2f@evil.example/api",
    "https://api.prefect.cloud\\@evil.example/api",
    "https://evil.example/https://api.prefect.cloud/api",
    "https://evil.example?https://api.prefect.cloud/api",
    "https://evil.example#https://api.prefect.cloud/api",
    "https://evil.example/api.prefect.cloud/api",
    f"{CLOUD}/../evil",
    f"{CLOUD}/./x",
    f"{CLOUD}/%2e%2e/evil",
    f"{CLOUD}/.%2E/evil",
    f"{CLOUD}/accounts/a/..",
    "ftp://api.prefect.cloud/api",
    "//api.prefect.cloud/api",
    "api.prefect.cloud/api",
    "",
]


@pytest.mark.parametrize("url", CLOUDS)
def test_a_url_below_the_clouds_is_the_clouds(url: str) -> None:
    assert server_type_of_url(url, cloud_api_url=CLOUD) is ServerType.CLOUD


@pytest.mark.parametrize("url", OTHERS)
def test_a_look_alike_is_not(url: str) -> None:
    assert server_type_of_url(url, cloud_api_url=CLOUD) is ServerType.SERVER


PARTS = [
    "https",
    "http",
    "://",
    "/",
    "//",
    "\\",
    "@",
    ":",
    ".",
    "..",
    "%2e",
    "#",
    "?",
    "443",
    "api",
]
PARTS += ["API", "api.prefect.cloud", "evil.example", "x", "ｃ", "[", "]", "::1"]


@given(
    st.lists(st.sampled_from(PARTS), max_size=12).map("".join)
    | st.text(max_size=30).map(lambda text: f"https://api.prefect.cloud{text}")
    | st.text(max_size=30).map(lambda text: f"https://{text}api.prefect.cloud/api{text}")
)
def test_where_it_says_cloud_httpx_would_go_to_the_cloud(url: str) -> None:
    """Two readers of URLs that disagree are how look-alikes work: they must not."""
    try:
        kind = server_type_of_url(url, cloud_api_url=CLOUD)
    except ValueError:
        return  # no URL; settings refuse it as well
    if kind is ServerType.CLOUD:
        try:
            target = httpx.URL(url)
        except httpx.InvalidURL:
            return  # nothing can be sent there
        assert target.scheme == "https"
        assert target.host.removesuffix(".") == "api.prefect.cloud"
        assert target.port is None
        assert target.path.replace("//", "/").startswith("/api")
