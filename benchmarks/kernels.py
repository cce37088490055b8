"""How long cells take in fresh kernels."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for the kernels and servers of the tests


def cells(*sources: str, pause: float = 0.0) -> float:
    """The seconds that the cells take in a fresh kernel, without the pause that comes before each but
    the first. The kernel's end takes with it what the cells have started."""
    import psutil

    from tests.notebook.kernels import kernel

    settings = {
        "PREFECT_HOME": os.environ["PREFECT_HOME"],
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # By default Prefect's client gives up after 20 s, which a busy machine may need.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "110",
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with kernel(Path(folder), **settings) as cell:
            taken = 0.0
            for number, source in enumerate(sources):
                time.sleep(pause if number else 0)
                began = time.perf_counter()
                shown = cell(source, timeout=120)
                taken += time.perf_counter() - began
                assert not shown.errors, shown.traceback
            started = psutil.Process(int(cell.value("import os\nos.getpid()"))).children(True)
            cell.client.shutdown()
            deadline = time.monotonic() + 10
            while cell.manager.is_alive() and time.monotonic() < deadline:
                time.sleep(0.05)
        for process in started:
            if process.is_running():
                process.kill()
    return taken
