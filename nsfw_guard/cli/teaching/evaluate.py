"""nsfw-guard evaluate: measures models on labelled images, on harmless ones, and on what a scan has let pass."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsfw_guard.cli import show
from nsfw_guard.cli.teaching import evaluate_labelled, evaluate_recall

if TYPE_CHECKING:
    from nsfw_guard.guard import Guard
    from nsfw_guard.tools.evaluate.summary import HarmlessReport

# What only one of the three uses of the command takes.
LABELLED_ONLY = ("label", "slice", "robustness", "parity", "policy_swap")
RECALL_ONLY = ("draw", "labels")
NOT_FOR_RECALL = (
    "model", "policy", "calibration", "views", "resize", "batch", "device", "trust_guard", "process", "worst",
    *LABELLED_ONLY,
)  # fmt: skip


def add(commands: Any) -> None:
    """Add the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "evaluate",
        help="measure what models find, and how often they cover harmless images",
        description="Judges labelled images, or folders of harmless ones, with one or more models, and writes what "
        "each finds and what it would cover wrongly at every threshold: a table, report.json and report.html. "
        "Folders directly below a harmless one name slices: photograph+people/a.jpg counts as both. With "
        "--estimate-recall it draws a sample of a scan for a person to label, and estimates from these labels what the "
        "scan has found.",
    )
    command.add_argument(
        "sources", nargs="*", metavar="SOURCE",
        help="labelled images: a folder with a folder for each label, or a .csv, .jsonl or .parquet list with the "
        "columns path and label",
    )  # fmt: skip
    command.add_argument("--harmless", nargs="+", action="extend", metavar="FOLDER", help="folders of harmless images")
    command.add_argument("--estimate-recall", metavar="SCAN", help="the output of a finished scan")
    command.add_argument(
        "--model", action="append", metavar="NAME|FOLDER", help="a model; repeat it for several (default: marqo)"
    )
    command.add_argument("--policy", metavar="NAME|FILE", help="also measure this policy")
    command.add_argument("--calibration", metavar="FILE", help="what calibrate has written")
    command.add_argument("--out", default="evaluate-out", metavar="DIR", help="where the report goes")
    show.look_flags(command, several=True)
    show.run_flags(command)
    command.add_argument(
        "--worst",
        type=int,
        default=20,
        metavar="N",
        help="images on a sheet, at most 200 of them, and in report.json (default: 20)",
    )
    command.add_argument(
        "--sheet", choices=("hidden", "shown", "blurred", "none"),
        help='how these are shown; "hidden" is behind a blur until a click (default: hidden, of harmless ones shown)',
    )  # fmt: skip
    evaluate_labelled.flags(command)
    evaluate_recall.flags(command)
    show.json_flag(command)
    command.set_defaults(run=run, misused=command.error, default_of=command.get_default)


def run(args: argparse.Namespace) -> int:
    """Measure what was asked for; 2 when an image could not be judged."""
    from nsfw_guard.errors import ConfigError

    given = [name for name in ("sources", "harmless", "estimate_recall") if getattr(args, name)]
    if len(given) != 1:
        args.misused("name labelled images (SOURCE), or --harmless FOLDER, or --estimate-recall SCAN: one of them")
    for name in ("batch", "worst"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name} must be at least 1, got {getattr(args, name)}")
    _refuse_idle(args)
    if args.estimate_recall:
        return evaluate_recall.run(args)
    return evaluate_labelled.run(args, _guards(args)) if args.sources else _harmless(args)


def _refuse_idle(args: argparse.Namespace) -> None:
    """Refuse options that would change nothing."""
    from nsfw_guard.errors import ConfigError

    unused: tuple[str, ...]
    if args.estimate_recall:
        unused, cure = NOT_FOR_RECALL, "the scan has judged its images"
        unused += ("sheet",) if args.labels else ()
    else:
        unused = RECALL_ONLY if args.sources else (*LABELLED_ONLY, *RECALL_ONLY)
        cure = "it is for another use of the command, see its help"
    if idle := next((name for name in unused if getattr(args, name) != args.default_of(name)), None):
        raise ConfigError(f"--{idle.replace('_', '-')} is of no use here: {cure}")


def _harmless(args: argparse.Namespace) -> int:
    """Measure false alarms, write the report, and print the rates over all images."""
    from nsfw_guard.errors import ConfigError
    from nsfw_guard.imaging.limits import Limits
    from nsfw_guard.policy.policy import Policy
    from nsfw_guard.tools.evaluate.harmless import criteria_of, measure
    from nsfw_guard.tools.evaluate.images import collect
    from nsfw_guard.tools.evaluate.report import prepare, write
    from nsfw_guard.tools.evaluate.summary import summarise

    if args.sheet == "hidden":
        raise ConfigError("a sheet of harmless images is an image file, which cannot hide anything: write blurred")
    collection = collect(args.harmless)
    policy = None if args.policy is None else Policy.load(args.policy)
    guards = _guards(args)
    criteria = {name: criteria_of(guard, policy) for name, guard in guards.items()}
    prepare(Path(args.out), args.harmless)
    measured = measure(guards, criteria, collection.files, batch_size=args.batch)
    images = list(show.progress(measured, len(collection.files), "images"))
    report = summarise(guards, criteria, collection, images, worst=args.worst)
    _print(report, as_json=args.json)
    for note in collection.notes:
        show.say(note)
    limits = Limits(process=args.process)
    for path in write(report, Path(args.out), sheet=args.sheet or "shown", limits=limits):
        show.say(f"wrote {path}")
    return 2 if any(model.not_judged for model in report.models) else 0


def _guards(args: argparse.Namespace) -> dict[str, Guard]:
    """A guard for each model and way of looking, by name."""
    from nsfw_guard.guard import Guard
    from nsfw_guard.imaging.limits import Limits

    return {
        name: Guard.from_pretrained(
            model,
            calibration=args.calibration,
            views=views,
            resize=args.resize,
            device=args.device,
            limits=Limits(process=args.process),
            trust_guard=args.trust_guard,
        )
        for name, (model, views) in show.looks(args).items()
    }


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
        evaluate_labelled.say_not_judged(model.name, model.not_judged)
