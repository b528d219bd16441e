"""The part of `nsfw-guard evaluate` that measures labelled images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nsfw_guard.cli import show

if TYPE_CHECKING:
    from nsfw_guard.guard import Guard
    from nsfw_guard.tools.evaluate.labelled.collecting import Sample
    from nsfw_guard.tools.evaluate.labelled.report import LabelledReport
    from nsfw_guard.tools.evaluate.packs.pack import Pack
    from nsfw_guard.tools.screen import Skipped
    from nsfw_guard.tools.teaching.labelled import LabelledImage


def flags(command: argparse.ArgumentParser) -> None:
    """Add the options for labelled images."""
    show.label_flag(command)
    command.add_argument(
        "--slice", action="append", default=[], metavar="COLUMN",
        help="a column of the lists by whose values rates are given, too; repeat it for several",
    )  # fmt: skip
    command.add_argument(
        "--robustness", action="store_true",
        help="also measure what is found where the images are turned, compressed, bordered, put into collages ...",
    )  # fmt: skip
    command.add_argument(
        "--parity", action="store_true",
        help="also compare with other dtypes, devices and runtimes; exit with 1 where one allows what is blocked",
    )  # fmt: skip
    command.add_argument(
        "--policy-swap", action="append", default=[], metavar="CATEGORY=RULE",
        help="also ask a judge with another rule for a category, which its images do not break: do verdicts follow?",
    )  # fmt: skip


def run(args: argparse.Namespace, guards: dict[str, Guard]) -> int:
    """Measure, write the report, and print the rates over all images; 2 when an image could not be judged."""
    from nsfw_guard.imaging.limits import Limits
    from nsfw_guard.policy.policy import Policy
    from nsfw_guard.tools.evaluate.harmless import criteria_of, measure
    from nsfw_guard.tools.evaluate.labelled import collecting
    from nsfw_guard.tools.evaluate.labelled.report import summarise_labelled
    from nsfw_guard.tools.evaluate.labelled.writing import TABLE, write, write_table
    from nsfw_guard.tools.evaluate.packs import policy_swap
    from nsfw_guard.tools.evaluate.report import prepare

    images, copies = collecting.without_same_files(_labelled(args, guards))
    files = collecting.files_of(images, args.slice)
    policy = None if args.policy is None else Policy.load(args.policy)
    criteria = {name: criteria_of(guard, policy) for name, guard in guards.items()}
    swaps = _swaps(args.policy_swap)
    twins = policy_swap.twins_of(guards, swaps)
    out = Path(args.out)
    prepare(out, args.sources)
    measured = measure(guards, criteria, files, batch_size=args.batch, looks=True)
    answers = show.progress(measured, len(files), "images")
    samples, near = collecting.without_near_duplicates(
        [collecting.Sample(image, answer) for image, answer in zip(images, answers, strict=True)]
    )
    packs = _packs(args, guards, samples)
    if swaps:
        packs["policy_swap"] = policy_swap.pack_of(guards, twins, swaps, [one.image for one in samples])
    report = summarise_labelled(
        guards, criteria, samples, sources=args.sources, notes=[*copies, *near], worst=args.worst, packs=packs
    )
    _print(report, as_json=args.json)
    for note in report.notes:
        show.say(note)
    for path in write(report, out, sheet=args.sheet or "hidden", limits=Limits(process=args.process)):
        show.say(f"wrote {path}")
    written = write_table(guards, criteria, samples, out)
    show.say(f"wrote {written}" if written else f"{TABLE} needs pyarrow: run `pip install 'nsfw-guard[scan]'`")
    if any(pack.broken for pack in report.packs.values()):
        return 1
    return 2 if any(model.not_judged for model in report.models) else 0


def _packs(args: argparse.Namespace, guards: dict[str, Guard], samples: Sequence[Sample]) -> dict[str, Pack]:
    """The further measurements that were asked for, on the same images."""
    from nsfw_guard.imaging.limits import Limits
    from nsfw_guard.tools.evaluate.robustness import measuring, scoring

    images, packs = [one.image for one in samples], {}
    if args.robustness:
        changed = scoring.score_changes(guards, images, limits=Limits(process=args.process))
        packs["robustness"] = measuring.pack_of(guards, list(show.progress(changed, len(images), "images")))
    if args.parity:
        packs["parity"] = _parity(args, [image.path for image in images])
    return packs


def _swaps(texts: Sequence[str]) -> dict[str, str]:
    """The other rule of each category."""
    from nsfw_guard.errors import ConfigError

    pairs = [text.partition("=") for text in texts]
    if wrong := next((text for text, (name, _, rule) in zip(texts, pairs, strict=True) if not (name and rule)), None):
        raise ConfigError(f"--policy-swap {wrong}: write CATEGORY=RULE, with a rule that its images do not break")
    return {name: rule for name, _, rule in pairs}


def _parity(args: argparse.Namespace, paths: Sequence[str]) -> Pack:
    from nsfw_guard.guard import Guard
    from nsfw_guard.imaging.limits import Limits
    from nsfw_guard.tools.evaluate.packs import settings

    def load(ref: str, views: str, setting: settings.Setting) -> Guard:
        return Guard.from_pretrained(
            ref, calibration=args.calibration, views=views, resize=args.resize,
            limits=Limits(process=args.process), trust_guard=args.trust_guard, **vars(setting),
        )  # fmt: skip

    return settings.joined([
        settings.pack_of(name, partial(load, ref, views), paths, settings=settings.settings_of(ref))
        for name, (ref, views) in show.looks(args).items()
    ])  # fmt: skip


def _labelled(args: argparse.Namespace, guards: dict[str, Guard]) -> list[LabelledImage]:
    """The images, with labels that every model knows."""
    from nsfw_guard.tools.teaching.labelled import read_labelled

    specs = [guard.spec for guard in guards.values()]
    categories = [name for name in specs[0].positives if all(name in spec.positives for spec in specs)]
    levels = {name: max((spec.levels[name] for spec in specs), key=len) for name in categories}
    return read_labelled(args.sources, categories, show.labels_of(args.label), levels=levels)


def _print(report: LabelledReport, *, as_json: bool) -> None:
    """The rates of all slices as JSON, or those over all images as a table."""
    from nsfw_guard.tools.evaluate.page import percent

    if as_json:
        for model in report.models:
            for row in model.rows:
                show.as_json(row.to_dict())
    else:
        cells = [
            (row.model, row.criterion.label, row.criterion.threshold, str(row.recall.count), percent(row.recall),
             percent(row.alarms), percent(row.precision))
            for model in report.models for row in model.rows if not row.slice
        ]  # fmt: skip
        header = ("model", "category", "threshold", "with it", "recall (95%)", "false alarms (95%)", "precision (95%)")
        show.table(cells, header)
    for pack in report.packs.values():
        if as_json:
            for values in pack.content:
                show.as_json(values)
        else:
            print()
            show.table(pack.rows, pack.header)
        for note in pack.notes:
            show.say(note)
    for model in report.models:
        say_not_judged(model.name, model.not_judged)


def say_not_judged(name: str, not_judged: Sequence[Skipped]) -> None:
    """Print how many images a model could not judge, and the first of them."""
    if not_judged:
        show.say(f"{name}: {len(not_judged)} not judged, such as {not_judged[0].path} ({not_judged[0].why})")
