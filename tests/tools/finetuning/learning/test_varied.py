"""Varied images."""

from __future__ import annotations

import pytest
import torch
from torch import Generator

from nsfw_guard.tools.finetuning.learning.batches import mixed, order_of, targets_of
from nsfw_guard.tools.finetuning.learning.varied import KINDS, vary
from nsfw_guard.tools.finetuning.recipe import Recipe

IMAGES = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=Generator().manual_seed(0))


def varied(kind: str, seed: int = 0) -> torch.Tensor:
    return vary(IMAGES, (kind,), Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_changes_images_stays_in_range_and_depends_on_the_seed_alone(kind: str) -> None:
    levels = varied(kind)
    assert levels.shape == IMAGES.shape
    assert levels.min() >= 0
    assert levels.max() <= 255
    assert not torch.equal(levels, IMAGES.float())
    assert torch.equal(levels, varied(kind))
    assert not torch.equal(levels, varied(kind, 1))


def test_nothing_is_changed_without_a_kind_and_the_original_never() -> None:
    before = IMAGES.clone()
    assert torch.equal(vary(IMAGES, (), Generator()), IMAGES.float())
    vary(IMAGES, tuple(KINDS), Generator())
    assert torch.equal(IMAGES, before)


def test_a_mirrored_image_is_the_image_or_its_mirror_image() -> None:
    levels, plain = varied("mirror"), IMAGES.float()
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(levels, plain, strict=True)]
    assert all(m or torch.equal(a, b) for m, a, b in zip(mirrored, levels, plain, strict=True))
    assert 20 < sum(mirrored) < 44


def test_targets_are_smoothed_and_mixed_as_images_are() -> None:
    targets = targets_of(torch.tensor([0, 1]), 4, 0.2)
    assert targets[0].tolist() == pytest.approx([0.85, 0.05, 0.05, 0.05])
    levels = torch.tensor([0.0, 100.0])[:, None, None, None].expand(2, 3, 2, 2)
    for seed in range(5):
        mix, aims = mixed(levels, targets_of(torch.tensor([0, 1]), 2, 0.0), 0.4, seed)
        assert mix[:, 0, 0, 0].tolist() == pytest.approx((aims[:, 1] * 100).tolist())


def test_rare_classes_come_as_often_as_the_balance_says() -> None:
    classes = torch.tensor([0] * 90 + [1] * 10)
    for balance, low, high in ((0.0, 0.1, 0.1), (0.5, 0.22, 0.28), (1.0, 0.47, 0.53)):
        weights = (torch.tensor([90.0, 10.0]) ** -balance)[classes]
        order = order_of(torch.arange(100), weights, Recipe(balance=balance), epoch=0, count=10_000)
        assert low <= classes[order].float().mean() <= high + 1e-6
    orders = [order_of(torch.arange(100), weights, Recipe(), epoch=epoch, count=50).tolist() for epoch in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
