"""A time without a zone is in local time, in every field of the API that takes a time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no TZ variable for local time")
def test_times_without_a_zone_are_local_everywhere() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.api.local_times"],
        env={**os.environ, "TZ": "XXX3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
