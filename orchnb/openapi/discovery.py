"""Find a server's OpenAPI document, and the URLs of its operations."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import httpx

from orchnb.errors import PrefectHTTPStatusError, UnexpectedAnswer
from orchnb.file_cache import FileCache, user_cache_folder
from orchnb.http.calls import Call, Path, Steps, path
from orchnb.openapi.parser import (
    LARGEST_DOCUMENT,
    PLACEHOLDER,
    Conventions,
    Description,
    quoted_path,
    read_description,
)

_DOCUMENT = "openapi.json"
_ABSENT = frozenset({404, 405})


@dataclass(frozen=True)
class Location:
    """Where a document was found: below ``url``, where its operations are too.

    This is the API URL, so nothing in a document can send a request, and the credentials in it, to
    another server or outside the API. An in-process app, which owns all of its paths, can also be called
    at its root.
    """

    url: str
    is_api: bool = True

    @property
    def document(self) -> Path:
        """The document's path, in the form that a client accepts."""
        return path("/openapi.json") if self.is_api else Path(f"{self.url}/{_DOCUMENT}")

    def address(self, servers: tuple[str, ...], template: str) -> str:
        """Return an operation's URL, in the form that a client accepts: below the API, or absolute.

        ``servers`` are the URLs in the document; paths can begin with the API's own path in them. Behind
        a proxy they have another address, and are ignored.
        """
        whole = f"{self._server_path(servers)}{template}"
        if not self.is_api:
            return f"{self.url}{whole}"
        prefix = urlsplit(self.url).path.rstrip("/")
        return whole[len(prefix) :] if whole.startswith(f"{prefix}/") else template

    def _server_path(self, servers: tuple[str, ...]) -> str:
        here = urlsplit(f"{self.url}/{_DOCUMENT}")
        for server in servers:
            with suppress(ValueError):  # not a URL
                there = urlsplit(urljoin(here.geturl(), server))
                if (there.scheme, there.netloc) == (here.scheme, here.netloc):
                    found = quoted_path(there.path.rstrip("/"))
                    if found is not None and "{" not in found:
                        return found
        return ""


class FoundDescription(NamedTuple):
    """A server's description, and where it was found."""

    description: Description
    location: Location

    def has(self, method: str, url: str) -> bool:
        """Return whether an operation with this method has this URL."""
        asked = urlsplit(url).path.split("/")
        for operation in self.description.operations:
            if operation.method == method:
                address = self.location.address(self.description.servers, operation.path)
                whole = address if "://" in address else f"{self.location.url}{address}"
                if _fits(asked, urlsplit(whole).path.split("/")):
                    return True
        return False


def _fits(segments: list[str], template: list[str]) -> bool:
    return len(segments) == len(template) and all(
        expected == segment or PLACEHOLDER.search(expected)
        for segment, expected in zip(segments, template, strict=True)
    )


def document_cache() -> FileCache:
    """Return the cache of documents on disk, so that each server version's is fetched only once."""
    return FileCache(lambda: user_cache_folder("openapi"), suffix=".json", largest=LARGEST_DOCUMENT)


def document_key(api_url: str, version: str) -> str:
    """Return the cache key of the document of a server with this version and URL."""
    url = httpx.URL(api_url).copy_with(userinfo=b"", fragment=None)
    return hashlib.sha256(f"{url}\n{version}".encode("utf-8", "replace")).hexdigest()


def find_description(
    api_url: str,
    cache: FileCache | None = None,
    version: Callable[[], Steps[str | None]] | None = None,
    *,
    in_process: bool = False,
    refresh: bool = False,
    conventions: Conventions | None = None,
) -> Generator[Call[Any], Any, FoundDescription]:
    """Get a server's description; if its version's document is cached, only the version is requested.

    Args:
        cache: documents by version; None if the version does not identify the document.
        version: returns the calls that get the server's version; None with no ``cache``.
        in_process: whether the server is an in-process app.
        refresh: whether to fetch the document even if it is cached.
        conventions: what is known of some servers, but not in their documents.

    Raises:
        UnexpectedAnswer: the document found is not a usable OpenAPI document.
        PrefectHTTPStatusError: there is no document, or the server refuses the request.
    """
    url = str(httpx.URL(api_url).copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/")
    api = Location(url)
    key = None
    if cache is not None and version is not None:
        number = yield from version()
        key = document_key(api_url, number) if number else None
        kept = cache.read(key) if key and not refresh else None
        if kept is not None:
            with suppress(UnexpectedAnswer):  # the cached document is broken; fetch it again
                return FoundDescription(read_description(kept, conventions), api)
    places = [api]
    if in_process:
        places.append(Location(str(httpx.URL(url).copy_with(path="/")).rstrip("/"), is_api=False))
    for place in places:
        try:
            content = yield from Call(
                "GET",
                place.document,
                lambda response: response.content,
                missing="OpenAPI document here, which describes a server's operations",
                largest=LARGEST_DOCUMENT,
            )
            description = read_description(content, conventions)
        except (PrefectHTTPStatusError, UnexpectedAnswer) as exc:
            absent = isinstance(exc, UnexpectedAnswer) or exc.status_code in _ABSENT
            if not absent or place is places[-1]:
                raise
        else:
            if cache is not None and key:
                cache.write(key, content)
            return FoundDescription(description, place)
    raise AssertionError("the last place has returned or raised")
