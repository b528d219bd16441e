"""Fits the map from a score to a frequency, and measures how far frequencies are off. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsfw_guard.calibration import EDGE
from nsfw_guard.errors import ConfigError

BINS = 15
_STEPS = 100
_RIDGE = 1e-4  # holds the slope where classes are apart, so that it is finite
MOST_SLOPE = 50.0
LEAST_FOR_CURVE = 100  # images of each kind
MIXED = 0.01  # the share of the mapped score in a curve


@dataclass(frozen=True)
class Fitted:
    """A map sigmoid(slope * logit(p) + shift), and its loss on what it was fitted on before and after."""

    slope: float
    shift: float
    loss_before: float
    loss_after: float

    def __call__(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the calibrated scores."""
        mapped: NDArray[np.float64] = _sigmoid(self.slope * logit(scores) + self.shift)
        return mapped


def fit(scores: NDArray[np.float64], unsafe: NDArray[np.bool_]) -> Fitted:
    """Fit a map by Newton's method on the likelihood. One temperature and one shift: two numbers need few images.

    Targets are drawn a little towards the middle, as Platt proposed, so that classes that are wholly apart have a
    finite map.

    Raises:
        ConfigError: there is no image of one kind, or scores do not rise with the label.

    Example:
        ```python
        fitted = fit(np.array([0.1, 0.4, 0.6, 0.9]), np.array([False, True, False, True]))
        ```
    """
    ones, zeros = int(unsafe.sum()), int((~unsafe).sum())
    if not ones or not zeros:
        raise ConfigError(f"calibration needs images of both kinds, got {ones} unsafe and {zeros} harmless: add some")
    if not float(np.ptp(scores)) > 0:
        raise ConfigError("all images have the same score, so that no threshold tells them apart: use another model")
    x = logit(scores)
    target = np.where(unsafe, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    slope, shift = _minimum(x, target)
    if not slope > 0:
        raise ConfigError(
            "scores of unsafe images are not higher than those of harmless ones, so no threshold tells them apart: see "
            "whether labels are swapped, or use another model"
        )
    slope = min(slope, MOST_SLOPE)
    after = log_loss(_sigmoid(slope * x + shift), unsafe)
    return Fitted(slope, shift, log_loss(np.clip(scores, EDGE, 1 - EDGE), unsafe), after)


def curve(mapped: NDArray[np.float64], unsafe: NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    """Return points of a rising curve from mapped scores to frequencies, by isotonic regression.

    A small share of the mapped score itself is mixed in, so that of two different scores the higher one stays higher.
    Empty where there are too few images for a curve, or too few steps.
    """
    if min(int(unsafe.sum()), int((~unsafe).sum())) < LEAST_FOR_CURVE:
        return ()
    points: list[tuple[float, float]] = []
    for total, count, low, high in _rising(mapped, unsafe):
        frequency = (total + 0.5) / (count + 1) if total in {0, count} else total / count
        for x in dict.fromkeys((low, high)):
            y = (1 - MIXED) * max(frequency, points[-1][1] if points else 0.0) + MIXED * x
            if not points or (x > points[-1][0] and y > points[-1][1]):
                points.append((float(x), float(y)))
    return tuple(points) if len(points) > 1 else ()


def _rising(scores: NDArray[np.float64], unsafe: NDArray[np.bool_]) -> list[list[float]]:
    """Runs of scores (sum, count, lowest, highest) whose shares of unsafe images rise: pool adjacent violators."""
    order = np.argsort(scores, kind="stable")
    runs: list[list[float]] = []
    for x, y in zip(scores[order].tolist(), unsafe[order].tolist(), strict=True):
        if runs and runs[-1][3] == x:
            runs[-1][0], runs[-1][1] = runs[-1][0] + y, runs[-1][1] + 1
        else:
            runs.append([float(y), 1.0, x, x])
        while len(runs) > 1 and runs[-2][0] / runs[-2][1] >= runs[-1][0] / runs[-1][1]:
            total, count, _, high = runs.pop()
            runs[-1] = [runs[-1][0] + total, runs[-1][1] + count, runs[-1][2], high]
    return runs


def _minimum(x: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[float, float]:
    """The slope and shift of the highest likelihood: Newton's steps, halved until each is one downwards."""
    at = np.array([1.0, 0.0])

    def cost(at: NDArray[np.float64]) -> float:
        z = at[0] * x + at[1]
        return float((np.logaddexp(0.0, z) - target * z).sum() + _RIDGE / 2 * at[0] ** 2)

    for _ in range(_STEPS):
        p = _sigmoid(at[0] * x + at[1])
        weight = p * (1 - p)
        gradient = np.array([((p - target) * x).sum() + _RIDGE * at[0], (p - target).sum()])
        corner = (weight * x).sum()
        hessian = np.array([[(weight * x * x).sum() + _RIDGE, corner], [corner, weight.sum() + _RIDGE]])
        step = np.linalg.solve(hessian, gradient)
        before, scale = cost(at), 1.0
        while cost(at - scale * step) > before and scale > 1e-9:
            scale /= 2
        at = at - scale * step
        if float(np.abs(scale * step).max()) < 1e-9:
            break
    return float(at[0]), float(at[1])


def calibration_error(scores: NDArray[np.float64], unsafe: NDArray[np.bool_], *, bins: int = BINS) -> float:
    """Return the expected calibration error: how far frequencies are from scores, over bins of equal width."""
    which = np.minimum((scores * bins).astype(int), bins - 1)
    counts = np.bincount(which, minlength=bins)
    off = np.abs(
        np.bincount(which, weights=scores, minlength=bins) - np.bincount(which, weights=unsafe, minlength=bins)
    )
    return float(off[counts > 0].sum() / len(scores))


def perfect_error(scores: NDArray[np.float64], *, draws: int = 200, quantile: float = 0.95, seed: int = 0) -> float:
    """Return the error that a perfectly calibrated model with these scores exceeds in one case of twenty.

    The error of few images is never 0, so it means nothing without this number beside it.
    """
    rng = np.random.default_rng(seed)
    errors = [calibration_error(scores, rng.random(len(scores)) < scores) for _ in range(draws)]
    return float(np.quantile(errors, quantile))


def logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log odds of scores, finite also for 0 and 1."""
    inside = np.clip(scores, EDGE, 1 - EDGE)
    odds: NDArray[np.float64] = np.log(inside) - np.log1p(-inside)
    return odds


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def log_loss(p: NDArray[np.float64], unsafe: NDArray[np.bool_]) -> float:
    """Return the mean logarithmic loss of probabilities; lower is better."""
    inside = np.clip(p, EDGE, 1 - EDGE)
    return float(-np.where(unsafe, np.log(inside), np.log1p(-inside)).mean())
