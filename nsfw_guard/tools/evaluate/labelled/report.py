"""The whole measurement on labelled images: rates, curves, tables, and the images that a person should look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nsfw_guard.guard import Guard
from nsfw_guard.scores import Severity
from nsfw_guard.tools.evaluate.harmless import Criterion
from nsfw_guard.tools.evaluate.images import ALL
from nsfw_guard.tools.evaluate.intervals import CONFIDENCE
from nsfw_guard.tools.evaluate.labelled.collecting import Sample
from nsfw_guard.tools.evaluate.labelled.counts import CategoryRow, Confusion, confusion_of, rows_of, truth_of
from nsfw_guard.tools.evaluate.labelled.curves import Curve, curve_of
from nsfw_guard.tools.evaluate.packs.pack import Pack
from nsfw_guard.tools.evaluate.summary import decisive, slice_order, today, versions
from nsfw_guard.tools.screen import Skipped
from nsfw_guard.tools.teaching.labelled import words_of
from nsfw_guard.verdict import Outcome

FEW = 10  # images of a kind, below which a note says that the intervals are all there is to see


@dataclass(frozen=True)
class Error:
    """An image that a model gets wrong, or nearly: its label, its score and the outcome at the deciding threshold."""

    path: str
    label: str
    score: float
    outcome: Outcome

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {**vars(self), "outcome": self.outcome.name.lower()}


@dataclass(frozen=True)
class ModelReport:
    """What one model says of labelled images.

    Args:
        name, license, state: of the model; the state says what was in effect.
        rows: rates by slice and criterion.
        curves: by category and severity; None where there are images of one kind only.
        confusion: labels against what the model says.
        missed: images with a category, the lowest scores first.
        alarms: images without any, the highest scores first.
        not_judged: what the model could not judge, which a guard covers as an ERROR.
    """

    name: str
    license: str
    state: Mapping[str, str]
    rows: tuple[CategoryRow, ...]
    curves: Mapping[tuple[str, Severity], Curve | None]
    confusion: Confusion
    missed: tuple[Error, ...]
    alarms: tuple[Error, ...]
    not_judged: tuple[Skipped, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        curves = [
            {
                "category": category, "severity": severity.name.lower(),
                **({"fault": "images of one kind only"} if curve is None else curve.to_dict()),
            }
            for (category, severity), curve in self.curves.items()
        ]  # fmt: skip
        return {
            "name": self.name, "license": self.license, "state": dict(self.state),
            "rates": [row.to_dict() for row in self.rows], "curves": curves, "confusion": self.confusion.to_dict(),
            "missed": [one.to_dict() for one in self.missed], "alarms": [one.to_dict() for one in self.alarms],
            "not_judged": [vars(one) for one in self.not_judged],
        }  # fmt: skip


@dataclass(frozen=True)
class LabelledReport:
    """The whole measurement.

    Args:
        date, versions: when, and what it ran on.
        sources: what was measured.
        labels: how many images have each label.
        slices: how many images are in each.
        notes: what was left out, or is too little to say much.
        models: one report a model.
        packs: what else was measured, by name.
    """

    date: str
    versions: Mapping[str, str]
    sources: tuple[str, ...]
    labels: Mapping[str, int]
    slices: Mapping[str, int]
    notes: tuple[str, ...]
    models: tuple[ModelReport, ...]
    packs: Mapping[str, Pack] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "date": self.date, "versions": dict(self.versions), "sources": list(self.sources),
            "images": sum(self.labels.values()), "labels": dict(self.labels),
            "slices": {name or ALL: count for name, count in self.slices.items()}, "notes": list(self.notes),
            "confidence": CONFIDENCE, "models": [model.to_dict() for model in self.models],
            **{name: pack.to_dict() for name, pack in self.packs.items()},
        }  # fmt: skip


def summarise_labelled(
    guards: Mapping[str, Guard],
    criteria: Mapping[str, Sequence[Criterion]],
    samples: Sequence[Sample],
    *,
    sources: Sequence[str] = (),
    notes: Sequence[str] = (),
    worst: int = 20,
    packs: Mapping[str, Pack] | None = None,
) -> LabelledReport:
    """Return the report on measured images.

    Args:
        guards: the guards by name.
        criteria: the criteria of each guard, by the same names.
        samples: the images, each once.
        sources: where they are from, in words.
        notes: what was left out before.
        worst: how many missed images and false alarms are listed for each model.
        packs: further measurements by name, which become sections.
    """
    counts = Counter(name for one in samples for name in one.measured.slices)
    slices = {name: counts[name] for name in sorted(counts, key=slice_order)}
    labels = Counter(words_of(one.image) for one in samples)
    return LabelledReport(
        date=today(),
        versions=versions(),
        sources=tuple(sources),
        labels={label: labels[label] for label in sorted(labels, key=lambda label: (label != "harmless", label))},
        slices=slices,
        notes=(*notes, *_few(samples, labels, guards)),
        models=tuple(_of_model(name, guards[name], criteria[name], samples, list(slices), worst) for name in guards),
        packs=packs or {},
    )


def _few(samples: Sequence[Sample], labels: Mapping[str, int], guards: Mapping[str, Guard]) -> list[str]:
    """Notes on labels that are too rare to say much, and on categories without an image."""
    notes = [
        f"{count} image{'s' if count > 1 else ''} labelled {label}: too few to say more than the interval does"
        for label, count in labels.items()
        if count < FEW
    ]
    if not any(not one.image.categories for one in samples):
        notes.append("no harmless image: false alarms are measured on images with other categories only, if any")
    there = frozenset().union(*(one.image.categories for one in samples))
    for category in dict.fromkeys(name for guard in guards.values() for name in guard.spec.positives):
        if category not in there:
            notes.append(f"no image of {category}: its recall is not measured")
    return notes


def _of_model(
    name: str, guard: Guard, criteria: Sequence[Criterion], samples: Sequence[Sample], slices: Sequence[str], worst: int
) -> ModelReport:
    spec, judged = guard.spec, [one for one in samples if not one.measured.answers[name].fault]
    deciding = decisive(guard, criteria)
    curves: dict[tuple[str, Severity], Curve | None] = {}
    for one in criteria:
        if one.severity is not None and (one.category, one.severity) not in curves:
            curves[one.category, one.severity] = _curve(name, guard, one.category, one.severity, judged)
    errors = [
        Error(s.image.path, words_of(s.image), _score(name, guard, s), s.measured.answers[name].outcomes[deciding])
        for s in judged
    ]
    unsafe = [truth_of(s.image, criteria[deciding].category, criteria[deciding].severity, spec) for s in judged]
    missed = sorted((e for e, truth in zip(errors, unsafe, strict=True) if truth), key=lambda e: e.score)
    alarms = sorted((e for e, truth in zip(errors, unsafe, strict=True) if truth is False), key=lambda e: -e.score)
    return ModelReport(
        name=name,
        license=spec.license,
        state=guard.state,
        rows=tuple(rows_of(name, spec, criteria, judged, slices)),
        curves=curves,
        confusion=confusion_of(name, spec, criteria, samples, criteria[deciding].threshold),
        missed=tuple(missed[:worst]),
        alarms=tuple(alarms[:worst]),
        not_judged=tuple(
            Skipped(s.image.path, fault) for s in samples if (fault := s.measured.answers[name].fault)
        ),
    )  # fmt: skip


def _score(name: str, guard: Guard, sample: Sample) -> float:
    """Of an image with categories the highest score of these; of a harmless one the highest of all."""
    positives = guard.spec.positives
    names = sample.image.categories & positives.keys() or positives.keys()
    scores = sample.measured.answers[name].scores
    return max(scores.get((category, positives[category]), 0.0) for category in names)


def _curve(
    name: str, guard: Guard, category: str, severity: Severity, judged: Sequence[Sample]
) -> Curve | None:  # fmt: skip
    known = [(s, truth_of(s.image, category, severity, guard.spec)) for s in judged]
    kept = [(s.measured.answers[name].scores[category, severity], truth) for s, truth in known if truth is not None]
    if not kept:
        return None
    named = {label: one.block_of(category) for label, one in guard.spec.thresholds.items()}
    return curve_of(np.array([score for score, _ in kept]), np.array([truth for _, truth in kept], bool), named)
