"""Images to tensors and back, and the learning-rate and averaging helpers every recipe here shares."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from nsfw_guard.demo import shapes

SIDE = 64


def stack(images: Sequence[Image.Image]) -> Tensor:
    """Return images of one size as a float tensor. Shape: [n, 3, h, w], in -1 to 1."""
    return floats(torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images])))


def floats(levels: Tensor) -> Tensor:
    """Turn [n, h, w, 3] bytes into [n, 3, h, w] floats in -1 to 1."""
    return levels.permute(0, 3, 1, 2).float().div(127.5).sub(1.0).contiguous()


def images(batch: Tensor) -> list[Image.Image]:
    """Turn [n, 3, h, w] in -1 to 1 into RGB images."""
    levels = batch.detach().float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return [Image.fromarray(np.ascontiguousarray(level.permute(1, 2, 0).numpy())) for level in levels]


def scenes(rng: np.random.Generator, count: int) -> list[shapes.Scene]:
    """Return captioned scenes as the pipeline learns them: one shape, or two in three of ten."""
    drawn = rng.choice([1, 2], size=count, p=[0.7, 0.3])
    return [shapes.random_scene(rng, shapes=int(number)) for number in drawn]


def rate(step: int, steps: int, *, peak: float, warm: float = 0.03) -> float:
    """Return a short linear warm-up, then half a cosine down to a hundredth of the peak."""
    done = step / max(steps, 1)
    if done < warm:
        return peak * (0.1 + 0.9 * done / warm)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = value


def size(modules: Iterable[nn.Module]) -> int:
    """Return how many parameters the modules hold."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


class Average:
    """An exponential moving average of a module's weights, warmed up so that early steps do not linger."""

    def __init__(self, module: nn.Module, *, decay: float = 0.999) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the module's present weights."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for mean, now in zip(self.module.parameters(), module.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)
