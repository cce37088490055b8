"""Where a described operation is, and under which name its document is kept."""

from __future__ import annotations

import pytest

from orchnb.openapi.discovery import Location, document_key


@pytest.mark.parametrize(
    ("url", "servers", "path", "address"),
    [
        ("http://h/api", [], "/flows", "/flows"),
        ("http://h/api", ["/api"], "/flows/", "/flows/"),
        ("http://h/api", ["/"], "/api/flows", "/flows"),
        ("http://h/api", [], "/api/flows", "/flows"),
        ("http://h/api", ["http://h/api"], "/flows", "/flows"),
        ("http://h/api", ["http://h/api/v2"], "/flows", "/v2/flows"),
        ("http://h/api", ["v2"], "/flows", "/v2/flows"),
        ("http://h/api", ["/apix"], "/flows", "/flows"),
        ("https://hub/user/me/api", ["/api"], "/flows", "/flows"),  # behind a proxy
        ("http://h/api", ["http://evil.example/api", "//evil.example"], "/flows", "/flows"),
        ("http://h/api", ["http://h:81/api/v2", "http://h@evil/api"], "/flows", "/flows"),
        ("http://h/api", ["/api/%2e%2e/admin", "/api/../admin", "http://[", "{x}"], "/f", "/f"),
        ("http://h", ["/v1"], "/flows", "/v1/flows"),
        ("http://h", [], "//flows", "//flows"),
    ],
)
def test_operations_stay_below_the_api(
    url: str, servers: list[str], path: str, address: str
) -> None:
    assert Location(url).address(tuple(servers), path) == address


def test_an_app_in_this_process_may_be_at_its_root() -> None:
    place = Location("http://here.invalid", is_api=False)
    assert place.address((), "/items") == "http://here.invalid/items"
    assert place.address(("/v1",), "/items") == "http://here.invalid/v1/items"
    assert place.address(("http://evil.example/v1",), "/items") == "http://here.invalid/items"


def test_what_is_filed_under_tells_nothing_of_the_address() -> None:
    key = document_key("http://user:secret@server/api", "1")
    assert key == document_key("http://server/api", "1")
    assert key != document_key("http://server/api", "2")
    assert len(key) == 64
