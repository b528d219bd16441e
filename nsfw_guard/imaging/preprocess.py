"""Frames to a model's input, on the device, prepared as by the model's authors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.imaging.aligned import aligned
from nsfw_guard.imaging.content import cells
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.imaging.resize import effective_method, resize
from nsfw_guard.imaging.views import InputSpec, Look, cell_looks, check_views, plan
from nsfw_guard.scores import View

Resize = Literal["exact", "fast"]


@dataclass(frozen=True)
class Prepared:
    """A stack of frames, prepared for a model.

    Args:
        pixels: the levels that the model is shown, 8-bit or, where its authors do not round after the resize, float32
            in [0, 255]. Shape: (N, V, 3, S, S).
        views: the V views, the authors' own first.
        extremes: lowest and highest of the original floats. Shape: (N, 2), or None for bytes.
    """

    pixels: Tensor
    views: tuple[View, ...]
    extremes: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Quantise, resize, crop, normalise.

    `resize="exact"` gives Pillow's own pixels. `"fast"` is at most 2 levels off (1 on an accelerator), on under 1% of
    the values of smooth images that shrink, and takes a third of the time on a CPU.
    """

    spec: InputSpec
    views: str = "cover"
    resize: Resize = "exact"

    def __post_init__(self) -> None:
        check_views(self.views)
        if self.resize not in get_args(Resize):
            raise UnknownNameError("resize", self.resize, get_args(Resize))

    def prepare(self, frames: Frames) -> Prepared:
        """Return the levels that the model is shown of each frame.

        Raises:
            ConfigError: frames have different looks, as with `views="content"`: call `parts`.
        """
        parts = self.parts(frames)
        if len(parts) > 1:
            raise ConfigError(
                f"{len(frames)} frames have different looks: use Preprocess.parts, or one frame at a time"
            )
        return parts[0]

    def parts(self, frames: Frames) -> tuple[Prepared, ...]:
        """Return the frames in order, prepared; neighbours that have the same looks are in one part.

        With `views="content"` the host waits for the device once, to find what is in the images.
        """
        levels, extremes = frames.quantise()
        height, width = levels.shape[-2:]
        looks = plan(height, width, self.spec, self.views)
        pixels = self._shown(levels, looks)
        if self.views != "content":
            return (Prepared(pixels, _views(looks), extremes),)
        parts, start = [], 0
        for boxes, group in groupby(cells(levels)):
            end = start + len(list(group))
            more = cell_looks(boxes, height, width, self.spec)
            shown = pixels[start:end]
            if more:
                shown = torch.cat([shown, self._shown(levels[start:end], more)], 1)
            parts.append(Prepared(shown, _views((*looks, *more)), None if extremes is None else extremes[start:end]))
            start = end
        return tuple(parts)

    def _shown(self, levels: Tensor, looks: Sequence[Look]) -> Tensor:
        """What each look sees of each frame. Shape: (N, looks, 3, S, S)."""
        resized: dict[object, Tensor] = {}
        shown = []
        for look in looks:
            key = look.region, look.size
            if key not in resized:
                top, left, bottom, right = look.region
                resized[key] = self._resize(levels[..., top:bottom, left:right], look.size)
            shown.append(self._window(resized[key], look))
        # Planes, each in one piece: normalising reads them several times.
        return torch.stack([window.contiguous() for window in shown], 1)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return levels as the model wants them. Shape: (..., 3, S, S), float32."""
        mean, std = (_channels(values, pixels.device) for values in (self.spec.mean, self.spec.std))
        return pixels.to(torch.float32, copy=True).div_(255).sub_(mean).div_(std)

    def effective(self, device: torch.device | None) -> str:
        """Return how images are resized on this device (None: on any), as a text for the state."""
        if self.spec.interpolation == "bilinear-aligned":
            return "exact (aligned)"
        if self.resize == "fast":
            return "fast"
        if device is None:
            return f"exact ({self._way(torch.device('cpu'))} on the cpu, {self._way(torch.device('cuda'))} elsewhere)"
        return f"exact ({self._way(device)})"

    def _way(self, device: torch.device) -> str:
        return effective_method(device, (1024, 1024), (self.spec.size, self.spec.size))

    def _resize(self, levels: Tensor, size: tuple[int, int]) -> Tensor:
        if self.spec.interpolation == "bilinear-aligned":
            return aligned(levels, size)
        method = "fast" if self.resize == "fast" else "auto"
        return resize(levels, size, interpolation=self.spec.interpolation, method=method)  # type: ignore[arg-type]

    def _window(self, resized: Tensor, look: Look) -> Tensor:
        """The square window at `look.at`, filled up with the mean where the image is smaller."""
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


def _views(looks: Sequence[Look]) -> tuple[View, ...]:
    return tuple(look.view for look in looks)


@lru_cache(maxsize=32)
def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Three numbers on a device, kept there: copying them each time would make the device wait."""
    return torch.tensor(values, device=device).view(3, 1, 1)
