"""Writes the report on labelled images into a folder: JSON, one page, and a table with a row for each image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nsfw_guard.guard import Guard
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.scores import Severity
from nsfw_guard.tools.evaluate.harmless import Criterion
from nsfw_guard.tools.evaluate.labelled.collecting import Sample
from nsfw_guard.tools.evaluate.labelled.page import Shown, to_html
from nsfw_guard.tools.evaluate.labelled.report import LabelledReport
from nsfw_guard.tools.evaluate.report import JSON, PAGE
from nsfw_guard.tools.evaluate.summary import decisive
from nsfw_guard.tools.screening.rows import as_text
from nsfw_guard.tools.teaching.labelled import words_of

TABLE = "report.parquet"


def write(report: LabelledReport, folder: Path, *, sheet: Shown = "hidden", limits: Limits | None = None) -> list[Path]:
    """Write the numbers and the page, and return their paths; files of an earlier report are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JSON).write_text(json.dumps(report.to_dict(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (folder / PAGE).write_text(to_html(report, sheet=sheet, limits=limits), encoding="utf-8")
    return [folder / JSON, folder / PAGE]


def write_table(
    guards: Mapping[str, Guard], criteria: Mapping[str, Sequence[Criterion]], samples: Sequence[Sample], folder: Path
) -> Path | None:
    """Write a row for each image and model, and return the path; None where pyarrow is not installed."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        return None
    levels = sorted({key for name in guards for key in _levels(guards[name])})
    texts = ("path", "model", "outcome", "fault")
    schema = pa.schema([
        *((name, pa.string()) for name in texts), ("labels", pa.list_(pa.string())), ("slices", pa.list_(pa.string())),
        *((_column(*level), pa.float64()) for level in levels),
    ])  # fmt: skip
    rows = [_row(name, guards[name], criteria[name], one) for one in samples for name in guards]
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema), folder / TABLE)
    return folder / TABLE


def _levels(guard: Guard) -> list[tuple[str, Severity]]:
    return [(category, level) for category in guard.spec.positives for level in guard.spec.levels[category]]


def _column(category: str, level: Severity) -> str:
    return f"score {category} {level.name.lower()}"


def _row(name: str, guard: Guard, criteria: Sequence[Criterion], sample: Sample) -> dict[str, Any]:
    """An image: what it is labelled as, and what a model said. The outcome is that at the deciding threshold."""
    answer = sample.measured.answers[name]
    return {
        "path": as_text(sample.image.path), "model": name,
        "outcome": "error" if answer.fault else answer.outcomes[decisive(guard, criteria)].name.lower(),
        "fault": as_text(answer.fault), "labels": words_of(sample.image).split(" + "),
        "slices": [as_text(one) for one in sample.measured.slices if one],
        **{_column(*level): score for level, score in answer.scores.items()},
    }  # fmt: skip
