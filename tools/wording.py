"""Find turns of phrase that plain technical English does without: ``python tools/wording.py [PATH ...]``.

Looks at docstrings, other strings and comments of Python files, and at the text of Markdown files,
notebooks and templates. Prints each place, and fails if there is one. The table is a minimum: text
without any of these can still be hard to read.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

PLACES = ("orchnb", "README.md", "CONTRIBUTING.md", "SECURITY.md", "notebooks", "docs")

INSTEAD = {
    r"\b[Ww]ho(m)?ever\b": "everyone who, the last one to",
    r"\banew\b": "again",
    r"\b[Mm]end(s|ed|ing)?\b": "fix",
    r"\b[Bb]eside\b": "next to, in addition to",
    r"\b[Mm]eanwhile\b": "in the meantime",
    r"\ball the same\b": "anyway",
    r"\bas ever\b": "as always, as before",
    r"(?<!there )\b(is|are|was|were) none\b|\bnone of (that|them|these|those)\b": "is not one of, no ...",
    r"\bof (its|their|one's|our|ours|theirs) own\b": "your own, separate",
    r"\b(is|are|was|were) to be\b": "must be, is",
    r"\bstands? in (the|a|its|their|one)\b": "is in",
    r"\bgoes with\b": "belongs to",
    r"\bcomes? of (it|this|that)\b": "results from",
    r"\b[Ss]o many (lines|bytes|seconds|times|rows|objects|characters)\b": "that many, at most",
    r"\b[Ii]t is over\b": "it has ended",
    r"\bat a time when\b": "when",
    r"\bby and by\b": "gradually",
    r"\b(hither|thither|thereof|whereof|wherein|hence|thus)\b": "say it plainly",
    r"\b[Ii]t only asks\b": "this request is read-only",
    r"\bserver in this process\b": "in-kernel server",
    r"(^|[.:;] )What (is|are|was|has|have|one|it|they|a|an|the|somebody) [^?]*$": "a plain subject",
    r"\bknows? (you|them|it) not\b": "does not know",
    r"\b(is|are) (yet|still) to come\b": "follows",
}
"""Regular expressions, and what to write instead."""

_PATTERNS = {re.compile(turn): better for turn, better in INSTEAD.items()}
_SUFFIXES = {".py", ".md", ".ipynb", ".j2"}


def found(text: str) -> Iterator[tuple[str, str]]:
    """Yield each turn that is in a line of text, and what to write instead."""
    for pattern, better in _PATTERNS.items():
        for match in pattern.finditer(text):
            yield match[0].strip(), better


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that people read, with their numbers (0 in notebooks)."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            # From Python 3.12 on, an f-string is several tokens.
            if token.type == tokenize.COMMENT or "STRING" in tokenize.tok_name[token.type]:
                for number, line in enumerate(token.string.splitlines()):
                    yield token.start[0] + number, line
    elif path.suffix == ".ipynb":
        for cell in json.loads(text)["cells"]:
            for line in "".join(cell["source"]).splitlines():
                yield 0, line
    else:
        yield from enumerate(text.splitlines(), 1)


def main(arguments: list[str]) -> int:
    """Print the places; return how many there are, at most 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path)
    paths = parser.parse_args(arguments).paths or [ROOT / place for place in PLACES]
    count = 0
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix not in _SUFFIXES or ".ipynb_checkpoints" in file.parts:
                continue
            for number, line in lines_of(file):
                for turn, better in found(line):
                    count += 1
                    print(f"{file}:{number}: {turn!r}: {better}\n    {line.strip()}")
    print(f"{count} found" if count else "The wording is plain")
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
