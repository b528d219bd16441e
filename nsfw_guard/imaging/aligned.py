"""TensorFlow's bilinear resize with aligned corners: the corner pixels stay where they are, and nothing is rounded.

Each pixel is mixed from the four around its place, however many lie between: large images are sampled, not averaged.
The products and sums are separate operations on float32, which every device rounds alike.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from nsfw_guard.errors import ImageError


def aligned(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize 8-bit images as `tf.image.resizeBilinear` of TensorFlow.js does with `alignCorners`.

    Args:
        pixels: uint8, Shape: (N, C, H, W), on any device.
        size: (height, width).

    Shape: (N, C, height, width), float32 levels in [0, 255], same device. Divided by 255 they are within 1e-6 of its
    result on floats.
    """
    if pixels.dtype != torch.uint8 or pixels.ndim != 4:
        raise ImageError(f"aligned expects uint8 images (N, C, H, W), got {pixels.dtype} {tuple(pixels.shape)}")
    if (pixels.shape[-2], pixels.shape[-1]) == size:
        return pixels.float()
    above, below, down = _places(pixels.shape[-2], size[0], pixels.device)
    left, right, across = _places(pixels.shape[-1], size[1], pixels.device)
    top, bottom = (
        _between(rows[..., left].float(), rows[..., right].float(), across)
        for rows in (pixels[..., above, :], pixels[..., below, :])
    )
    return _between(top, bottom, down[:, None])


def _between(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """From the first to the second by this share, in three operations: one fused would round otherwise elsewhere."""
    return (second - first).mul_(share).add_(first)


@lru_cache(maxsize=64)
def _places(source: int, target: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each new pixel the two old ones that it lies between, and how far from the first."""
    ratio = (source - 1) / (target - 1) if target > 1 else source / target
    place = np.arange(target) * ratio
    first = np.floor(place)
    second = np.minimum(np.ceil(place), source - 1)
    indices = (torch.from_numpy(where.astype(np.int64)).to(device) for where in (first, second))
    return (*indices, torch.from_numpy((place - first).astype(np.float32)).to(device))  # type: ignore[return-value]
