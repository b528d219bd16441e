"""The promises beside those of MAPIE, on the same scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nsfw_guard.tools.teaching.promise import alarm_promise, miss_promise

risk_control = pytest.importorskip("mapie.risk_control")
base = pytest.importorskip("sklearn.base")
classification = pytest.importorskip("mapie.classification")

MOST, SURE = 0.05, 0.95
SEEDS = (0, 1, 2)


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    unsafe = rng.random(1500) < 0.5
    return np.where(unsafe, rng.beta(6, 1.5, 1500), rng.beta(1.5, 6, 1500)).round(3), unsafe


def both(scores: np.ndarray) -> np.ndarray:
    return np.stack([1 - scores[:, 0], scores[:, 0]], 1)


class Scored(base.ClassifierMixin, base.BaseEstimator):  # type: ignore[misc]
    """A fitted classifier whose only feature is the score."""

    classes_ = np.array([0, 1])

    def fit(self, scores: np.ndarray, labels: np.ndarray) -> Scored:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict_proba(self, scores: np.ndarray) -> np.ndarray:
        return both(scores)

    def predict(self, scores: np.ndarray) -> np.ndarray:
        return (scores[:, 0] >= 0.5).astype(int)


def controlled(risk: str, level: float, grid: np.ndarray, scores: np.ndarray, unsafe: np.ndarray) -> Any:
    """The thresholds that MAPIE finds safe, tested one after the other from the safest on."""
    controller = risk_control.BinaryClassificationController(
        both, risk, target_level=level, confidence_level=SURE, list_predict_params=grid, fwer_method="fixed_sequence"
    )
    controller.calibrate(scores[:, None], unsafe.astype(int))
    return np.asarray(controller.valid_predict_params)


@pytest.mark.parametrize("seed", SEEDS)
def test_misses_are_promised_as_risk_control_does_with_an_exact_test(seed: int) -> None:
    """MAPIE's test is by a bound that is a little wider than the binomial tail, so it may allow a few misses less."""
    scores, unsafe = drawn(seed)
    promise = miss_promise(scores[unsafe].tolist(), most=MOST, confidence=SURE)
    theirs = controlled("recall", 1 - MOST, np.unique(scores), scores, unsafe).max()
    assert theirs <= promise.threshold
    assert promise.wrong - 3 <= (scores[unsafe] < theirs).sum() <= promise.wrong


@pytest.mark.parametrize("seed", SEEDS)
def test_false_alarms_are_promised_as_risk_control_does_with_an_exact_test(seed: int) -> None:
    scores, unsafe = drawn(seed)
    promise = alarm_promise(scores[~unsafe].tolist(), most=MOST, confidence=SURE)
    theirs = controlled("fpr", MOST, np.unique(scores)[::-1].copy(), scores, unsafe).min()
    assert theirs >= promise.threshold
    assert promise.wrong - 3 <= (scores[~unsafe] >= theirs).sum() <= promise.wrong


@pytest.mark.filterwarnings("ignore:WARNING. your conformalization dataset has less labels")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_promise_is_stricter_than_a_conformal_quantile(seed: int) -> None:
    """A quantile holds on average over draws only: half of the time more is missed."""
    scores, unsafe = drawn(seed)
    conformal = classification.SplitConformalClassifier(
        Scored(), confidence_level=1 - MOST, conformity_score="lac", prefit=True
    )
    there = np.sort(scores[unsafe])
    conformal.conformalize(there[:, None], np.ones(len(there), int))
    grid = np.arange(1001) / 1000
    _, sets = conformal.predict_set(grid[:, None])
    quantile = grid[sets[:, 1, 0]].min()
    assert quantile == pytest.approx(there[int(MOST * (len(there) + 1)) - 1], abs=1e-9)
    assert miss_promise(there.tolist(), most=MOST, confidence=SURE).threshold < quantile
    even = miss_promise(there.tolist(), most=MOST, confidence=0.5)
    assert abs(even.wrong - int(MOST * (len(there) + 1)) + 1) <= 1
