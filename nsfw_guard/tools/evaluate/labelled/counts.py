"""What a threshold finds, misses and flags wrongly: rates with exact intervals, by category, severity and slice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nsfw_guard.backends.spec import ScoreSpec
from nsfw_guard.scores import Severity
from nsfw_guard.tools.evaluate.harmless import ANY, Answer, Criterion
from nsfw_guard.tools.evaluate.images import ALL
from nsfw_guard.tools.evaluate.labelled.collecting import Sample
from nsfw_guard.tools.evaluate.summary import Rate
from nsfw_guard.tools.teaching.labelled import LabelledImage, words_of
from nsfw_guard.verdict import Outcome

BELOW, NOT_JUDGED = "below the threshold", "not judged"


def truth_of(image: LabelledImage, category: str, severity: Severity | None, spec: ScoreSpec) -> bool | None:
    """Return whether an image is to be flagged by a criterion; None where its label does not say it.

    A label without a severity says that the image has the category as the model calls it positive: so also at every
    level below that one, and nothing of those above.
    """
    if category == ANY:
        present = [truth_of(image, name, level, spec) for name, level in spec.positives.items()]
        return True if any(present) else (None if None in present else False)
    if category not in image.categories:
        return False
    level = severity or spec.positives[category]
    if category in image.severities:
        return image.severities[category] >= level
    return True if level <= spec.positives[category] else None


@dataclass(frozen=True)
class CategoryRow:
    """One model, criterion and slice, of the images that were judged.

    Args:
        recall: of images with the category, how many were blocked.
        held: of the same, how many were at least held for review.
        alarms: of images without it, how many were blocked.
        alarms_held: of the same, how many were at least held for review.
        precision: of blocked images, how many have the category: it holds for this mix of images only.
    """

    model: str
    criterion: Criterion
    slice: str
    recall: Rate
    held: Rate
    alarms: Rate
    alarms_held: Rate
    precision: Rate

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        one = self.criterion
        return {
            "model": self.model, "category": one.category,
            "severity": None if one.severity is None else one.severity.name.lower(),
            "threshold": one.threshold, "block": one.block, "slice": self.slice or ALL,
            "recall": self.recall.to_dict(), "recall_with_review": self.held.to_dict(),
            "false_alarms": self.alarms.to_dict(), "false_alarms_with_review": self.alarms_held.to_dict(),
            "precision": self.precision.to_dict(),
        }  # fmt: skip


def rows_of(
    model: str, spec: ScoreSpec, criteria: Sequence[Criterion], samples: Sequence[Sample], slices: Sequence[str]
) -> list[CategoryRow]:
    """Return the rates of a model by slice and criterion, as far as there is an image that counts."""
    counts: Counter[tuple[str, int, bool, Outcome]] = Counter()
    for sample in samples:
        answer = sample.measured.answers[model]
        for index, outcome in enumerate(answer.outcomes):
            truth = truth_of(sample.image, criteria[index].category, criteria[index].severity, spec)
            if truth is not None:
                counts.update((name, index, truth, outcome) for name in sample.measured.slices)
    rows = (_row(model, criteria[index], name, index, counts) for name in slices for index in range(len(criteria)))
    return [row for row in rows if row.recall.count or row.alarms.count]


def _row(
    model: str, criterion: Criterion, name: str, index: int, counts: Mapping[tuple[str, int, bool, Outcome], int]
) -> CategoryRow:
    def at_least(truth: bool, least: Outcome) -> int:
        return sum(counts[name, index, truth, outcome] for outcome in Outcome if outcome >= least)

    unsafe, harmless = (at_least(truth, Outcome.ALLOW) for truth in (True, False))
    hits, alarms = (at_least(truth, Outcome.BLOCK) for truth in (True, False))
    return CategoryRow(
        model, criterion, name,
        recall=Rate(hits, unsafe), held=Rate(at_least(True, Outcome.REVIEW), unsafe),
        alarms=Rate(alarms, harmless), alarms_held=Rate(at_least(False, Outcome.REVIEW), harmless),
        precision=Rate(hits, hits + alarms),
    )  # fmt: skip


@dataclass(frozen=True)
class Confusion:
    """What images are labelled as (rows), and the category with the highest score that reaches a threshold (columns).

    Where a model grades, the column is the highest level that does.
    """

    threshold: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[int, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        rows = {label: dict(zip(self.columns, counts, strict=True)) for label, counts in self.rows.items()}
        return {"threshold": self.threshold, "labels": rows}


def confusion_of(
    model: str, spec: ScoreSpec, criteria: Sequence[Criterion], samples: Sequence[Sample], threshold: str
) -> Confusion:
    """Return the table of a model at one of its thresholds."""
    every = [i for i, one in enumerate(criteria) if one.threshold == threshold]
    single = [i for i in every if criteria[i].severity is not None] or every
    graded = any(len(levels) > 1 for levels in spec.levels.values())
    names = {i: criteria[i].label if graded else criteria[i].category for i in single}
    columns = (BELOW, *names.values(), NOT_JUDGED)
    counts: dict[str, Counter[str]] = {}
    for sample in samples:
        answer = sample.measured.answers[model]
        blocked = [i for i in single if answer.outcomes and answer.outcomes[i] >= Outcome.BLOCK]
        ranked = [(_positive(answer, criteria[i].category, spec), i) for i in blocked]
        column = NOT_JUDGED if answer.fault else (names[max(ranked)[1]] if ranked else BELOW)
        counts.setdefault(words_of(sample.image), Counter())[column] += 1
    ordered = sorted(counts, key=lambda label: (label != "harmless", label))
    return Confusion(threshold, columns, {label: tuple(counts[label][c] for c in columns) for label in ordered})


def _positive(answer: Answer, category: str, spec: ScoreSpec) -> float:
    """The score of a category at the level that the model calls positive; 0 for all categories together."""
    return answer.scores[category, spec.positives[category]] if category in spec.positives else 0.0
