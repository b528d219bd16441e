"""Three images that the fake model allows, blocks and reviews."""

from __future__ import annotations

import torch

CLEAN = torch.full((3, 8, 12), 0.4)
UNSAFE = torch.zeros(3, 8, 12)
UNSAFE[0] = 1.0
DOUBTFUL = CLEAN.clone()
DOUBTFUL[:, :, :4] = UNSAFE[:, :, :4]  # a third is red: above review 0.25, below block 0.5
BATCH = torch.stack([CLEAN, UNSAFE, DOUBTFUL])


def colours(out, index: int) -> list[float]:
    """The one colour of an image that is solid."""
    pixels = out[index].flatten(1)
    assert torch.equal(pixels, pixels[:, :1].expand_as(pixels))
    return [round(value, 2) for value in pixels[:, 0].tolist()]
