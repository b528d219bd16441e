"""Which images a step shows, and what each should be called: functions of the seed and the step alone."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from nsfw_guard.tools.finetuning.recipe import Recipe


def seed_of(seed: int, what: str, number: int, rank: int = 0) -> int:
    """Return a seed for one purpose at one step, in one process."""
    return int.from_bytes(hashlib.sha256(f"{seed} {what} {number} {rank}".encode()).digest()[:7], "big")


def order_of(training: Tensor, weights: Tensor, recipe: Recipe, *, epoch: int, count: int) -> Tensor:
    """Return the images of an epoch, in order; rare classes come more often, as the recipe says.

    Args:
        training: positions of images. Shape: (n,).
        weights: how often each of them should come. Shape: (n,).
        recipe: its seed and its balance.
        epoch: the number of the epoch.
        count: how many images to return.
    """
    generator = Generator().manual_seed(seed_of(recipe.seed, "order", epoch))
    if recipe.balance:
        return training[torch.multinomial(weights, count, replacement=True, generator=generator)]
    rounds = -(-count // len(training))
    return training[torch.cat([torch.randperm(len(training), generator=generator) for _ in range(rounds)])[:count]]


def targets_of(classes: Tensor, count: int, smoothing: float) -> Tensor:
    """Return the probabilities that are wanted. Shape: (n,) to (n, count)."""
    return functional.one_hot(classes, count).float() * (1 - smoothing) + smoothing / count


def mixed(levels: Tensor, targets: Tensor, alpha: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return a batch in which each image, and its target, is mixed with another one of the batch."""
    rng = np.random.default_rng(seed)
    share, other = float(rng.beta(alpha, alpha)), torch.from_numpy(rng.permutation(len(levels)))
    return (
        levels * share + levels[other.to(levels.device)] * (1 - share),
        targets * share + targets[other.to(targets.device)] * (1 - share),
    )
