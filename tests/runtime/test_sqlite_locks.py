from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from orchnb.runtime import sqlite_locks


@pytest.mark.parametrize(
    ("looks", "is_reported"),
    [
        ([False], False),
        ([True, False], False),
        # Two short transactions in a row are not a wait.
        ([True, True, False], False),
        ([True] * 5 + [False], True),
    ],
)
def test_only_a_lock_that_stays_is_reported(
    looks: list[bool], is_reported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[str] = []
    seen = iter(looks)
    monkeypatch.setattr(sqlite_locks, "_is_locked", lambda _: next(seen))
    monkeypatch.setattr(sqlite_locks, "report_wait", reports.append)
    monkeypatch.setattr(sqlite_locks, "_LOOK_EVERY", 0)
    anyio.run(sqlite_locks.until_writable, Path("prefect.db"))
    assert any(reports) is is_reported
    assert reports[-1] == ""
