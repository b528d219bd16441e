"""Likeness: a radius that holds no more ordinary images than was said, and finds what is like the examples."""

from __future__ import annotations

import pytest
import torch

from nsfw_guard.backends.examples.likeness import Likeness, measured
from nsfw_guard.errors import ConfigError

WIDTH = 16


def ordinary(count: int, seed: int = 0) -> torch.Tensor:
    """Embeddings that are much alike in one direction, as those of real networks."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(count, WIDTH, generator=generator)
    vectors[:, 0] = 30 + 10 * vectors[:, 0]
    return vectors


def unusual(count: int, seed: int) -> torch.Tensor:
    """Embeddings with something that ordinary ones have not: small beside what all of them have."""
    vectors = ordinary(count, seed)
    vectors[:, 1] += 8
    return vectors


def test_a_radius_holds_the_share_of_ordinary_images_that_was_said_and_finds_the_others() -> None:
    likeness, (radius,) = measured(ordinary(4000), [unusual(5, 1)], budget=0.01)
    examples = likeness(unusual(5, 1))
    nearest = (likeness(ordinary(4000, 2)) @ examples.T).amax(1)
    alike = (likeness(unusual(1000, 3)) @ examples.T).amax(1)
    assert float((nearest >= radius.least).float().mean()) < 0.015
    assert float((alike >= radius.least).float().mean()) > 0.95
    assert radius.false_alarms <= 0.01
    assert radius.neighbours == 1.0


def test_without_whitening_the_same_images_are_not_told_apart() -> None:
    unit = torch.nn.functional.normalize
    examples = unit(unusual(5, 1), dim=1)
    least = (unit(ordinary(4000), dim=1) @ examples.T).amax(1).quantile(0.99)
    alike = (unit(unusual(1000, 3), dim=1) @ examples.T).amax(1) >= least
    assert float(alike.float().mean()) < 0.5


def test_the_budget_is_shared_by_the_labels() -> None:
    _, one = measured(ordinary(2000), [unusual(5, 1)], budget=0.01)
    _, two = measured(ordinary(2000), [unusual(5, 1), unusual(5, 2)], budget=0.01)
    assert two[0].least > one[0].least
    assert two[0].false_alarms <= 0.005


def test_a_single_example_has_no_neighbours() -> None:
    _, (radius,) = measured(ordinary(1000), [unusual(1, 1)], budget=0.01)
    assert radius.neighbours is None


@pytest.mark.parametrize("count", [2, 100, 390])
def test_too_few_ordinary_images_for_a_budget_are_an_error(count: int) -> None:
    with pytest.raises(ConfigError, match=r"a budget of 0.005 over 1 labels needs 402 ordinary images at least"):
        measured(ordinary(count), [unusual(5, 1)], budget=0.005)
    measured(ordinary(402), [unusual(5, 1)], budget=0.005)


@pytest.mark.parametrize("budget", [0.0, -0.1, 0.5, float("nan")])
def test_a_budget_is_a_small_share(budget: float) -> None:
    with pytest.raises(ConfigError, match=r"above 0 and below 0\.5"):
        measured(ordinary(1000), [unusual(5, 1)], budget=budget)


def test_ordinary_images_that_are_all_the_same_measure_nothing() -> None:
    with pytest.raises(ConfigError, match="all have the same embedding"):
        Likeness.measure(torch.ones(100, WIDTH))


def test_ordinary_images_that_are_equally_near_do_not_count_as_like() -> None:
    vectors = ordinary(20).repeat(100, 1)
    likeness, (radius,) = measured(vectors, [vectors[:1]], budget=0.01)
    assert (
        radius.least > 1.0 or float(((likeness(vectors) @ likeness(vectors[:1]).T) >= radius.least).float().mean()) == 0
    )


def test_large_numbers_are_compared_as_small_ones() -> None:
    likeness = Likeness.measure(ordinary(1000))
    one = likeness(torch.full((1, WIDTH), 1e30))
    assert float((one @ one.T).squeeze()) == pytest.approx(1.0, abs=1e-5)
