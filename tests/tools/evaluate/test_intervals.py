"""The exact interval of a rate: published values, its own definition, and its two ends."""

from __future__ import annotations

import math

import pytest

from nsfw_guard.tools.evaluate.intervals import clopper_pearson

# From the beta quantiles of SciPy 1.17.
KNOWN = [
    (0, 100, 0.95, 0.0, 0.03621669264517641),
    (1, 1000, 0.95, 2.5317487491294065e-05, 0.005558924279826672),
    (3, 1000, 0.95, 0.0006190999316495715, 0.008742023238478303),
    (50, 100, 0.95, 0.398321129503301, 0.601678870496699),
    (833, 2500, 0.95, 0.31472745799284263, 0.35206404784700734),
    (33333, 100000, 0.999, 0.3284325256520352, 0.3382526830438007),
]


def binomial_tail(hits: int, count: int, rate: float) -> float:
    """The probability of at least `hits`, summed as it is defined."""
    logs = (
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        + k * math.log(rate) + (count - k) * math.log1p(-rate)
        for k in range(hits, count + 1)
    )  # fmt: skip
    return math.fsum(map(math.exp, logs))


@pytest.mark.parametrize(("hits", "count", "confidence", "low", "high"), KNOWN)
def test_known_intervals(hits: int, count: int, confidence: float, low: float, high: float) -> None:
    assert clopper_pearson(hits, count, confidence=confidence) == pytest.approx((low, high), rel=1e-8)


@pytest.mark.parametrize(("hits", "count"), [(1, 2), (2, 40), (17, 300), (299, 300), (40, 2000)])
def test_at_each_end_the_count_is_as_rare_as_the_confidence_says(hits: int, count: int) -> None:
    low, high = clopper_pearson(hits, count)
    assert binomial_tail(hits, count, low) == pytest.approx(0.025, rel=1e-7)
    assert 1.0 - binomial_tail(hits + 1, count, high) == pytest.approx(0.025, rel=1e-7)


def test_nothing_was_seen_and_everything_was_seen() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    assert clopper_pearson(0, 10)[0] == 0.0
    assert clopper_pearson(10, 10) == pytest.approx((1.0 - clopper_pearson(0, 10)[1], 1.0))


def test_more_confidence_is_a_wider_interval() -> None:
    widths = [high - low for low, high in (clopper_pearson(5, 200, confidence=c) for c in (0.5, 0.9, 0.95, 0.999))]
    assert widths == sorted(widths)
    assert len(set(widths)) == 4


@pytest.mark.parametrize(("hits", "count"), [(-1, 5), (6, 5), (0, -1)])
def test_counts_that_cannot_be(hits: int, count: int) -> None:
    with pytest.raises(ValueError, match="hits must be from 0"):
        clopper_pearson(hits, count)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, float("nan")])
def test_a_confidence_that_cannot_be(confidence: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        clopper_pearson(1, 5, confidence=confidence)
