"""Counts of what was measured: a rate with its interval for each model, criterion and slice."""

from __future__ import annotations

import datetime
import math
import platform
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from nsfw_guard.guard import Guard
from nsfw_guard.tools.evaluate.harmless import ANY, Criterion, MeasuredImage
from nsfw_guard.tools.evaluate.images import ALL, ASPECT, ROOT, SIZE, Collection
from nsfw_guard.tools.evaluate.intervals import CONFIDENCE, clopper_pearson
from nsfw_guard.tools.screen import Skipped
from nsfw_guard.verdict import Outcome

BINS = 20
PACKAGES = ("nsfw-guard", "torch", "pillow")  # whose versions may change a score


@dataclass(frozen=True)
class Rate:
    """How many of how many, and the interval that holds the true rate."""

    hits: int
    count: int

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95% interval."""
        return clopper_pearson(self.hits, self.count)

    @property
    def share(self) -> float:
        """Hits of the count; of nothing it is NaN."""
        return self.hits / self.count if self.count else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; the rate of nothing is null."""
        low, high = self.interval
        return {"hits": self.hits, "count": self.count, "rate": self.share if self.count else None,
                "low": low, "high": high}  # fmt: skip

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.hits} of {self.count} ({low:.1%} to {high:.1%})" if self.count else "-"


@dataclass(frozen=True)
class Row:
    """One model, criterion and slice: how many images are blocked, and how many are at least held for review."""

    model: str
    criterion: Criterion
    slice: str
    blocked: Rate
    review: Rate

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        one = self.criterion
        severity = None if one.severity is None else one.severity.name.lower()
        return {
            "model": self.model, "category": one.category, "severity": severity,
            "threshold": one.threshold, "block": one.block, "slice": self.slice or ALL,
            "blocked": self.blocked.to_dict(), "review_or_blocked": self.review.to_dict(),
        }  # fmt: skip


@dataclass(frozen=True)
class Alarm:
    """An image that a model scores high, with that score and the outcome at the threshold "default"."""

    path: str
    score: float
    outcome: Outcome
    slices: tuple[str, ...]


@dataclass(frozen=True)
class ModelSummary:
    """What one model says of the images."""

    name: str
    license: str
    state: Mapping[str, str]
    rows: tuple[Row, ...]
    histogram: tuple[int, ...]
    worst: tuple[Alarm, ...]
    not_judged: tuple[Skipped, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "name": self.name, "license": self.license, "state": dict(self.state),
            "rates": [row.to_dict() for row in self.rows], "histogram": list(self.histogram),
            "worst": [{**vars(a), "outcome": a.outcome.name.lower(), "slices": list(a.slices[1:])} for a in self.worst],
            "not_judged": [vars(one) for one in self.not_judged], "median_seconds": self.seconds,
        }  # fmt: skip


@dataclass(frozen=True)
class HarmlessReport:
    """The whole measurement: images, models, rates, and what it ran on."""

    date: str
    versions: Mapping[str, str]
    slices: Mapping[str, int]
    decode_seconds: float
    collection: Collection
    models: tuple[ModelSummary, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "date": self.date, "versions": dict(self.versions), "images": len(self.collection.files),
            "slices": {name or ALL: count for name, count in self.slices.items()},
            "copies": len(self.collection.copies), "skipped": [vars(one) for one in self.collection.skipped],
            "notes": list(self.collection.notes), "confidence": CONFIDENCE,
            "median_decode_seconds": self.decode_seconds, "models": [model.to_dict() for model in self.models],
        }  # fmt: skip


def summarise(
    guards: Mapping[str, Guard],
    criteria: Mapping[str, Sequence[Criterion]],
    collection: Collection,
    images: Sequence[MeasuredImage],
    *,
    worst: int = 20,
) -> HarmlessReport:
    """Return the report on measured images; `worst` of them are listed for each model."""
    counts = Counter(name for image in images for name in image.slices)
    slices = {name: counts[name] for name in sorted(counts, key=slice_order)}
    models = [_of_model(name, guards[name], criteria[name], images, list(slices), worst) for name in guards]
    return HarmlessReport(
        date=today(),
        versions=versions(),
        slices=slices,
        decode_seconds=_median([image.decode_seconds for image in images]),
        collection=collection,
        models=tuple(models),
    )


def today() -> str:
    """Return the date of a report."""
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def versions() -> dict[str, str]:
    """Return the versions of what may change a score."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def slice_order(name: str) -> tuple[bool, bool, bool, str]:
    """Return a key that sorts slices: all images first, then their content, then aspect and size."""
    return name != ROOT, name.startswith((ASPECT, SIZE)), name.startswith(SIZE), name


def _of_model(
    name: str,
    guard: Guard,
    criteria: Sequence[Criterion],
    images: Sequence[MeasuredImage],
    slices: Sequence[str],
    worst: int,
) -> ModelSummary:
    judged = [image for image in images if not image.answers[name].fault]
    scored = sorted(((_score(guard, image, name), image) for image in judged), key=lambda pair: -pair[0])
    bins = [0] * BINS
    for score, _ in scored:
        bins[min(BINS - 1, int(score * BINS))] += 1
    shown, counts = decisive(guard, criteria), _counts(name, judged)
    return ModelSummary(
        name=name,
        license=guard.spec.license,
        state=guard.state,
        rows=tuple(_row(name, i, one, piece, counts) for piece in slices for i, one in enumerate(criteria)),
        histogram=tuple(bins),
        worst=tuple(
            Alarm(i.file.path, score, i.answers[name].outcomes[shown], i.slices) for score, i in scored[:worst]
        ),
        not_judged=tuple(Skipped(i.file.path, i.answers[name].fault) for i in images if i.answers[name].fault),
        seconds=_median([image.seconds[name] for image in judged]),
    )  # fmt: skip


def _counts(name: str, judged: Sequence[MeasuredImage]) -> Counter[tuple[str, int, Outcome]]:
    """How many images of each slice have each outcome by each criterion: in one pass, since there may be many."""
    return Counter(
        (piece, index, outcome)
        for image in judged
        for piece in image.slices
        for index, outcome in enumerate(image.answers[name].outcomes)
    )


def _row(name: str, index: int, one: Criterion, piece: str, counts: Counter[tuple[str, int, Outcome]]) -> Row:
    by_outcome = {outcome: counts[piece, index, outcome] for outcome in Outcome}
    blocked, review = (
        sum(n for outcome, n in by_outcome.items() if outcome >= least) for least in (Outcome.BLOCK, Outcome.REVIEW)
    )
    judged = sum(by_outcome.values())
    return Row(name, one, piece, Rate(blocked, judged), Rate(review, judged))


def _score(guard: Guard, image: MeasuredImage, name: str) -> float:
    """The highest score over categories, each at the level that the model calls positive."""
    scores = image.answers[name].scores
    return max((scores.get((c, level), 0.0) for c, level in guard.spec.positives.items()), default=0.0)


def decisive(guard: Guard, criteria: Sequence[Criterion]) -> int:
    """Return the index of the criterion that decides what is shown: all categories at the threshold "default"."""
    positives = guard.spec.positives
    ranked = [
        (one.threshold == "default", one.category == ANY, one.severity == positives.get(one.category), index)
        for index, one in enumerate(criteria)
    ]
    return max(ranked)[-1]


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0
