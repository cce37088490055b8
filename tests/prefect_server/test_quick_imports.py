"""jsonschema without its grammar: that is there when it is used, and for everybody else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.servers import run_script

pytest.importorskip("rfc3987_syntax")

VALUES = ["http://example.org/a", "//example.org/ä", "http://[", "no iri at all", "", "a:b#c"]

CHECK = f"""
import json, sys, threading
from importlib import import_module

def checked():
    from jsonschema import Draft202012Validator
    checker = Draft202012Validator.FORMAT_CHECKER
    return [
        [checker.conforms(value, kind) for value in {VALUES!r}] for kind in ("iri", "iri-reference")
    ]
"""


def answer(code: str, folder: Path) -> object:
    done = run_script(CHECK + code, folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_grammar_is_built_at_its_first_use(tmp_path: Path) -> None:
    code = """
from orchnb.prefect_server.quick_imports import import_jsonschema
import_jsonschema()
before = sorted(name for name in ("rfc3987_syntax", "lark") if name in sys.modules)
found = checked()
import rfc3987_syntax
print(json.dumps([before, found, rfc3987_syntax.is_valid_syntax_iri("a:b")]))
"""
    real = answer("print(json.dumps(checked()))", tmp_path)
    assert answer(code, tmp_path) == [[], real, True]


# Others import it while it is a stand-in, and keep what they have got.
OTHERS = {
    "a function": "from rfc3987_syntax import is_valid_syntax_iri as function",
    "the module": "import rfc3987_syntax; function = rfc3987_syntax.is_valid_syntax_iri",
    "a submodule": "from rfc3987_syntax.syntax_helpers import is_valid_syntax_iri as function",
    "what it imported": "import rfc3987_syntax.utils; function = rfc3987_syntax.is_valid_syntax_iri",
}


@pytest.mark.parametrize("other", OTHERS)
def test_others_get_the_real_module_in_the_meantime(tmp_path: Path, other: str) -> None:
    code = f"""
from orchnb.prefect_server import quick_imports
with quick_imports._grammar_at_first_use():
    {OTHERS[other]}
    import jsonschema
import rfc3987_syntax
valid = rfc3987_syntax.is_valid_syntax("iri", "a:b")
print(json.dumps([function("a:b"), function("["), valid, checked()]))
"""
    real = answer("print(json.dumps(checked()))", tmp_path)
    assert answer(code, tmp_path) == [True, False, True, real]


@pytest.mark.parametrize("module", ["jsonschema", "rfc3987_syntax"])
def test_what_is_imported_already_stays(tmp_path: Path, module: str) -> None:
    code = f"""
import {module}
from orchnb.prefect_server.quick_imports import import_jsonschema
import_jsonschema()
print(json.dumps("rfc3987_syntax" in sys.modules))
"""
    assert answer(code, tmp_path) is True
