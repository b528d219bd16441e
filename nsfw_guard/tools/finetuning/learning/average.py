"""The mean of a network's weights over steps, and how the learning rate rises and falls."""

from __future__ import annotations

import copy
import math
from typing import Generic, TypeVar

import torch
from torch import nn

T = TypeVar("T", bound=nn.Module)


class Average(Generic[T]):
    """An exponential moving average of a module's weights, warmed up so that early steps do not linger.

    Buffers, such as the statistics of batch normalisation, are those of the last step.
    """

    def __init__(self, module: T, *, decay: float = 0.999) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, module: T) -> None:
        """Move the average towards the module's present weights."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for mean, now in zip(self.module.parameters(), module.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)
        for kept, buffer in zip(self.module.buffers(), module.buffers(), strict=True):
            kept.copy_(buffer)


def rate_at(step: int, steps: int, *, peak: float, warm: float = 0.03) -> float:
    """Return the learning rate: a short linear warm-up, then half a cosine down to a hundredth of the peak."""
    done = step / max(steps, 1)
    if done < warm:
        return peak * (0.1 + 0.9 * done / warm)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = value
