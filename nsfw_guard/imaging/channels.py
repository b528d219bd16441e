"""Grey and RGBA tensors: how viewers may show them, and a cover in their channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nsfw_guard.imaging.quantise import BOUNDS, ValueRange


def to_decoder_array(image: Tensor, value_range: ValueRange) -> np.ndarray[Any, Any]:
    """Return a grey or RGBA tensor (C, H, W) as an array for the decoder, which knows what to do with alpha."""
    array = _unit(image, value_range).permute(1, 2, 0).cpu().numpy()
    return array if array.shape[2] == 4 else array[..., 0]


def alpha_composites(image: Tensor, value_range: ValueRange) -> Tensor:
    """Return how an RGBA tensor may be shown, on its device: bare, on black, on white.

    Shape: (4, H, W) to (3, 3, H, W).
    """
    unit = _unit(image, value_range)
    unit = unit / 255 if unit.dtype == torch.uint8 else unit
    colours, alpha = unit[:3], unit[3:].clamp(0, 1)
    return torch.stack([colours, colours * alpha, colours * alpha + (1 - alpha)])


def _unit(image: Tensor, value_range: ValueRange) -> Tensor:
    """Floats in [0, 1], with a decoder's overshoot clipped as every pipeline clips it; a NaN stays NaN."""
    if image.dtype == torch.uint8:
        return image
    if value_range == "unit":
        return image.float()
    low, high = BOUNDS["signed"]
    wild = (image < low) | (image > high)
    return torch.where(wild, torch.nan, image.float().mul(0.5).add(0.5).clamp(0, 1))


def with_channels(levels: Tensor, channels: int) -> Tensor:
    """Return RGB levels (3, H, W) as grey, RGB or opaque RGBA."""
    if channels == 1:
        return levels.float().mean(0, keepdim=True).round().to(torch.uint8)
    return levels if channels == 3 else torch.cat([levels, torch.full_like(levels[:1], 255)])
