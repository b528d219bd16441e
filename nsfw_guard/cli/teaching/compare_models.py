"""nsfw-guard compare-models: two models on the same images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsfw_guard.cli import show

if TYPE_CHECKING:
    from nsfw_guard.guard import Guard


def add(commands: Any) -> None:
    """Add the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "compare-models",
        help="show where two models agree, where not, and what each costs",
        description="Judges images with two models, each with its own calibration if it has one, decodes each image "
        "once for both, and counts where they decide alike. Which of them is right, evaluate shows on labelled images.",
    )
    command.add_argument("first", metavar="A", help="a model: a name or a folder")
    command.add_argument("second", metavar="B", help="the other one")
    command.add_argument(
        "--on", nargs="+", required=True, metavar="SOURCE",
        help="folders, a .csv, .jsonl or .parquet list with the column path, or finished scans",
    )  # fmt: skip
    command.add_argument("--policy", default="default", metavar="NAME|FILE", help="of both (default: default)")
    command.add_argument("--calibration-a", metavar="FILE", help="what calibrate has written for A")
    command.add_argument("--calibration-b", metavar="FILE", help="what calibrate has written for B")
    command.add_argument("--out", metavar="DIR", help="write report.html and flips.jsonl into a folder")
    command.add_argument(
        "--sheet", choices=("hidden", "none"), default="hidden",
        help="images that differ in report.html: hidden behind a blur, or none (default: hidden)",
    )  # fmt: skip
    show.look_flags(command)
    show.run_flags(command)
    show.json_flag(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare, and print the table; 2 when a model could not judge an image."""
    from nsfw_guard.errors import ConfigError
    from nsfw_guard.tools.evaluate.agreement import Agreement, agreement, images_on

    if args.batch < 1:
        raise ConfigError(f"--batch must be at least 1, got {args.batch}")
    files = images_on(args.on)
    guards = _guard(args.first, args.calibration_a, args), _guard(args.second, args.calibration_b, args)
    pairs = agreement(*guards, files, batch_size=args.batch)
    result = Agreement(tuple(show.progress(pairs, len(files), "images")))
    names = (f"A: {args.first}", f"B: {args.second}")
    if args.json:
        states = [dict(guard.state) for guard in guards]
        show.as_json({"first": args.first, "second": args.second, "states": states, **result.to_dict()})
    else:
        _print(result, names)
    if args.out is not None:
        _write(result, names, Path(args.out), shown=args.sheet == "hidden")
    return 2 if any(pair.fault for pair in result.pairs) else 0


def _guard(name: str, calibration: str | None, args: argparse.Namespace) -> Guard:
    from nsfw_guard.guard import Guard
    from nsfw_guard.imaging.limits import Limits

    return Guard.from_pretrained(
        name, policy=args.policy, calibration=calibration, views=args.views, resize=args.resize, device=args.device,
        limits=Limits(process=args.process), trust_guard=args.trust_guard,
    )  # fmt: skip


def _print(result: Any, names: tuple[str, str]) -> None:
    count, low, high = result.agreed
    show.table([(a, b, str(n)) for (a, b), n in sorted(result.counts.items())], (*names, "images"))
    show.say(f"{count} of {len(result.judged)} alike ({low:.1%} to {high:.1%})")
    for name, time in zip(names, result.milliseconds, strict=True):
        show.say(f"{name}: {time:.1f} ms an image")
    if faults := [pair for pair in result.pairs if pair.fault]:
        show.say(f"{len(faults)} images were not judged by both, such as {faults[0].path} ({faults[0].fault})")


def _write(result: Any, names: tuple[str, str], out: Path, *, shown: bool) -> None:
    import json

    from nsfw_guard.backends.files.cache import put
    from nsfw_guard.tools.evaluate.agreement import to_html

    put(out / "report.html", to_html(result, names, hidden=shown).encode())
    lines = [json.dumps(pair.to_dict(), sort_keys=True) for pair in result.flips()]
    put(out / "flips.jsonl", "".join(f"{line}\n" for line in lines).encode())
    show.say(f"wrote {out / 'report.html'} and flips.jsonl")
