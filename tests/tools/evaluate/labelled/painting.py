"""Labelled images whose redness is the score of the fake model, and the report on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from nsfw_guard.backends.base import Backend
from nsfw_guard.guard import Guard
from nsfw_guard.tools.evaluate.harmless import Criterion, criteria_of, measure
from nsfw_guard.tools.evaluate.labelled.collecting import (
    Sample,
    files_of,
    without_near_duplicates,
    without_same_files,
)
from nsfw_guard.tools.evaluate.labelled.report import LabelledReport, summarise_labelled
from nsfw_guard.tools.teaching.labelled import read_labelled

SIDE = 20
# Columns of 20 that are red: 0.5 blocks, 0.25 holds for review.
REDS = {"red": (19, 12, 8, 3), "safe": (0, 1, 2, 6, 15)}


def paint(path: Path, columns: int, *, blue: int = 200) -> Path:
    """An image that the fake model scores by its red columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (SIDE, SIDE), (0, 0, blue))
    image.paste((255, 0, 0), (0, 0, columns, SIDE))
    image.save(path)
    return path


def painted(folder: Path, reds: Mapping[str, Sequence[int]] = REDS) -> Path:
    """A folder with a folder for each label."""
    for label, all_columns in reds.items():
        for number, columns in enumerate(all_columns):
            paint(folder / label / f"{number}.png", columns, blue=len(label) * 10 + number)
    return folder


def measured(
    source: Path,
    backends: Mapping[str, Backend],
    *,
    columns: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
) -> tuple[dict[str, Guard], dict[str, tuple[Criterion, ...]], list[Sample], list[str]]:
    """What the command does up to the report."""
    guards = {name: Guard(backend) for name, backend in backends.items()}
    criteria = {name: criteria_of(guard) for name, guard in guards.items()}
    spec = next(iter(guards.values())).spec
    listed = read_labelled([str(source)], list(spec.positives), labels or {}, levels=spec.levels)
    images, copies = without_same_files(listed)
    answers = measure(guards, criteria, files_of(images, columns), looks=True)
    samples, near = without_near_duplicates(
        [Sample(image, answer) for image, answer in zip(images, answers, strict=True)]
    )
    return guards, criteria, samples, [*copies, *near]


def report_on(source: Path, backends: Mapping[str, Backend], **rest: Any) -> LabelledReport:
    """The report on a source."""
    guards, criteria, samples, notes = measured(source, backends, **rest)
    return summarise_labelled(guards, criteria, samples, sources=[str(source)], notes=notes, worst=3)
