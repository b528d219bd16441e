"""nsfw-guard doctor: what is installed and what should be mended."""

from __future__ import annotations

import argparse
from typing import Any

from nsfw_guard.cli import show


def add(commands: Any) -> None:
    """Adds the command."""
    command: argparse.ArgumentParser = commands.add_parser("doctor", help="what is installed, what should be mended")
    show.json_flag(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints what was found; exit code 1 when something should be mended."""
    from nsfw_guard.tools.doctor import examine, warnings

    found, mend = examine(), warnings()
    if args.json:
        show.as_json({**found, "warnings": mend})
    else:
        show.table(list(found.items()), ("what", "found"))
        for warning in mend:
            show.say(f"WARNING  {warning}")
    return 1 if mend else 0
