"""The 8-bit levels that an image will be saved with, rounded as the pipelines round them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

ValueRange = Literal["unit", "signed"]
# How far floats may exceed their range: by rounding in "unit"; by a decoder's overshoot, which every pipeline clips,
# in "signed".
BOUNDS = {"unit": (-1 / 256, 1 + 1 / 256), "signed": (-8.0, 8.0)}
STRIP_ROWS = 128  # rows at a time on the CPU: few enough to stay in the cache


def quantise(pixels: Tensor, value_range: ValueRange) -> tuple[Tensor, Tensor]:
    """Return floats as 8-bit levels, and the extremes of the floats.

    Shape: (N, 3, H, W) in `value_range` to uint8 (N, 3, H, W) and float32 (N, 2), low and high.
    """
    if pixels.device.type == "cpu":
        return _in_cache(pixels, value_range)
    return _levels(pixels, value_range).to(torch.uint8), extremes(pixels)


def extremes(pixels: Tensor) -> Tensor:
    """Return the lowest and highest value of each frame; NaN where it contains one. Shape: float32 (N, 2)."""
    flat = pixels.detach().flatten(1)
    return torch.stack([flat.amin(1), flat.amax(1)], 1).float()


def _levels(pixels: Tensor, value_range: ValueRange, into: Tensor | None = None) -> Tensor:
    """0 to 255 as whole floats. Each step rounds as the pipelines' own step does, in the dtype of the pixels."""
    kind = pixels.dtype
    if value_range == "unit" and kind == torch.float32:
        return torch.mul(pixels, 255, out=into).clamp_(0, 255).round_()
    if kind == torch.float32:
        # (x * 0.5 + 0.5) * 255 in one step less: halving is exact, so both round alike.
        return torch.add(pixels, 1, out=into).mul_(127.5).clamp_(0, 255).round_()
    wide = torch.promote_types(kind, torch.float32)
    values = pixels.to(wide)
    if value_range == "signed":
        values = values.mul(0.5).to(kind).to(wide).add_(0.5).to(kind)
    return values.float().clamp(0, 1).mul_(255).round_()


def _in_cache(pixels: Tensor, value_range: ValueRange) -> tuple[Tensor, Tensor]:
    """The same a few rows at a time, packed as RGBX, which Pillow and torch's resize both read in place."""
    count, _, height, width = pixels.shape
    packed = torch.empty((count, height, width), dtype=torch.int32)
    strip = torch.empty((3, min(STRIP_ROWS, height), width))
    lows, highs = [], []
    for source, target in zip(pixels, packed, strict=True):
        for row in range(0, height, STRIP_ROWS):
            part = source[:, row : row + STRIP_ROWS]
            lows.append(part.amin())
            highs.append(part.amax())
            red, green, blue = _levels(part, value_range, strip[:, : part.shape[1]])
            # Whole numbers below 2**24: exact in float32.
            target[row : row + STRIP_ROWS] = red.add_(green, alpha=1 << 8).add_(blue, alpha=1 << 16)
    low, high = (torch.stack(parts).view(count, -1).float() for parts in (lows, highs))
    bounds = torch.stack([low.amin(1), high.amax(1)], 1)
    return packed.view(torch.uint8).view(count, height, width, 4).permute(0, 3, 1, 2)[:, :3], bounds
