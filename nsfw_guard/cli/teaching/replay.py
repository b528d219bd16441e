"""nsfw-guard replay: what another policy would have said of a finished scan."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsfw_guard.cli import show

if TYPE_CHECKING:
    from nsfw_guard.tools.teaching.replay import Replayed


def add(commands: Any) -> None:
    """Add the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "replay",
        help="decide anew on the scores of a scan, by another policy or calibration",
        description="Counts how many images of a finished scan would have another outcome. No model is run. Scores are "
        "those of the frame that decided: of an animated image, another frame may decide by another policy.",
    )
    command.add_argument("scan", metavar="SCAN", help="the --out of nsfw-guard scan")
    command.add_argument("--policy", default="default", metavar="NAME|FILE", help="the new policy (default: default)")
    command.add_argument("--calibration", metavar="FILE", help="the new calibration")
    command.add_argument("--decisions", metavar="FILE", help="a CSV with key and decision, such as appealed")
    command.add_argument("--flips", metavar="FILE", help="write each image with another outcome to this file, as JSON")
    command.add_argument("--html", metavar="FILE", help="write a page with these images, behind a blur")
    show.json_flag(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Count what would change."""
    from nsfw_guard.calibration import Calibration
    from nsfw_guard.errors import ConfigError
    from nsfw_guard.policy.policy import Policy
    from nsfw_guard.tools.teaching.replay import Replayed, read_decisions, replay
    from nsfw_guard.tools.teaching.replay_page import write

    for name in (args.flips, args.html):
        if name and Path(name).exists():
            raise ConfigError(f"{name!r} is there already: name a new file")
    calibration = Calibration.load(args.calibration) if args.calibration else None
    decisions = read_decisions(Path(args.decisions)) if args.decisions else None
    counted = Replayed()
    flips = list(
        replay(Path(args.scan), Policy.load(args.policy), counted, calibration=calibration, decisions=decisions)
    )
    if args.flips:
        lines = "".join(json.dumps(flip.to_dict(), sort_keys=True) + "\n" for flip in flips)
        Path(args.flips).write_text(lines, encoding="utf-8")
    if args.html:
        write(Path(args.scan), counted, flips, Path(args.html))
    if args.json:
        show.as_json(counted.to_dict())
    else:
        _print(counted)
    return 0


def _print(counted: Replayed) -> None:
    rows = [(before, after, str(n)) for (before, after), n in sorted(counted.counts.items())]
    show.table(rows, ("before", "after", "images"))
    for (category, before, after), count in sorted(counted.categories.items()):
        show.say(f"{count} of {category}: {before} becomes {after}")
    for (decision, before, after), count in sorted(counted.decisions.items()):
        show.say(f"{count} that were {decision}: {before} becomes {after}")
    for why, count in counted.kept.items():
        show.say(f"{count} keep their outcome: {why}")
