"""nsfw-guard calibrate: scores that are frequencies, and thresholds with a promise."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsfw_guard.cli import show

if TYPE_CHECKING:
    from nsfw_guard.tools.teaching.calibrate import CalibrationResult


def add(commands: Any) -> None:
    """Add the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "calibrate",
        help="fit a model's scores and thresholds to labelled images",
        description="Fits the map from scores to frequencies on one half of the images, and sets thresholds on the "
        "other, by what they promise. Writes calibration.json, for --calibration of check, scan and watch.",
    )
    command.add_argument(
        "sources", nargs="+", metavar="SOURCE",
        help="a folder with a folder for each label, or a .csv, .jsonl or .parquet list of paths and labels",
    )  # fmt: skip
    command.add_argument("--out", required=True, metavar="DIR", help="a new folder for the files")
    command.add_argument("--model", default="marqo", metavar="NAME|FOLDER", help="the model (default: marqo)")
    show.label_flag(command)
    promises = command.add_mutually_exclusive_group()
    promises.add_argument("--misses", type=float, metavar="SHARE", help="of unsafe images that may be missed, as 0.01")
    promises.add_argument("--alarms", type=float, metavar="SHARE", help="of harmless images that may be blocked")
    command.add_argument("--review", type=float, metavar="SHARE", help="of harmless images that may be held besides")
    command.add_argument("--confidence", type=float, default=0.95, metavar="SHARE", help="of a promise (default: 0.95)")
    show.look_flags(command)
    command.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: cpu for files)")
    command.add_argument("--trust-guard", action="store_true", help="accept a model folder that relaxes its own guard")
    show.json_flag(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Calibrate; 2 when an image could not be judged and was left out."""
    from nsfw_guard.backends.registry import load_model
    from nsfw_guard.errors import ConfigError
    from nsfw_guard.tools.teaching.calibrate import Wanted, calibrate
    from nsfw_guard.tools.teaching.labelled import read_labelled
    from nsfw_guard.tools.teaching.scored import score_images

    if args.batch < 1:
        raise ConfigError(f"--batch must be at least 1, got {args.batch}")
    out = Path(args.out)
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{args.out!r} is not empty: name a new folder")
    wanted = Wanted(misses=args.misses, alarms=args.alarms, review=args.review, confidence=args.confidence)
    backend = load_model(
        args.model, views=args.views, resize=args.resize, device=args.device, batch_size=args.batch,
        trust_guard=args.trust_guard,
    )  # fmt: skip
    images = read_labelled(args.sources, list(backend.spec.positives), show.labels_of(args.label))
    scores = score_images(backend, images, batch_size=args.batch)
    scored = list(show.progress(scores, len(images), "images"))
    result = calibrate(backend, scored, wanted, source=f"{len(images)} images of {', '.join(args.sources)}"[:200])
    _save(result, out)
    if args.json:
        _print_json(result, args.out, dict(backend.state()))
    else:
        _print(result, out)
    return 2 if result.faults else 0


def _save(result: CalibrationResult, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    result.calibration.save(out / "calibration.json")


def _print_json(result: CalibrationResult, out: str, state: dict[str, str]) -> None:
    categories = {name: one.to_dict() for name, one in result.categories.items()}
    facts = {"model": result.calibration.model, "revision": result.calibration.revision, "state": state}
    show.as_json({"out": out, **facts, "categories": categories, "faults": dict(result.faults), "notes": result.notes})


def _print(result: CalibrationResult, out: Path) -> None:
    rows = []
    for name, one in result.categories.items():
        error = f"{one.error_before:.3f} -> {one.error_after:.3f} ({one.error_perfect:.3f})"
        threshold = f"{one.promise.threshold:.4f}" if one.promise else "-"
        rows.append((name, str(one.unsafe), str(one.harmless), error, threshold, _rate(one.missed), _rate(one.flagged)))
    header = ("category", "unsafe", "harmless", "error (perfect)", "threshold", "missed", "false alarms")
    show.table(rows, header)
    for note in result.notes:
        show.say(note)
    if result.faults:
        path, why = next(iter(result.faults.items()))
        show.say(f"{len(result.faults)} images were not judged and left out, such as {path} ({why})")
    show.say(f"written: use it with --calibration {out / 'calibration.json'}")


def _rate(rate: tuple[int, float, float] | None) -> str:
    return "-" if rate is None else f"{rate[0]} ({rate[1]:.2%} to {rate[2]:.2%})"
