"""nsfw-guard evaluate: measures models on harmless images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsfw_guard.cli import show

if TYPE_CHECKING:
    from nsfw_guard.guard import Guard
    from nsfw_guard.tools.evaluate.summary import HarmlessReport


def add(commands: Any) -> None:
    """Add the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "evaluate",
        help="measure how often models cover harmless images",
        description="Judges folders of harmless images with one or more models, and writes how often each would cover "
        "one, at every threshold of its record: a table, report.json, report.html, and a sheet of the highest scores. "
        "Folders directly below a given one name slices: photograph+people/a.jpg counts as both.",
    )
    command.add_argument(
        "--harmless",
        nargs="+",
        action="extend",
        required=True,
        metavar="FOLDER",
        help="folders of harmless images",
    )
    command.add_argument(
        "--model", action="append", metavar="NAME|FOLDER", help="a model; repeat it for several (default: marqo)"
    )
    command.add_argument("--policy", metavar="NAME|FILE", help="also measure this policy")
    command.add_argument("--out", default="evaluate-out", metavar="DIR", help="where the report goes")
    show.look_flags(command)
    show.run_flags(command)
    command.add_argument(
        "--worst",
        type=int,
        default=20,
        metavar="N",
        help="images on a sheet, at most 200 of them, and in report.json (default: 20)",
    )
    command.add_argument(
        "--sheet", choices=("shown", "blurred", "none"), default="shown", help="how these are shown (default: shown)"
    )
    show.json_flag(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, write the report, and print the rates over all images; 2 when an image could not be judged."""
    from nsfw_guard.errors import ConfigError
    from nsfw_guard.imaging.limits import Limits
    from nsfw_guard.policy.policy import Policy
    from nsfw_guard.tools.evaluate.harmless import criteria_of, measure
    from nsfw_guard.tools.evaluate.images import collect
    from nsfw_guard.tools.evaluate.report import prepare, write
    from nsfw_guard.tools.evaluate.summary import summarise

    for name in ("batch", "worst"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name} must be at least 1, got {getattr(args, name)}")
    collection = collect(args.harmless)
    policy = None if args.policy is None else Policy.load(args.policy)
    guards = {name: _guard(name, args) for name in dict.fromkeys(args.model or ["marqo"])}
    criteria = {name: criteria_of(guard, policy) for name, guard in guards.items()}
    prepare(Path(args.out), args.harmless)
    measured = measure(guards, criteria, collection.files, batch_size=args.batch)
    images = list(show.progress(measured, len(collection.files), "images"))
    report = summarise(guards, criteria, collection, images, worst=args.worst)
    _print(report, as_json=args.json)
    for note in collection.notes:
        show.say(note)
    limits = Limits(process=args.process)
    for path in write(report, Path(args.out), sheet=args.sheet, limits=limits):
        show.say(f"wrote {path}")
    return 2 if any(model.not_judged for model in report.models) else 0


def _guard(name: str, args: argparse.Namespace) -> Guard:
    from nsfw_guard.guard import Guard
    from nsfw_guard.imaging.limits import Limits

    return Guard.from_pretrained(
        name,
        views=args.views,
        resize=args.resize,
        device=args.device,
        limits=Limits(process=args.process),
        trust_guard=args.trust_guard,
    )


def _print(report: HarmlessReport, *, as_json: bool) -> None:
    """The rates of all slices as JSON, or those over all images as a table."""
    from nsfw_guard.tools.evaluate.page import percent

    if as_json:
        for model in report.models:
            for row in model.rows:
                show.as_json(row.to_dict())
    else:
        rows = [row for model in report.models for row in model.rows if not row.slice]
        cells = [
            (row.model, row.criterion.label, row.criterion.threshold, str(row.blocked.count),
             percent(row.blocked), percent(row.review))
            for row in rows
        ]  # fmt: skip
        show.table(cells, ("model", "category", "threshold", "images", "blocked (95%)", "blocked or review (95%)"))
    for model in report.models:
        if model.not_judged:
            first = model.not_judged[0]
            show.say(f"{model.name}: {len(model.not_judged)} not judged, such as {first.path} ({first.why})")
