"""Where a server's OpenAPI document is, and to which addresses its operations belong."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from orchnb.api.calls import Call, Path, json_of, path
from orchnb.api.described.document import (
    LARGEST_DOCUMENT,
    Description,
    quoted_path,
    read_description,
)
from orchnb.errors import PrefectHTTPStatusError, UnexpectedAnswer
from orchnb.file_cache import FileCache, user_cache_folder
from orchnb.http.body import LARGEST_SMALL_ANSWER

_DOCUMENT = "openapi.json"
_ABSENT = frozenset({404, 405})


@dataclass(frozen=True)
class Place:
    """Where a document was found: below ``url``, which is where its operations are as well.

    That is the API's URL, so nothing that a document says can lead a request, and the credentials that
    go with it, to another server or out of the API. An app in this process, whose addresses are all its
    own, may also be asked at its root.
    """

    url: str
    is_api: bool = True

    @property
    def document(self) -> Path:
        """Where the document is, as a client takes it."""
        return path("/openapi.json") if self.is_api else Path(f"{self.url}/{_DOCUMENT}")

    def address(self, servers: tuple[str, ...], template: str) -> str:
        """Where an operation is, as a client takes it: below the API, or else a whole URL.

        ``servers`` are the document's, by which paths may begin with the API's own; behind a proxy they
        are those of another address, and do not count.
        """
        whole = f"{self._server_path(servers)}{template}"
        if not self.is_api:
            return f"{self.url}{whole}"
        prefix = urlsplit(self.url).path.rstrip("/")
        return whole[len(prefix) :] if whole.startswith(f"{prefix}/") else template

    def _server_path(self, servers: tuple[str, ...]) -> str:
        here = urlsplit(f"{self.url}/{_DOCUMENT}")
        for server in servers:
            with suppress(ValueError):  # it is no address
                there = urlsplit(urljoin(here.geturl(), server))
                if (there.scheme, there.netloc) == (here.scheme, here.netloc):
                    found = quoted_path(there.path.rstrip("/"))
                    if found is not None and "{" not in found:
                        return found
        return ""


Found = tuple[Description, Place]


def document_cache() -> FileCache:
    """Documents on disk, so that each version of a server is asked for its own once."""
    return FileCache(lambda: user_cache_folder("openapi"), suffix=".json", largest=LARGEST_DOCUMENT)


def document_key(api_url: str, version: str) -> str:
    """What the document of a server of this version, at this address, is filed under."""
    url = httpx.URL(api_url).copy_with(userinfo=b"", fragment=None)
    return hashlib.sha256(f"{url}\n{version}".encode("utf-8", "replace")).hexdigest()


def find_description(
    api_url: str, cache: FileCache | None, *, in_process: bool, refresh: bool
) -> Generator[Call[Any], Any, Found]:
    """The calls that get what a server says of itself: one for its version if that is in the cache.

    Args:
        cache: where documents are kept by version; None if the version does not tell which one it is.
        in_process: whether the server is an app in this process.
        refresh: whether to get it from the server in any case.

    Raises:
        UnexpectedAnswer: what was found is not an OpenAPI document that can be used.
        PrefectHTTPStatusError: there is none, or the server refuses it.
    """
    url = str(httpx.URL(api_url).copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/")
    api = Place(url)
    key = None
    if cache is not None:
        version = yield from server_version()
        key = document_key(api_url, version) if version else None
        kept = cache.read(key) if key and not refresh else None
        if kept is not None:
            with suppress(UnexpectedAnswer):  # it is broken, and there is a better one to be had
                return read_description(kept), api
    places = [api]
    if in_process:
        places.append(Place(str(httpx.URL(url).copy_with(path="/")).rstrip("/"), is_api=False))
    for place in places:
        try:
            content = yield from Call(
                "GET",
                place.document,
                lambda response: response.content,
                missing="OpenAPI document here, by which a server says what it can do",
                largest=LARGEST_DOCUMENT,
            )
            description = read_description(content)
        except (PrefectHTTPStatusError, UnexpectedAnswer) as exc:
            absent = isinstance(exc, UnexpectedAnswer) or exc.status_code in _ABSENT
            if not absent or place is places[-1]:
                raise
        else:
            if cache is not None and key:
                cache.write(key, content)
            return description, place
    raise AssertionError("the last place has returned or raised")


def server_version() -> Generator[Call[Any], Any, str | None]:
    """The server's version, if it has one as Prefect's server does."""
    try:
        version = yield from Call(
            "GET", path("/admin/version"), json_of, largest=LARGEST_SMALL_ANSWER
        )
    except PrefectHTTPStatusError as exc:
        if exc.status_code >= 500:
            raise  # it would have no document for us either
        return None
    except UnexpectedAnswer:
        return None
    return version if isinstance(version, str) and 0 < len(version) < 200 else None
