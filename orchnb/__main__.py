"""The command ``orchnb``, also ``python -m orchnb``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from orchnb._version import __version__


def run_command(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments; by default those of the process."""
    parser = argparse.ArgumentParser(
        "orchnb", description="A notebook client for Prefect-compatible orchestration servers."
    )
    parser.add_argument("--version", action="version", version=f"orchnb {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    commands.add_parser(
        "doctor",
        help="describe this installation for a bug report: versions, settings and their sources, the "
        "server's answer, and what is known not to work; without secrets",
    )
    parser.parse_args(arguments)

    from orchnb.diagnosis import diagnose  # late, so that --help is fast

    sys.stdout.write(f"{diagnose()}\n")


if __name__ == "__main__":
    run_command()
