"""A head answers only for finite latents of its own shape, and is the same after it was saved."""

from __future__ import annotations

import pytest
import torch

from nsfw_guard.errors import ConfigError, ScoringError
from nsfw_guard.pipelines.early.head import GRID, LatentHead, pooled

SHAPE = (4, 6, 6)


def spotted(count, seed=0, shape=SHAPE):
    """Latents of noise, every other one with a bright spot somewhere, and whether it has one."""
    generator = torch.Generator().manual_seed(seed)
    latents, blocked = torch.randn(count, *shape, generator=generator), [i % 2 == 1 for i in range(count)]
    for i in range(1, count, 2):
        y, x = torch.randint(0, 4, (2,), generator=generator).tolist()
        latents[i, 0, y : y + 3, x : x + 3] += 3
    return latents, blocked


@pytest.fixture(scope="module")
def head():
    return LatentHead.fit(*spotted(128), SHAPE)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_latents_that_are_not_finite_get_no_answer(head, value) -> None:
    latents, _ = spotted(3)
    latents[1, 2, 3, 3] = value
    with pytest.raises(ScoringError, match="not finite"):
        head(latents)


def test_answers_that_are_not_finite_are_refused(head) -> None:
    huge = LatentHead(SHAPE, head.mean, head.spread, tuple(1e38 for _ in head.parameters))
    with pytest.raises(ScoringError, match="not finite"):
        huge(spotted(2)[0])


@pytest.mark.parametrize("shape", [(4, 6, 8), (4, 12, 12), (3, 6, 6)])
def test_latents_of_another_shape_are_refused(head, shape) -> None:
    with pytest.raises(ConfigError, match=r"trained on latents of shape \(4, 6, 6\), got .*: fit again"):
        head(torch.zeros(1, *shape))


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": [0.0] * 7},
        {"mean": [0.0]},
        {"spread": [1.0, 1.0, 1.0, float("nan")]},
        {"spread": [1.0, 0.0, 1.0, 1.0]},
        {"shape": [8, 6, 6]},
        {"shape": [4, 0, 6]},
    ],
)
def test_numbers_that_make_no_head_are_refused(head, change) -> None:
    with pytest.raises(ConfigError, match="fit it again"):
        LatentHead.from_dict({**head.to_dict(), **change})


def test_it_finds_what_it_was_taught_in_latents_that_it_has_not_seen(head) -> None:
    latents, blocked = spotted(200, seed=1)
    answers = torch.tensor(head(latents))
    spots = torch.tensor(blocked)
    ordered = (answers[spots][:, None] > answers[~spots][None]).float().mean()
    assert float(ordered) > 0.95


def test_a_head_from_its_values_answers_the_same(head) -> None:
    latents, _ = spotted(16, seed=2)
    loaded = LatentHead.from_dict(head.to_dict())
    assert loaded == head
    assert loaded(latents) == pytest.approx(head(latents), abs=1e-6)


def test_training_follows_the_seed_and_leaves_torch_alone(head) -> None:
    before = torch.get_rng_state()
    again, other = (LatentHead.fit(*spotted(128), SHAPE, seed=seed) for seed in (0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    latents, _ = spotted(16, seed=2)
    assert again(latents) == pytest.approx(head(latents), abs=0.01)
    assert other(latents) != pytest.approx(head(latents), abs=1e-6)


@pytest.mark.parametrize("channels", [4, 16, 128])
def test_a_head_has_a_few_thousand_numbers(channels) -> None:
    latents = torch.randn(4, channels, 4, 4, generator=torch.Generator().manual_seed(0))
    head = LatentHead.fit(latents, [True, False] * 2, (channels, 4, 4))
    assert 3000 < len(head.parameters) < 5000


@pytest.mark.parametrize(
    ("side", "cells"), [((16, 16), (16, 16)), ((64, 64), (16, 16)), ((80, 40), (16, 8)), ((33, 2), (11, 1))]
)
def test_large_latents_are_averaged_to_a_small_grid(side, cells) -> None:
    small = pooled(torch.ones(2, 4, *side, dtype=torch.bfloat16))
    assert small.shape == (2, 4, *cells)
    assert small.dtype == torch.float32
    assert max(cells) <= GRID
    assert float(small.mean()) == 1.0
