"""The stop button at every single moment of loading and leaving, in an IPython of this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

SESSION = """
import gc, json, sys
from IPython.core.interactiveshell import InteractiveShell
from tests.notebook.test_loading import WHAT_IS_IN
from tests.moments import InterruptAt, interrupted, left_behind

FILES = ("notebook/extension.py", "notebook/hooks.py", "notebook/cells.py")
ERRORS = "last_type", "last_value", "last_traceback", "last_exc"

shell = InteractiveShell.instance()
shell.run_line_magic("colors", "nocolor")


def run(cell):
    result = shell.run_cell(cell)
    if error := result.error_before_exec or result.error_in_exec:
        raise error


def session():
    run("%load_ext orchnb")
    run("import orchnb; orchnb.get_client(sync_client=True).hello()")
    run("%unload_ext orchnb")


def what_is_in():
    return shell.run_cell(WHAT_IS_IN).result


session()
gc.freeze()  # or what was imported would be looked through at each collection
before = what_is_in()
number, wrong = 0, []
while True:
    number += 1
    trace = InterruptAt(number, FILES)
    came_of_it = interrupted(session, trace)
    if not trace.place:
        break
    shell.run_cell("%unload_ext orchnb")
    for name in ERRORS:
        vars(sys).pop(name, None)
    shell.InteractiveTB.tb = None
    now, left = what_is_in(), left_behind()
    # IPython prints what is raised as the first or last thing of a hook, and the cells go on.
    if came_of_it not in ("KeyboardInterrupt", "nothing") or now != before or left:
        wrong.append((trace.place, came_of_it, now, left))
        break
print("RESULT", json.dumps({"moments": number, "wrong": wrong}))
"""

APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b'"ok"'})
"""


@pytest.mark.timeout(180)
def test_at_every_moment(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(APP)
    (tmp_path / "session.py").write_text(SESSION)
    environment = {
        **os.environ,
        "ORCHNB_EPHEMERAL_APP": "small:app",
        "ORCHNB_EPHEMERAL_PREWARM": "0",
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)]),
    }
    done = subprocess.run(
        [sys.executable, "session.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    result = json.loads(done.stdout.rsplit("RESULT", 1)[1])
    assert result["wrong"] == []
    assert result["moments"] > 100
