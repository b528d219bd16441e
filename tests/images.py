"""Images without a meaning, for tests that need any."""

from __future__ import annotations

import torch


def smooth(count: int, height: int, width: int, *, seed: int = 0) -> torch.Tensor:
    """Images that have structure at every scale, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    rough = torch.rand(count, 3, max(2, height // 7), max(2, width // 5), generator=generator)
    wide = torch.nn.functional.interpolate(rough, (height, width), mode="bilinear")
    return (wide + 0.1 * torch.rand(wide.shape, generator=generator)).clamp(0, 1)
