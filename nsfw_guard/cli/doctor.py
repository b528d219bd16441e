"""nsfw-guard doctor: the installation, its problems, and the diffusers pipelines that are covered."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from nsfw_guard.cli import show


def add(commands: Any) -> None:
    """Add the command."""
    command: argparse.ArgumentParser = commands.add_parser("doctor", help="show the installation and its problems")
    command.add_argument(
        "--diffusers", action="store_true", help="list how each pipeline class of the installed diffusers is covered"
    )
    command.add_argument(
        "--returns", action="store_true", help="list what each of these classes returns, and how each part is treated"
    )
    show.json_flag(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the findings; the exit code is 1 when there is a problem."""
    if args.returns:
        return _returns(args)
    return _diffusers(args) if args.diffusers else _installed(args)


def _installed(args: argparse.Namespace) -> int:
    from nsfw_guard.tools.doctor import examine, warnings

    facts, mend = examine(), warnings()
    if args.json:
        show.as_json({**facts, "warnings": mend})
    else:
        show.table(list(facts.items()), ("what", "found"))
        for warning in mend:
            show.say(f"WARNING  {warning}")
    return 1 if mend else 0


def _diffusers(args: argparse.Namespace) -> int:
    from nsfw_guard.pipelines.seams import SEAMS
    from nsfw_guard.pipelines.survey import survey
    from nsfw_guard.tools.doctor import installed

    by_class = survey()
    visual = {name: one for name, one in by_class.items() if one.visual}
    bare = {name: one.reason for name, one in visual.items() if not one.seam}
    if args.json:
        classes = {name: vars(one) for name, one in by_class.items()}
        show.as_json(
            {"diffusers": installed("diffusers"), "visual": len(visual), "uncovered": bare, "classes": classes}
        )
        return 0
    counts = Counter(one.seam for one in visual.values())
    rows = [(str(counts[seam]), seam, where) for seam, where in SEAMS.items() if counts[seam]]
    show.table([*rows, (str(len(bare)), "none", "refused by attach")], ("classes", "seam", "judged at"))
    show.table(sorted(bare.items()), ("not covered", "why"))
    slots = sum(one.slot for one in visual.values())
    show.say(
        f"diffusers {installed('diffusers')}: {len(visual)} visual pipeline classes, {len(visual) - len(bare)} covered,"
        f" {len(bare)} refused; {slots} have a safety_checker slot; {len(by_class) - len(visual)} more return no images"
    )
    return 0


def _returns(args: argparse.Namespace) -> int:
    from nsfw_guard.pipelines.returns import Fate, returns
    from nsfw_guard.tools.doctor import installed

    parts = returns()
    if args.json:
        show.as_json({"diffusers": installed("diffusers"), "parts": [{**vars(p), "fate": p.fate.value} for p in parts]})
        return 0
    counts = Counter(part.fate for part in parts)
    show.table([(str(counts[fate]), fate.value) for fate in Fate if counts[fate]], ("parts", "treatment"))
    rest = [part for part in parts if part.fate in {Fate.OTHER, Fate.HELD}]
    show.table([(p.cls, p.name, p.source, p.fate.value) for p in rest], ("class", "part", "written as", "and it"))
    return 0
