"""Estimates from a stratified sample: by hand, and how often the interval holds the truth."""

from __future__ import annotations

import numpy as np
import pytest

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.evaluate.intervals import clopper_pearson, hits_of_all
from nsfw_guard.tools.evaluate.recall.estimate import Counted, estimate
from nsfw_guard.tools.evaluate.recall.strata import EDGES, Stratum, allocated, stratum_of

BLOCK, REVIEW, LOW, HIGH = (stratum_of("block", 0.9), stratum_of("review", 0.3), stratum_of("allow", 0.0),
                            stratum_of("allow", 0.4))  # fmt: skip


def test_what_was_looked_at_is_known() -> None:
    assert hits_of_all(3, 10, 10) == (3, 3)
    assert hits_of_all(0, 0, 7) == (0, 7)
    # One hit of two drawn of three: two hits would show exactly one with a chance of 2 in 3, one as well.
    assert hits_of_all(1, 2, 3) == (1, 2)
    low, high = hits_of_all(3, 1000, 10_000_000)
    binomial = clopper_pearson(3, 1000)
    assert (low / 10_000_000, high / 10_000_000) == pytest.approx(binomial, rel=1e-3)


@pytest.mark.parametrize("bad", [(-1, 5, 9), (6, 5, 9), (1, 10, 9)])
def test_counts_that_do_not_fit_are_refused(bad: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must rise from 0 on"):
        hits_of_all(*bad)


def test_the_interval_is_that_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for hits, drawn, size in [(0, 40, 300), (7, 40, 300), (40, 40, 300), (20, 30, 45)]:
        able = [n for n in range(size + 1) if stats.hypergeom.cdf(hits, size, n, drawn) > 0.025
                and stats.hypergeom.sf(hits - 1, size, n, drawn) > 0.025]  # fmt: skip
        assert hits_of_all(hits, drawn, size) == (able[0], able[-1])


def test_estimates_are_weighted() -> None:
    result = estimate({
        BLOCK: Counted(100, 50, 45), REVIEW: Counted(40, 40, 10), HIGH: Counted(200, 50, 5), LOW: Counted(9000, 300, 0)
    })  # fmt: skip
    assert result.unsafe.share == pytest.approx(90 + 10 + 20)
    assert result.recall.share == pytest.approx(90 / 120)
    assert result.recall_with_review.share == pytest.approx(100 / 120)
    assert result.alarms.share == pytest.approx(10 / (9340 - 120))
    for one in vars(result).values():
        assert one.low <= one.share <= one.high
    # Of 9,000 that nearly nobody looked at many may be unsafe.
    assert result.recall.low < 0.5


def test_with_everything_labelled_nothing_is_left_open() -> None:
    result = estimate({BLOCK: Counted(10, 10, 9), LOW: Counted(30, 30, 3)})
    assert (result.recall.low, result.recall.high) == (0.75, 0.75)
    assert (result.alarms.low, result.alarms.high) == pytest.approx((1 / 28, 1 / 28))


def test_without_an_unsafe_image_there_is_no_recall() -> None:
    result = estimate({BLOCK: Counted(2, 2, 0), LOW: Counted(30, 30, 0)})
    assert (result.recall.share, result.recall.low, result.recall.high) == (None, 0.0, 1.0)


def test_a_stratum_without_a_label_is_refused_with_the_number_that_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"2 strata have no label \(allow 0 to 0.02, block 0 to 1\): label 2 more"):
        estimate({LOW: Counted(9, 0, 0), BLOCK: Counted(9, 0, 0), HIGH: Counted(2, 1, 0)})


def test_draws_go_where_labels_are_hard_to_foresee() -> None:
    sizes = {LOW: 100_000, HIGH: 2000, BLOCK: 3, REVIEW: 500}
    counts = allocated(sizes, 400)
    assert sum(counts.values()) == 400
    assert counts[BLOCK] == 3
    assert min(counts[LOW], counts[HIGH], counts[REVIEW]) >= 5
    assert counts[HIGH] / sizes[HIGH] > 2 * counts[LOW] / sizes[LOW]
    assert allocated(sizes, 10**6) == sizes
    with pytest.raises(ConfigError, match="--draw 3: the scan has 4 strata"):
        allocated(sizes, 3)


def test_the_interval_holds_the_truth_at_least_as_often_as_it_says() -> None:
    """200 draws from each of three scans whose misses are known."""
    rng = np.random.default_rng(5)
    worlds = [
        {BLOCK: (300, 280), REVIEW: (150, 60), HIGH: (200, 40), LOW: (20_000, 30)},
        {BLOCK: (80, 79), LOW: (5000, 2)},
        {BLOCK: (60, 20), HIGH: (50, 30), LOW: (800, 100)},
    ]
    for world in worlds:
        unsafe = sum(count for _, count in world.values())
        recall = world[BLOCK][1] / unsafe
        alarms = (world[BLOCK][0] - world[BLOCK][1]) / (sum(size for size, _ in world.values()) - unsafe)
        drawn = allocated({stratum: size for stratum, (size, _) in world.items()}, 300)
        held = {"recall": 0, "alarms": 0}
        for _ in range(200):
            sample = {
                stratum: Counted(size, drawn[stratum], int(rng.hypergeometric(count, size - count, drawn[stratum])))
                for stratum, (size, count) in world.items()
            }
            result = estimate(sample)
            held["recall"] += result.recall.low <= recall <= result.recall.high
            held["alarms"] += result.alarms.low - 1e-12 <= alarms <= result.alarms.high + 1e-12
        assert min(held.values()) >= 190


def test_every_score_has_one_stratum() -> None:
    for score in (0.0, *EDGES, 0.019, 1.0):
        stratum = stratum_of("allow", score)
        assert stratum.low <= score
        assert score < stratum.high or score == 1.0
    assert stratum_of("block", 0.1) == stratum_of("block", 1.0) == Stratum("block", 0.0, 1.0)
