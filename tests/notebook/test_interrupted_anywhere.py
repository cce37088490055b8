"""The stop button at every single moment of loading and leaving, in an IPython."""

from __future__ import annotations

import json
from pathlib import Path

from tests.servers import ROOT, run_script

SESSION = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
from tests.notebook.test_loading import WHAT_IS_IN
from tests.moments import interruptions, left_behind

NAMES = "extension", "session", "cell_hooks", "cell_tracking"
FILES = tuple(f"notebook/{name}.py" for name in NAMES)
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
before = what_is_in()
moments, wrong = 0, []
for place, came_of_it in interruptions(session, FILES):
    moments += 1
    shell.run_cell("%unload_ext orchnb")
    for name in ERRORS:
        vars(sys).pop(name, None)
    shell.InteractiveTB.tb = None
    now, left = what_is_in(), left_behind()
    # IPython prints what is raised as the first or last thing of a hook, and the cells go on.
    if came_of_it not in ("KeyboardInterrupt", "nothing") or now != before or left:
        wrong.append((place, came_of_it, now, left))
        break
print("RESULT", json.dumps({"moments": moments, "wrong": wrong}))
"""


def test_at_every_moment(tmp_path: Path) -> None:
    done = run_script(
        SESSION,
        tmp_path,
        timeout=110,
        ORCHNB_EPHEMERAL_APP="tests.notebook.apps:app",
        ORCHNB_EPHEMERAL_PREWARM="0",
        PYTHONPATH=str(ROOT),
    )
    assert done.returncode == 0, done.stderr[-5000:]
    result = json.loads(done.stdout.rsplit("RESULT", 1)[1])
    assert result["wrong"] == []
    assert result["moments"] > 100
