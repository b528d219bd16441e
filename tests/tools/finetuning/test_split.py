"""Splits in which copies are never on both sides."""

from __future__ import annotations

import numpy as np
import pytest

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.finetuning.split import leaks, split

NAMES = ("unsafe", "safe")


def test_a_class_of_one_image_and_its_copies_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"'unsafe' has no two images .* of 1 in all"):
        split([0, 1, 2, 3], [0, 1, 1, 1], NAMES, share=0.2)
    with pytest.raises(ConfigError, match=r"'unsafe' has no two images .* of 3 in all"):
        split([0, 0, 0, 3, 4], [0, 0, 0, 1, 1], NAMES, share=0.2)


@pytest.mark.parametrize("seed", range(20))
def test_groups_stay_together_and_every_class_is_on_both_sides(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = [int(rng.integers(0, 60)) for _ in range(200)]
    groups = [groups.index(group) for group in groups]
    classes = [int(rng.random() < 0.8) for _ in range(200)]
    sides = split(groups, classes, NAMES, share=0.2, seed=seed)
    assert sorted([*sides.training, *sides.validation]) == list(range(200))
    assert not {groups[at] for at in sides.training} & {groups[at] for at in sides.validation}
    assert {classes[at] for at in sides.training} == {classes[at] for at in sides.validation} == {0, 1}


def test_the_share_is_met_class_by_class() -> None:
    classes = [0] * 50 + [1] * 500
    sides = split(list(range(550)), classes, NAMES, share=0.2)
    assert [sum(classes[at] == number for at in sides.validation) for number in (0, 1)] == [10, 100]


def test_two_images_are_one_for_each_side() -> None:
    sides = split(list(range(6)), [0, 0, 1, 1, 1, 1], NAMES, share=0.2)
    assert sum(at < 2 for at in sides.validation) == 1


def test_another_seed_is_another_split_and_the_same_one_the_same() -> None:
    classes = [0, 1] * 50
    sides = [split(list(range(100)), classes, NAMES, share=0.2, seed=seed) for seed in (0, 0, 1)]
    assert sides[0] == sides[1] != sides[2]


def test_copies_of_training_images_among_validation_images_are_listed() -> None:
    assert leaks([0, 1, 0, 3, 1, 4], 3) == {4: 1}
    assert leaks([0, 1, 2, 3], 2) == {}
