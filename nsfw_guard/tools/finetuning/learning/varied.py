"""Batches of images, varied while training. Every number comes from a generator that the step seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional

TURN, ZOOM, SHIFT = math.radians(15), 0.25, 0.1  # of "move": angle, log of the scale, fraction of the side
GAIN, GRAIN, PATCH = 0.08, 6.0, 0.3  # of "shade", "noise" (levels) and "erase" (side of the patch)


def vary(images: Tensor, kinds: Sequence[str], generator: Generator) -> Tensor:
    """Return varied copies of 8-bit images, as float levels. Shape: (N, 3, S, S), in [0, 255].

    The generator is one of the CPU, so that a run is the same on every device.
    """
    levels = images.float()
    for kind, one in KINDS.items():
        if kind in kinds:
            levels = one(levels, generator)
    return levels


def _drawn(levels: Tensor, generator: Generator, *shape: int) -> Tensor:
    """Numbers in [0, 1) for each image."""
    return torch.rand(len(levels), *shape, generator=generator).to(levels.device)


def _mirror(levels: Tensor, generator: Generator) -> Tensor:
    return torch.where(_drawn(levels, generator, 1, 1, 1) < 0.5, levels.flip(3), levels)


def _flip(levels: Tensor, generator: Generator) -> Tensor:
    return torch.where(_drawn(levels, generator, 1, 1, 1) < 0.5, levels.flip(2), levels)


def _transpose(levels: Tensor, generator: Generator) -> Tensor:
    return torch.where(_drawn(levels, generator, 1, 1, 1) < 0.5, levels.transpose(2, 3), levels)


def _move(levels: Tensor, generator: Generator) -> Tensor:
    """Turn, scale and shift a little; the edge goes on outwards."""
    angle, zoom, x, y = (2 * _drawn(levels, generator, 4) - 1).unbind(1)
    angle, scale = angle * TURN, torch.exp(zoom * ZOOM)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    theta = torch.stack([torch.stack([cos, -sin, x * 2 * SHIFT], 1), torch.stack([sin, cos, y * 2 * SHIFT], 1)], 1)
    grid = functional.affine_grid(theta, list(levels.shape), align_corners=False)
    return functional.grid_sample(levels, grid, padding_mode="border", align_corners=False)


def _shade(levels: Tensor, generator: Generator) -> Tensor:
    gain = 1 + GAIN * (2 * _drawn(levels, generator, 3, 1, 1) - 1)
    return (levels * gain).clamp(0, 255)


def _noise(levels: Tensor, generator: Generator) -> Tensor:
    grain = torch.randn(levels.shape, generator=generator).to(levels.device)
    return (levels + GRAIN * grain).clamp(0, 255)


def _erase(levels: Tensor, generator: Generator) -> Tensor:
    """Cover a square of half of the images with grey."""
    side = levels.shape[-1]
    at = (_drawn(levels, generator, 2) * side).long()
    reach = torch.arange(side, device=levels.device)
    half = max(1, round(PATCH * side / 2))
    near = [(reach[None] - at[:, i, None]).abs() < half for i in (0, 1)]
    covered = near[0][:, None, :, None] & near[1][:, None, None, :] & (_drawn(levels, generator, 1, 1, 1) < 0.5)
    return torch.where(covered, levels.new_tensor(128.0), levels)


KINDS: Mapping[str, Callable[[Tensor, Generator], Tensor]] = {
    "mirror": _mirror,
    "flip": _flip,
    "transpose": _transpose,
    "move": _move,
    "shade": _shade,
    "noise": _noise,
    "erase": _erase,
}
