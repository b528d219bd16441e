"""Curves and numbers without a threshold: by hand, and beside scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from nsfw_guard.tools.evaluate.labelled.curves import MAX_POINTS, curve_of, points_of
from nsfw_guard.tools.evaluate.summary import Rate


def drawn(count: int, *, seed: int = 0, digits: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and labels that are as frequent as the scores say."""
    rng = np.random.default_rng(seed)
    true = rng.beta(0.5, 0.5, count)
    return true.round(digits), rng.random(count) < true


def test_numbers_of_five_images() -> None:
    curve = curve_of(np.array([0.9, 0.8, 0.8, 0.4, 0.1]), np.array([1, 1, 0, 1, 0], bool), {"default": 0.5})
    assert curve is not None
    assert curve.roc == ((0, 0), (0, pytest.approx(1 / 3)), (0.5, pytest.approx(2 / 3)), (0.5, 1), (1, 1))
    assert curve.roc_auc == pytest.approx(4.5 / 6)  # 4 of 6 pairs in order, one of equal scores
    assert curve.average_precision == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert curve.brier == pytest.approx((0.01 + 0.04 + 0.64 + 0.36 + 0.01) / 5)
    assert curve.pr[0] == (pytest.approx(1 / 3), 1)
    (default,) = [point for point in curve.points if point.names]
    assert (default.threshold, default.names, default.recall, default.alarms) == (
        0.5, ("default",), Rate(2, 3), Rate(1, 2),
    )  # fmt: skip
    assert [(one.mean, one.unsafe) for one in curve.bins] == [
        (pytest.approx(0.1), Rate(0, 1)), (pytest.approx(0.4), Rate(1, 1)), (pytest.approx(0.8), Rate(1, 2)),
        (pytest.approx(0.9), Rate(1, 1)),
    ]  # fmt: skip


def test_a_curve_needs_images_of_both_kinds() -> None:
    assert curve_of(np.array([0.1, 0.9]), np.array([True, True]), {}) is None
    assert curve_of(np.array([0.1, 0.9]), np.array([False, False]), {}) is None


def test_scores_that_are_frequencies_stay_below_the_error_of_a_perfect_model() -> None:
    scores, truth = drawn(2000)
    right = curve_of(scores, truth, {})
    wrong = curve_of(scores**3, truth, {})
    assert right is not None
    assert wrong is not None
    assert right.error < right.error_perfect
    assert wrong.error > 2 * wrong.error_perfect


def test_long_curves_are_thinned_with_both_ends_kept() -> None:
    scores, truth = drawn(5000, digits=6)
    curve = curve_of(scores, truth, {})
    assert curve is not None
    assert len(curve.roc) <= MAX_POINTS
    assert (curve.roc[0], curve.roc[-1]) == ((0, 0), (1, 1))


def test_thresholds_that_no_score_reaches() -> None:
    points = points_of(np.array([0.2, 0.3]), np.array([True, False]), {"strict": 0.25})
    assert [p.threshold for p in points] == sorted(p.threshold for p in points)
    (strict,) = [p for p in points if p.names]
    assert (strict.recall, strict.alarms) == (Rate(0, 1), Rate(1, 1))
    assert points[-1].recall == Rate(0, 1)


def test_the_numbers_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    for seed in range(3):
        scores, truth = drawn(700, seed=seed)
        curve = curve_of(scores, truth, {})
        assert curve is not None
        assert curve.roc_auc == pytest.approx(metrics.roc_auc_score(truth, scores), abs=1e-12)
        assert curve.average_precision == pytest.approx(metrics.average_precision_score(truth, scores), abs=1e-12)
        assert curve.brier == pytest.approx(metrics.brier_score_loss(truth, scores), abs=1e-12)
