"""Images to tensors and back, and scenes: what every recipe here shares."""

from __future__ import annotations

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


def size(modules: Iterable[nn.Module]) -> int:
    """Return how many parameters the modules hold."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
