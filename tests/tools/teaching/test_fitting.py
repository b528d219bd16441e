"""Maps: what a model is over-sure of becomes a frequency, and nonsense is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.teaching.fitting import MOST_SLOPE, calibration_error, curve, fit, logit, perfect_error


def drawn(count: int, *, slope: float, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True frequencies and labels, seen by a model that distorts them by the inverse of this map."""
    rng = np.random.default_rng(seed)
    true = rng.beta(0.5, 0.5, count).clip(1e-4, 1 - 1e-4)
    unsafe = rng.random(count) < true
    return 1 / (1 + np.exp(-(logit(true) - shift) / slope)), unsafe


@pytest.mark.parametrize(("slope", "shift"), [(0.4, 0.0), (1.0, -1.5), (2.0, 0.7)])
def test_the_distortion_of_a_model_is_undone(slope: float, shift: float) -> None:
    scores, unsafe = drawn(20_000, slope=slope, shift=shift)
    fitted = fit(scores, unsafe)
    assert fitted.slope == pytest.approx(slope, rel=0.05)
    assert fitted.shift == pytest.approx(shift, abs=0.08)
    assert fitted.loss_after < fitted.loss_before
    others, labels = drawn(5000, slope=slope, shift=shift, seed=1)
    after = calibration_error(fitted(others), labels)
    assert after < calibration_error(others, labels)
    assert after <= perfect_error(fitted(others))


def test_classes_that_are_wholly_apart_have_a_finite_map() -> None:
    fitted = fit(np.array([0.1] * 50 + [0.9] * 50), np.array([False] * 50 + [True] * 50))
    assert 0 < fitted.slope <= MOST_SLOPE
    low, high = fitted(np.array([0.1, 0.9]))
    assert low < 0.05
    assert high > 0.95


def test_scores_of_0_and_1_are_fitted_too() -> None:
    fitted = fit(np.array([0.0, 0.0, 1.0, 1.0, 1.0, 0.0]), np.array([False, False, True, True, False, True]))
    assert np.isfinite(fitted(np.array([0.0, 1.0]))).all()


def test_scores_that_fall_with_the_label_are_refused() -> None:
    with pytest.raises(ConfigError, match="see whether labels are swapped"):
        fit(np.array([0.9, 0.8, 0.2, 0.1]), np.array([False, False, True, True]))


@pytest.mark.parametrize("label", [True, False])
def test_images_of_one_kind_are_refused(label: bool) -> None:
    with pytest.raises(ConfigError, match="needs images of both kinds"):
        fit(np.array([0.5, 0.6]), np.array([label, label]))


def test_the_error_of_a_perfect_model_falls_with_the_number_of_images() -> None:
    rng = np.random.default_rng(0)
    errors = [perfect_error(rng.random(count)) for count in (100, 1000, 10_000)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0


def test_a_curve_rises_and_finds_steps_that_no_single_bend_has() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(4000)
    true = np.select([scores < 0.3, scores < 0.7], [0.02, 0.6], 0.97)
    points = curve(scores, rng.random(4000) < true)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(points))
    calibration = Calibration(model="m", maps={"red": (1.0, 0.0)}, curves={"red": points})
    for score, frequency in ((0.15, 0.02), (0.5, 0.6), (0.85, 0.97)):
        assert calibration.moved("red", score) == pytest.approx(frequency, abs=0.06)
    moved = [calibration.moved("red", score) for score in np.linspace(0, 1, 2001).tolist()]
    assert all(a < b for a, b in itertools.pairwise(moved))


def test_few_images_have_no_curve() -> None:
    assert curve(np.linspace(0, 1, 198), np.array([False, True] * 99)) == ()
    assert curve(np.full(400, 0.5), np.array([False, True] * 200)) == ()
