"""A taught model as a folder in the layout of its library, with our record, a model card and how it came about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.files.folder import RECORD, write_record
from nsfw_guard.backends.loaders import load_folder
from nsfw_guard.backends.nets.network import Net, NetBackend
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import SelfTestError
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.tools.evaluate.intervals import clopper_pearson
from nsfw_guard.verdict import SelfTest

CARD, TRAINING, CURVE = "README.md", "training.json", "curve.png"
Answers = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Rate:
    """How many of so many, with the exact 95% interval of the share."""

    count: int
    of: int

    @property
    def interval(self) -> tuple[float, float]:
        """The interval."""
        return clopper_pearson(self.count, self.of)

    @property
    def share(self) -> float:
        """The share; 0 of nothing."""
        return self.count / max(1, self.of)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.count} of {self.of} ({low:.1%} to {high:.1%})"


def recalls(names: Sequence[str], answers: Answers) -> dict[str, Rate]:
    """Return for each class how many of its images got its name."""
    return {name: Rate(row[at], sum(row)) for at, (name, row) in enumerate(zip(names, answers, strict=True))}


def write(
    folder: Path, net: Net, spec: ModelSpec, *, answers: Answers, facts: Mapping[str, Any], curve: Image.Image,
    work: Path, half: bool = False,
) -> None:  # fmt: skip
    """Write a taught model, and read it again: what was written has passed its self-test.

    Args:
        folder: where to; the record that makes it a model comes last.
        net: the network.
        spec: its record.
        answers: how many images of each class (row) got each answer (column), on images that it did not learn from.
        facts: how it came about, for training.json.
        curve: the course of the run.
        work: a folder on the same disk, for files until they are whole.
        half: store weights in float16, which takes half of the space.
    """
    work.mkdir(parents=True, exist_ok=True)
    for old in work.iterdir():
        old.unlink()
    tested = f"right on {Rate(_right(answers), sum(map(sum, answers)))} images that it did not learn from"
    threshold = Threshold(block=0.5, source=f"the class that the model itself picks, {tested}; calibrate it on yours")
    spec = replace(spec, thresholds={"default": threshold})
    (net.half() if half else net.float()).save(work, spec)
    write_record(work, spec)
    # The answers are those of the weights as they are stored.
    written = load_folder(work, Options(device="cpu"))
    if not isinstance(written, NetBackend):
        raise SelfTestError(f"{spec.name!r} was not read as a network: write it again")
    spec = replace(written.spec, known_answers=written.known_answers())
    write_record(work, spec)
    curve.save(work / CURVE)
    (work / TRAINING).write_text(json.dumps(dict(facts), indent=2) + "\n", encoding="utf-8")
    (work / CARD).write_text(_card(spec, answers, facts), encoding="utf-8")
    if (state := load_folder(work, Options(device="cpu")).state())["self_test"] != SelfTest.PASSED.value:
        raise SelfTestError(f"{spec.name!r} is {state['self_test']} after it was written: write it again")
    for path in sorted(work.iterdir(), key=lambda path: path.name == RECORD):
        path.replace(folder / path.name)


def _right(answers: Answers) -> int:
    return sum(row[at] for at, row in enumerate(answers))


def _card(spec: ModelSpec, answers: Answers, facts: Mapping[str, Any]) -> str:
    """The model card: what it is, what it may be used for, and how good it was."""
    rows = [
        f"| {name} | {'harmless' if not (to := spec.labels[name]) else f'{to.category}, {to.severity.name.lower()}'} "
        f"| {facts['images'].get(name, 0)} | {rate if rate.of else '-'} |"
        for name, rate in recalls(tuple(spec.labels), answers).items()
    ]
    shown = spec.net_input
    return "\n".join([
        "---", f"library_name: {spec.kind}", f"license: {json.dumps(spec.license)}",
        "pipeline_tag: image-classification",
        "tags: [image-classification, nsfw-guard]", "---", "", f"# {spec.name}", "",
        f"An image classifier, {spec.source}, by `nsfw-guard finetune`. "
        f"License of the weights that it began with: {spec.license}.", "",
        "| class | means | images | right, of images that it did not learn from (95%) |", "|---|---|---|---|", *rows,
        "",
        "These images are from the same sources as those that it learnt from. How good it is on others is not known: "
        "measure it with `nsfw-guard evaluate`, and set thresholds with `nsfw-guard calibrate`.", "",
        f"Input: {shown.size} x {shown.size}, {shown.interpolation}, {shown.crop_mode}, mean {list(shown.mean)}, "
        f"std {list(shown.std)}. Load it with `nsfw_guard.load_model(FOLDER)`, or as any model of {spec.kind}.", "",
        f"![The course of the run]({CURVE})", "", f"Settings, versions and hashes are in `{TRAINING}`.", "",
    ])  # fmt: skip
