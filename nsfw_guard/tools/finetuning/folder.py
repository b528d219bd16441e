"""A taught model as a folder in the layout of its library, with our record, a model card and how it came about."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.files.folder import write_record
from nsfw_guard.backends.loaders import load_folder
from nsfw_guard.backends.nets.network import Net, NetBackend
from nsfw_guard.backends.spec import Label, ModelSpec
from nsfw_guard.errors import SelfTestError
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.tools.evaluate.summary import Rate
from nsfw_guard.tools.pages import markdown_text
from nsfw_guard.verdict import SelfTest

CARD, TRAINING, CURVE = "README.md", "training.json", "curve.png"
Answers = Sequence[Sequence[int]]


def recalls(names: Sequence[str], answers: Answers) -> dict[str, Rate]:
    """Return for each class how many of its images got its name."""
    return {name: Rate(row[at], sum(row)) for at, (name, row) in enumerate(zip(names, answers, strict=True))}


def write(
    folder: Path, net: Net, spec: ModelSpec, *, answers: Answers, facts: Mapping[str, Any], curve: Image.Image,
    half: bool = False, trust_guard: bool = False,
) -> None:  # fmt: skip
    """Write a taught model, and read it again: what was written has passed its self-test.

    Args:
        folder: where to.
        net: the network.
        spec: its record.
        answers: how many images of each class (row) got each answer (column), on images that it did not learn from.
        facts: how it came about, for training.json.
        curve: the course of the run.
        half: store weights in float16, which takes half of the space.
        trust_guard: accept that its own labels relax a guard.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of a run that ended while it wrote
    folder.mkdir(parents=True)
    options = Options(device="cpu", trust_guard=trust_guard)
    tested = f"right on {Rate(_right(answers), sum(map(sum, answers)))} images that it did not learn from"
    threshold = Threshold(block=0.5, source=f"the class that the model itself picks, {tested}; calibrate it on yours")
    spec = replace(spec, thresholds={"default": threshold})
    (net.half() if half else net.float()).save(folder, spec)
    write_record(folder, spec)
    # The answers are those of the weights as they are stored.
    written = load_folder(folder, options)
    if not isinstance(written, NetBackend):
        raise SelfTestError(f"{spec.name!r} was not read as a network: write it again")
    spec = replace(written.spec, known_answers=written.known_answers())
    write_record(folder, spec)
    curve.save(folder / CURVE)
    (folder / TRAINING).write_text(json.dumps(dict(facts), indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(_card(spec, answers, facts), encoding="utf-8")
    if (state := load_folder(folder, options).state())["self_test"] != SelfTest.PASSED.value:
        raise SelfTestError(f"{spec.name!r} is {state['self_test']} after it was written: write it again")


def _right(answers: Answers) -> int:
    return sum(row[at] for at, row in enumerate(answers))


def _card(spec: ModelSpec, answers: Answers, facts: Mapping[str, Any]) -> str:
    """The model card: what it is, what it may be used for, and how good it was."""
    rates = recalls(tuple(spec.labels), answers)
    rows = [
        f"| {markdown_text(name)} | {_words(spec.labels[name])} | {facts['images'].get(name, 0)} | {rate} |"
        for name, rate in rates.items()
    ]
    shown = spec.net_input
    return "\n".join([
        "---", f"library_name: {spec.kind}", f"license: {json.dumps(spec.license)}",
        "pipeline_tag: image-classification",
        "tags: [image-classification, nsfw-guard]", "---", "", f"# {markdown_text(spec.name)}", "",
        f"An image classifier, {markdown_text(spec.source)}, by `nsfw-guard finetune`. "
        f"License of the weights that it began with: {markdown_text(spec.license)}.", "",
        "| class | means | images | right, of images that it did not learn from (95%) |", "|---|---|---|---|", *rows,
        "",
        "These images are from the same sources as those that it learnt from. How good it is on others is not known: "
        "measure it with `nsfw-guard evaluate`, and set thresholds with `nsfw-guard calibrate`.", "",
        f"Input: {shown.size} x {shown.size}, {shown.interpolation}, {shown.crop_mode}, mean {list(shown.mean)}, "
        f"std {list(shown.std)}. Load it with `nsfw_guard.load_model(FOLDER)`, or as any model of {spec.kind}.", "",
        f"![The course of the run]({CURVE})", "", f"Settings, versions and hashes are in `{TRAINING}`.", "",
    ])  # fmt: skip


def _words(label: Label | None) -> str:
    return f"{markdown_text(label.category)}, {label.severity.name.lower()}" if label else "harmless"
