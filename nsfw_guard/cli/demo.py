"""nsfw-guard demo: the shapes world, offline."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nsfw_guard.cli import show


def add(commands: Any) -> None:
    """Add the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="draw a dozen prompts, guard them, write a contact sheet",
        description="Draws a dozen prompts with a small real pipeline, judges each image, and writes a contact sheet "
        "as PNG and HTML. Needs no network. The policy is 'a red disc is unsafe', unless another model is named.",
    )
    command.add_argument("prompts", nargs="*", metavar="PROMPT", help="such as 'a small red disc on white'")
    command.add_argument(
        "--model", default="demo-shapes", metavar="NAME|FOLDER", help="what judges them (default: demo-shapes)"
    )
    command.add_argument("--action", choices=("block", "blur", "pixelate", "replace", "flag"), default="blur")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--out", default="demo-out", metavar="DIR", help="where the contact sheet goes")
    show.json_flag(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draw and judge the prompts, print one line per image, and write the sheet."""
    from nsfw_guard.demo import sheet
    from nsfw_guard.demo.run import PROMPTS, demonstrate, hush, notice_for

    show.say(notice_for(args.model))
    hush()
    prompts = tuple(args.prompts) or PROMPTS
    result = demonstrate(model=args.model, action=args.action, prompts=prompts, seed=args.seed)
    shown = list(show.progress(result, len(prompts), "images"))
    rows = [
        (s.prompt, "-" if s.verdict.score is None else f"{s.verdict.score:.3f}", s.verdict.outcome.name, s.action)
        for s in shown
    ]
    if args.json:
        for one in shown:
            show.as_json({"prompt": one.prompt, "action": one.action, **one.verdict.to_dict()})
    else:
        show.table(rows, ("prompt", "score", "verdict", "action"))
    png, page = sheet.write(shown, Path(args.out), notice=notice_for(args.model))
    show.say(f"contact sheet: {png} and {page}")
    return 0
