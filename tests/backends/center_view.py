"""What a model says of the view at the centre."""

from __future__ import annotations

import torch

from nsfw_guard.imaging.frames import Frames
from nsfw_guard.scores import Severity


def center(backend, pixels: torch.Tensor) -> torch.Tensor:
    """The center view's P(sexual) of each frame."""
    return torch.tensor([s.views[0].levels["sexual"][Severity.HIGH] for s in backend.score([Frames(pixels)])])
