"""Promises: kept as often as they say, and refused where nobody could keep them."""

from __future__ import annotations

import math
import random

import pytest

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.teaching.promise import (
    TooFewImagesError,
    alarm_promise,
    allowed_wrong,
    miss_promise,
    upper_bound,
)


@pytest.mark.parametrize(
    ("most", "confidence", "needed"), [(0.01, 0.95, 299), (0.05, 0.95, 59), (0.001, 0.95, 2995), (0.01, 0.99, 459)]
)
def test_too_few_images_are_refused_with_the_number_that_is_needed(most: float, confidence: float, needed: int) -> None:
    with pytest.raises(
        TooFewImagesError, match=f"needs {needed} independent images at least, got {needed - 1}"
    ) as info:
        miss_promise([0.5] * (needed - 1), most=most, confidence=confidence)
    assert (info.value.needed, info.value.count) == (needed, needed - 1)
    assert miss_promise([0.5] * needed, most=most, confidence=confidence).wrong == 0


def test_so_many_may_be_wrong_as_the_bound_of_clopper_and_pearson_allows() -> None:
    for count in (299, 472, 473, 1000, 5000):
        allowed = allowed_wrong(count, 0.01, 0.95)
        assert upper_bound(allowed, count) <= 0.01 < upper_bound(allowed + 1, count)


def test_a_threshold_is_a_score_and_what_lies_below_is_missed() -> None:
    scores = [i / 1000 for i in range(1000)]
    promise = miss_promise(scores, most=0.02)
    assert promise.wrong == allowed_wrong(1000, 0.02, 0.95) == 12
    assert promise.threshold == 0.012
    assert promise.bound <= 0.02


def test_equal_scores_are_on_the_same_side() -> None:
    assert miss_promise([0.2] * 400, most=0.01).wrong == 0
    promise = alarm_promise([0.2] * 400, most=0.01)
    assert (promise.wrong, promise.threshold) == (0, math.nextafter(0.2, 1.0))


def test_a_false_alarm_promise_flags_as_few_as_it_says() -> None:
    scores = [i / 1000 for i in range(1000)]
    promise = alarm_promise(scores, most=0.02)
    assert promise.wrong == 12
    assert promise.threshold == math.nextafter(0.987, 1.0)


@pytest.mark.parametrize("make", [miss_promise, alarm_promise])
def test_promises_are_kept_as_often_as_they_say(make) -> None:  # type: ignore[no-untyped-def]
    rng, broken, draws = random.Random(20261130), 0, 400
    for _ in range(draws):
        promise = make([rng.random() for _ in range(320)], most=0.02)
        rate = promise.threshold if make is miss_promise else 1.0 - promise.threshold
        broken += rate > 0.02
    # 5% may be broken; with 400 draws 8% would be seen once in 300 times.
    assert 0 < broken <= 0.08 * draws


@pytest.mark.parametrize(("most", "confidence"), [(0.0, 0.95), (1.0, 0.95), (0.01, 1.0), (float("nan"), 0.95)])
def test_a_share_is_between_0_and_1(most: float, confidence: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        miss_promise([0.5] * 1000, most=most, confidence=confidence)


@pytest.mark.parametrize("score", [float("nan"), -0.1, 1.1])
def test_what_is_no_score_is_refused(score: float) -> None:
    with pytest.raises(ConfigError, match="must be from 0 to 1"):
        miss_promise([0.5] * 400 + [score], most=0.01)
