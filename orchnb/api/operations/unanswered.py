"""Keys of creates that have failed, so that the same call, made again, cannot create a second object.

A create gets a new key, by which the server recognizes a request that is sent again. If the call
fails, it is unknown whether the object was created. When the user then runs the same cell again, the same
call sends the same key: the server returns the object if it exists, and creates it if not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from orchnb.api.methods import warn_caller
from orchnb.concealed import concealed
from orchnb.http.calls import Call
from orchnb.http.json_values import revealed
from orchnb.http.response import PrefectResponse

T = TypeVar("T")

LONGEST = 3600.0
"""Seconds after which a call is taken for a new one."""

_MOST = 1000


class FailedKeys:
    """The keys of failed creates, each with a digest of what was sent, for an hour. In this process only.

    Can be used in all threads.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._kept: deque[tuple[float, bytes, str]] = deque(maxlen=_MOST)

    def take(self, digest: bytes) -> str | None:
        """Return the key of a failed create of the same object, once; None without one."""
        for entry in list(self._kept):
            when, known, key = entry
            if known == digest and self._now() - when < LONGEST:
                try:
                    self._kept.remove(entry)
                except ValueError:  # another thread has taken it
                    continue
                return key
        return None

    def keep(self, digest: bytes, key: str) -> None:
        """Keep the key of a create that has failed."""
        self._kept.append((self._now(), digest, key))


failed_keys: FailedKeys = FailedKeys()


def created_with_keys(
    create: Call[T], field: str = "idempotency_key"
) -> Generator[Call[Any], Any, T]:
    """Create objects that have a key in this field of the body, or of each item of the body.

    An object without one gets a new key, or that of the same object in an earlier call that failed.
    """
    is_list = isinstance(create.json, list)
    bodies = create.json if is_list else [create.json]
    objects: list[dict[str, Any]] = concealed([concealed(dict(body)) for body in bodies])
    del bodies  # what is sent is not shown in tracebacks
    used: list[tuple[bytes, str]] = []
    again = False
    for each in objects:
        if field not in each:
            digest = _digest(create.path, each)
            known = failed_keys.take(digest)
            again = again or known is not None
            each[field] = known or str(uuid.uuid4())
            used.append((digest, each[field]))
    existed = False

    def read(response: PrefectResponse) -> T:
        nonlocal existed
        existed = again and response.status_code == 200  # 201 if it was created now
        return create.read(response)

    call = dataclasses.replace(create, json=objects if is_list else objects[0], read=read)
    done = False
    try:
        result: T = yield from call
        done = True
    finally:  # also if the user stops the cell
        if not done:
            for digest, key in used:
                failed_keys.keep(digest, key)
    if existed and not is_list:
        warn_caller(
            "It was created before, by the same call whose response was lost; there is no second one. "
            f"To create another one, run the call again or give an {field}."
        )
    return result


def _digest(path: str, body: Any) -> bytes:
    """Return a digest of the object in a request; the object itself is not kept."""
    text = json.dumps([path, body], sort_keys=True, default=revealed)
    return hashlib.sha256(text.encode()).digest()
