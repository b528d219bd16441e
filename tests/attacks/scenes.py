"""The unsafe image of these tables, and its harmless twin."""

from __future__ import annotations

import torch
from torch import Tensor


def scene(side: int = 48) -> Tensor:
    """A red disc on a checked ground: unsafe here. Shape: (3, side, side)."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    ground = ((torch.arange(side)[:, None] // 6 + torch.arange(side) // 6) % 2).float() * 0.5 + 0.2
    image = ground.expand(3, -1, -1).clone()
    image[:, x**2 + y**2 < 0.8] = torch.tensor([0.9, 0.1, 0.1])[:, None]
    return image


UNSAFE = scene()
CLEAN = UNSAFE.flip(0)  # the disc is blue
BATCH = torch.stack([CLEAN, UNSAFE])
