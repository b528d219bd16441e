"""From frames to a model's input, on the device, as the model's authors' own pictures came to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from nsfw_guard.errors import UnknownNameError
from nsfw_guard.images import Frames
from nsfw_guard.resize import effective_method, resize
from nsfw_guard.scores import View
from nsfw_guard.views import InputSpec, Look, check_views, plan

Resize = Literal["exact", "fast"]


@dataclass(frozen=True)
class Prepared:
    """What a stack of frames became.

    Args:
        pixels: the 8-bit pixels that the model is shown. Shape: (N, V, 3, S, S).
        views: the V views, the authors' own first.
        extremes: low and high of the floats that came. Shape: (N, 2), or None for bytes.
    """

    pixels: Tensor
    views: tuple[View, ...]
    extremes: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Quantise, resize, crop, normalise.

    `resize="exact"` gives Pillow's own pixels. `"fast"` is at most 2 levels off on under 0.5% of the pixels on a CPU
    (1 level elsewhere) and several times faster there.
    """

    spec: InputSpec
    views: str = "cover"
    resize: Resize = "exact"

    def __post_init__(self) -> None:
        check_views(self.views)
        if self.resize not in get_args(Resize):
            raise UnknownNameError("resize", self.resize, get_args(Resize))

    def prepare(self, frames: Frames) -> Prepared:
        """The 8-bit pixels that the model is shown of each frame."""
        levels, extremes = frames.quantise()
        height, width = levels.shape[-2:]
        looks = plan(height, width, self.spec, self.views)
        resized: dict[object, Tensor] = {}
        shown = []
        for look in looks:
            key = look.region, look.size
            if key not in resized:
                top, left, bottom, right = look.region
                resized[key] = self._resize(levels[..., top:bottom, left:right], look.size)
            shown.append(self._window(resized[key], look))
        # Planes, each in one piece: normalising reads them several times.
        pixels = torch.stack([window.contiguous() for window in shown], 1)
        return Prepared(pixels, tuple(look.view for look in looks), extremes)

    def normalise(self, pixels: Tensor) -> Tensor:
        """8-bit pixels as the model wants them. Shape: (..., 3, S, S), float32."""
        mean, std = (torch.tensor(v, device=pixels.device).view(3, 1, 1) for v in (self.spec.mean, self.spec.std))
        return pixels.float().div_(255).sub_(mean).div_(std)

    def effective(self, device: torch.device, sizes: Sequence[tuple[int, int]] = ()) -> str:
        """How pictures are really resized on this device, in words for the state."""
        if self.resize == "fast":
            return "fast"
        target = (self.spec.size, self.spec.size)
        methods = {effective_method(device, size, target) for size in sizes or [(1024, 1024)]}
        return f"exact ({', '.join(sorted(methods))})"

    def _resize(self, levels: Tensor, size: tuple[int, int]) -> Tensor:
        method = "fast" if self.resize == "fast" else "auto"
        return resize(levels, size, interpolation=self.spec.interpolation, method=method)  # type: ignore[arg-type]

    def _window(self, resized: Tensor, look: Look) -> Tensor:
        """The square window at `look.at`, filled up with the mean where the picture is smaller."""
        side = self.spec.size
        top, left = (max(a, 0) for a in look.at)
        window = resized[..., top : top + side, left : left + side]
        height, width = window.shape[-2:]
        if (height, width) == (side, side):
            return window
        above, before = (max(-a, 0) for a in look.at)
        edges = (before, side - width - before, above, side - height - above)
        fill = [round(255 * m) for m in self.spec.mean]
        padded = [functional.pad(window[:, c], edges, value=float(v)) for c, v in enumerate(fill)]
        return torch.stack(padded, 1)
