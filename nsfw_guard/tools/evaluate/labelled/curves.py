"""Scores against labels over all thresholds: curves, the area under them, and how far scores are from frequencies."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsfw_guard.calibration import EDGE
from nsfw_guard.tools.evaluate.summary import Rate
from nsfw_guard.tools.teaching.fitting import BINS, calibration_error, perfect_error

Scores = NDArray[np.float64]
Truth = NDArray[np.bool_]

THRESHOLDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
MAX_POINTS = 400  # of a curve in a report: more cannot be seen


@dataclass(frozen=True)
class Point:
    """A threshold, and how many images with and without the category reach it."""

    threshold: float
    recall: Rate
    alarms: Rate
    names: tuple[str, ...] = ()  # of the thresholds of the record that are this number

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "threshold": self.threshold, "names": list(self.names),
            "recall": self.recall.to_dict(), "false_alarms": self.alarms.to_dict(),
        }  # fmt: skip


@dataclass(frozen=True)
class Bin:
    """Images whose scores are in one bin of equal width: their mean score, and how many have the category."""

    mean: float
    unsafe: Rate

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"mean_score": self.mean, "unsafe": self.unsafe.to_dict()}


@dataclass(frozen=True)
class Curve:
    """A category at a severity: all that can be said of its scores without a threshold.

    Args:
        unsafe, harmless: how many images there were of each.
        roc: points (share of false alarms, recall), from no image flagged to all.
        pr: points (recall, precision).
        roc_auc: the chance that an image with the category has the higher score.
        average_precision: the mean of the precision over the recall, by steps.
        brier, log_loss: the mean squared error of scores as frequencies, and their mean negative log-likelihood.
        error, error_perfect: the expected calibration error, and what a perfectly calibrated model with these scores
            exceeds in one case of twenty.
        bins: of the reliability diagram, without empty ones.
        points: recall and false alarms at several thresholds.
    """

    unsafe: int
    harmless: int
    roc: tuple[tuple[float, float], ...]
    pr: tuple[tuple[float, float], ...]
    roc_auc: float
    average_precision: float
    brier: float
    log_loss: float
    error: float
    error_perfect: float
    bins: tuple[Bin, ...]
    points: tuple[Point, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        plain = {name: getattr(self, name) for name in ("unsafe", "harmless", "roc_auc", "average_precision", "brier")}
        return {
            **plain, "log_loss": self.log_loss, "calibration_error": self.error,
            "calibration_error_of_a_perfect_model": self.error_perfect,
            "reliability": [one.to_dict() for one in self.bins], "thresholds": [one.to_dict() for one in self.points],
            "roc": [list(at) for at in self.roc], "precision_recall": [list(at) for at in self.pr],
        }  # fmt: skip


def curve_of(scores: Scores, truth: Truth, named: Mapping[str, float]) -> Curve | None:
    """Return the curve of scores; None where all images are of one kind.

    Args:
        scores: one for each image, from 0 to 1.
        truth: whether it has the category.
        named: thresholds of the record.

    Example:
        ```python
        curve = curve_of(np.array([0.1, 0.8, 0.9]), np.array([False, True, True]), {"default": 0.5})
        ```
    """
    if truth.all() or not truth.any():
        return None
    flagged, right = _cumulated(scores, truth)
    ones, zeros = int(truth.sum()), int((~truth).sum())
    recall, false = right / ones, (flagged - right) / zeros
    precision = right / flagged
    inside = np.clip(scores, EDGE, 1 - EDGE)
    roc = [(0.0, 0.0), *zip(false.tolist(), recall.tolist(), strict=True)]
    return Curve(
        unsafe=ones,
        harmless=zeros,
        roc=_thinned(roc),
        pr=_thinned(list(zip(recall.tolist(), precision.tolist(), strict=True))),
        roc_auc=_area(roc),
        average_precision=float((np.diff(recall, prepend=0.0) * precision).sum()),
        brier=float(((scores - truth) ** 2).mean()),
        log_loss=float(-np.where(truth, np.log(inside), np.log1p(-inside)).mean()),
        error=calibration_error(scores, truth),
        error_perfect=perfect_error(scores),
        bins=_bins(scores, truth),
        points=points_of(scores, truth, named),
    )


def points_of(scores: Scores, truth: Truth, named: Mapping[str, float]) -> tuple[Point, ...]:
    """Return recall and false alarms at the named thresholds, and at others between 0 and 1."""
    points = []
    for at in sorted({*THRESHOLDS, *named.values()}):
        reached = scores >= at
        points.append(
            Point(
                at,
                Rate(int((reached & truth).sum()), int(truth.sum())),
                Rate(int((reached & ~truth).sum()), int((~truth).sum())),
                tuple(name for name, block in named.items() if block == at),
            )
        )
    return tuple(points)


def _cumulated(scores: Scores, truth: Truth) -> tuple[Scores, Scores]:
    """At each different score, from the highest on: how many images reach it, and how many of these have it."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    return (last + 1).astype(np.float64), np.cumsum(truth[order]).astype(np.float64)[last]


def _area(points: list[tuple[float, float]]) -> float:
    """The area under points that rise in x, straight between two of them."""
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(points))


def _thinned(points: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """At most so many points as can be seen, the first and the last among them."""
    if len(points) <= MAX_POINTS:
        return tuple(points)
    chosen = np.unique(np.linspace(0, len(points) - 1, MAX_POINTS).round().astype(int))
    return tuple(points[at] for at in chosen)


def _bins(scores: Scores, truth: Truth) -> tuple[Bin, ...]:
    which = np.minimum((scores * BINS).astype(int), BINS - 1)
    return tuple(
        Bin(float(scores[which == at].mean()), Rate(int(truth[which == at].sum()), int((which == at).sum())))
        for at in np.unique(which)
    )
