"""nsfw-guard report: what a scan has found, as one page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="write what a scan has found as one page and one image",
        description="Writes report.html and report.png into the folder of a finished scan: counts, scores, errors, and "
        "the images that a person should look at: the highest scores, those nearest to the threshold, a random sample, "
        "and near-duplicates.",
    )
    command.add_argument("scan", metavar="DIR", help="the --out of nsfw-guard scan")
    command.add_argument(
        "--sheet", choices=("hidden", "shown", "blurred", "none"), default="hidden",
        help="images are hidden until they are clicked, shown, blurred for good, or left out (default: hidden)",
    )  # fmt: skip
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the page and the image, and print their paths."""
    from nsfw_guard.tools.screening.reporting.report import write

    for path in write(Path(args.scan), sheets=args.sheet):
        print(path)
    return 0
