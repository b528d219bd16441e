"""Scores side by side: differences, flips, and blocks that became allows."""

from __future__ import annotations

import json
import math

import pytest

from nsfw_guard.errors import ConfigError
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.tools.evaluate.parity import Flips, compare

DEFAULT = {"default": Threshold(block=0.5, review=0.25)}
NAN = math.nan


def red(*scores: float) -> list[dict[str, float]]:
    return [{"red": score} for score in scores]


def test_equal_scores_differ_in_nothing() -> None:
    result = compare(red(0.1, NAN), red(0.1, NAN), DEFAULT)
    assert (result.images, result.largest, result.at, result.released) == (2, 0.0, None, ())
    assert result.flips == {"default": Flips((), ())}


@pytest.mark.parametrize(
    ("before", "after", "changed", "released"),
    [
        (0.5, 0.4999, True, False),  # held for review
        (0.5, 0.2499, True, True),
        (0.2499, 0.5, True, False),
        (0.3, 0.2, True, False),  # was not blocked
        (0.9, NAN, True, False),  # an ERROR is covered
        (NAN, 0.1, True, False),
        (0.6, 0.9, False, False),
        (0.9, math.inf, True, False),
    ],
)
def test_flips_are_counted_and_only_a_block_that_is_allowed_is_a_release(
    before: float, after: float, changed: bool, released: bool
) -> None:
    (flips,) = compare(red(0.0, before), red(0.0, after), DEFAULT).flips.values()
    assert flips == Flips((1,) if changed else (), (1,) if released else ())


def test_every_threshold_counts() -> None:
    two = {**DEFAULT, "lenient": Threshold(block=0.9)}
    result = compare(red(0.95, 0.55, 0.1), red(0.89, 0.1, 0.1), two)
    assert result.flips == {"default": Flips((1,), (1,)), "lenient": Flips((0,), (0,))}
    assert result.released == (0, 1)
    assert (result.largest, result.at) == (pytest.approx(0.45), 1)


def test_the_worst_category_decides() -> None:
    limits = {"default": Threshold(block=0.5, blocks={"gore": 0.9})}
    before = [{"gore": 0.95, "hate": 0.6}, {"gore": 0.95, "hate": 0.1}]
    after = [{"gore": 0.7, "hate": 0.6}, {"gore": 0.7, "hate": 0.1}]
    assert compare(before, after, limits).released == (1,)


def test_a_score_that_is_missing_is_an_infinite_difference_and_no_number_in_json() -> None:
    result = compare(red(0.2), red(NAN), DEFAULT)
    assert result.largest == math.inf
    content = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert content["largest_difference"] is None
    assert content["flips"]["default"] == {"changed": [0], "block_to_allow": []}


def test_only_the_same_images_can_be_compared() -> None:
    for other in (red(0.1), [{"blue": 0.1}, {"blue": 0.1}]):
        with pytest.raises(ConfigError, match="for the same images and categories only, got 2 and"):
            compare(red(0.1, 0.2), other, DEFAULT)
