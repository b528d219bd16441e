"""The last layer on embeddings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.finetuning.learning.probe import probe

WIDTH = 12


def points(counts: list[int], seed: int = 0, apart: float = 3.0) -> tuple[Tensor, Tensor]:
    """Embeddings in clouds, one a class."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.cat([torch.full((count,), number) for number, count in enumerate(counts)])
    features = torch.randn(len(classes), WIDTH, generator=generator)
    features[torch.arange(len(classes)), classes] += apart
    return features * 5 + 2, classes


def head(classes: int) -> nn.Linear:
    layer = nn.Linear(WIDTH, classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def test_a_class_with_one_image_is_refused() -> None:
    features, classes = points([1, 20])
    with pytest.raises(ConfigError, match="fewer than two images"):
        probe(features, classes, head(2), (None, None), groups=range(21))


def test_clouds_are_told_apart_also_those_that_were_not_learnt_from() -> None:
    features, classes = points([20, 20, 20])
    result = probe(features, classes, head(3), (None,) * 3, groups=range(60))
    others, expected = points([500] * 3, seed=1)
    assert (result.head(others).argmax(1) == expected).float().mean() > 0.93
    assert sum(row[at] for at, row in enumerate(result.answers)) / 60 >= 0.85
    assert [count for count, _ in result.curve] == sorted(count for count, _ in result.curve)


def test_noise_is_not_learnt_and_its_accuracy_is_not_overstated() -> None:
    features, classes = points([40, 40], apart=0.0)
    result = probe(features, classes, head(2), (None, None), groups=range(80))
    assert sum(row[at] for at, row in enumerate(result.answers)) / 80 < 0.65
    assert result.pull >= 0.1


def test_copies_are_left_out_together() -> None:
    """Two labels drawn for random points: whoever learns from a copy would be right about it."""
    features, _ = points([16], apart=0.0)
    classes = torch.tensor([0, 1] * 8)
    copies, labels = features.repeat(6, 1), classes.repeat(6)
    apart = probe(copies, labels, head(2), (None, None), groups=range(96))
    together = probe(copies, labels, head(2), (None, None), groups=list(range(16)) * 6)
    right = [sum(row[at] for at, row in enumerate(result.answers)) / 96 for result in (apart, together)]
    assert right[0] > 0.9
    assert right[1] < 0.7


def test_a_class_without_images_is_not_unlearnt_by_a_new_one() -> None:
    before = head(2)
    with torch.no_grad():
        before.weight[0, 0], before.bias[0] = 1.0, -8.0
    start = head(3)
    with torch.no_grad():
        start.weight[:2], start.bias[:2] = before.weight, before.bias
    features, classes = points([0, 40, 20])
    result = probe(features, classes, start, (0, 1, None), groups=range(60))
    assert torch.allclose(result.head.weight[:2], before.weight, atol=1e-5)
    assert torch.allclose(result.head.bias[:2], before.bias, atol=1e-4)
    others, expected = points([200] * 3, seed=1)
    answers = result.head(others).argmax(1)
    assert (answers[expected == 2] == 2).float().mean() > 0.8
    assert (answers[expected == 0] == 0).float().mean() > 0.8
