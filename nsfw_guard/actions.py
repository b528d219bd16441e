"""Actions on flagged images: (frame, verdict) -> a new frame, on the same device.

Where the scores have regions for every flagged category, only those are covered; else the whole image is. Blur and
Pixelate keep only a few averages, so that sharpening cannot recover the content.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from nsfw_guard.errors import BlockedError, ConfigError, UnknownNameError
from nsfw_guard.verdict import Outcome, Verdict

log = logging.getLogger(__name__)

REGION_MARGIN = 0.05  # of a region's side, added all around
BLOCKS = 12  # drawn along the short side of what Pixelate covers
NOTICEABLE = 1 / 32  # of a channel, 8 levels: a pixel of a cover that differs less still shows the frame
COVERED_SHARE = 1 / 8  # the share of the pixels that must look different for an area to count as covered
RANGE_SLACK = 1 / 256  # tolerance outside [0, 1], for rounding
COLOURS = 16  # steps per channel that are kept: finer detail in an average is rounded away


class Action:
    """A callable that returns a covered copy of a frame. Subclasses define how a patch is covered.

    Shape: (3, H, W) in [0, 1], in and out.

    Example:
        ```python
        class Striped(Action):
            name = "striped"

            def cover(self, patch, verdict):
                return patch.mean() + torch.zeros_like(patch)

        guard = Guard(load_model("demo-shapes"), action=Striped())
        ```
    """

    name: ClassVar[str]

    def __call__(self, frame: Tensor, verdict: Verdict) -> Tensor:
        """Return the covered frame; the given one is not changed."""
        height, width = int(frame.shape[1]), int(frame.shape[2])
        places = boxes(verdict, height, width)
        out = torch.empty_like(frame) if places == [(0, 0, height, width)] else frame.clone()
        for top, left, bottom, right in places:
            out[:, top:bottom, left:right] = self.cover(frame[:, top:bottom, left:right], verdict)
        return out

    def cover(self, patch: Tensor, verdict: Verdict) -> Tensor:
        """Return the replacement for a patch, in the same shape."""
        raise TypeError(f"{type(self).__name__} does not say how it covers a patch: define cover(patch, verdict)")

    @staticmethod
    def of(value: Action | str) -> Action:
        """Return the action of that name with default settings, or the given action itself."""
        if isinstance(value, Action):
            return value
        if value not in ACTIONS:
            raise UnknownNameError("action", value, ACTIONS)
        return ACTIONS[value]()


@dataclass(frozen=True, kw_only=True)
class Block(Action):
    """Cover with one flat colour.

    Example:
        ```python
        guard = Guard(load_model("demo-shapes"), action=Block(colour=(0.1, 0.1, 0.1)))
        ```
    """

    name: ClassVar[str] = "block"
    colour: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def cover(self, patch: Tensor, verdict: Verdict) -> Tensor:
        """Return the colour in the size of the patch."""
        return torch.tensor(self.colour, dtype=patch.dtype, device=patch.device).view(3, 1, 1).expand_as(patch)


@dataclass(frozen=True, kw_only=True)
class _Averaging(Action):
    """Keep one colour per `strength` of the short side: a square has two by two of them at the default 0.5."""

    strength: float = 0.5

    def __post_init__(self) -> None:
        if not 0.1 <= self.strength <= 1.0:
            raise ConfigError(f"strength must be a fraction of the short side from 0.1 to 1.0, got {self.strength}")

    def colours(self, patch: Tensor) -> Tensor:
        """Return the averages that are kept, in coarse steps. Shape: (1, 3, rows, columns)."""
        height, width = patch.shape[1:]
        tile = self.strength * min(height, width)
        rows, columns = (max(1, round(side / tile)) for side in (height, width))
        values = patch.float().clamp(0, 1)
        mean = _shares(rows, height, patch.device) @ values @ _shares(columns, width, patch.device).t()
        return (torch.nan_to_num(mean) * COLOURS).round_().div_(COLOURS)[None]


@dataclass(frozen=True, kw_only=True)
class Blur(_Averaging):
    """Cover with a smooth gradient between the averages.

    Example:
        ```python
        guard = Guard(load_model("demo-shapes"), action=Blur(strength=0.8))
        ```
    """

    name: ClassVar[str] = "blur"

    def cover(self, patch: Tensor, verdict: Verdict) -> Tensor:
        """Return the gradient."""
        few = self.colours(patch)[0]
        down, across = (_between(n, m, patch.device) for n, m in zip(few.shape[1:], patch.shape[1:], strict=True))
        return (down @ few @ across.t()).to(patch.dtype)  # interpolate() does the same an order of magnitude slower


@dataclass(frozen=True, kw_only=True)
class Pixelate(_Averaging):
    """Cover with drawn blocks: their colours come from the averages, their pattern is always the same.

    Example:
        ```python
        guard = Guard(load_model("demo-shapes"), action=Pixelate(strength=0.25))
        ```
    """

    name: ClassVar[str] = "pixelate"

    def cover(self, patch: Tensor, verdict: Verdict) -> Tensor:
        """Return the blocks."""
        height, width = patch.shape[1:]
        rows, columns = (max(1, round(BLOCKS * side / min(height, width))) for side in (height, width))
        row, column = torch.arange(rows, device=patch.device)[:, None], torch.arange(columns, device=patch.device)
        relief = ((3 * row + 5 * column) % 7 - 3).float() / 60
        blocks = functional.interpolate(self.colours(patch), (rows, columns), mode="bilinear") + relief
        return functional.interpolate(blocks, (int(height), int(width)), mode="nearest")[0].clamp(0, 1).to(patch.dtype)


@dataclass(frozen=True, kw_only=True)
class Replace(Action):
    """Replace the whole image by one of yours, or by a drawn placeholder that names the reason.

    Example:
        ```python
        image.save("cover.png")
        guard = Guard(load_model("demo-shapes"), action=Replace(image="cover.png"))
        ```
    """

    name: ClassVar[str] = "replace"
    image: str | Path | None = None

    def __call__(self, frame: Tensor, verdict: Verdict) -> Tensor:
        """Return the other image in the size of the frame."""
        from nsfw_guard.imaging.placeholder import draw, fit

        height, width = int(frame.shape[1]), int(frame.shape[2])
        image = draw(height, width, verdict) if self.image is None else fit(self.image, height, width)
        return image.to(frame.device, frame.dtype)


@dataclass(frozen=True)
class Flag(Action):
    """Leave the image unchanged; only the verdict marks it. For blocked images this is the observe mode.

    Example:
        ```python
        guard = Guard(load_model("demo-shapes"), action=Flag())  # every image is released, with its verdict
        ```
    """

    name: ClassVar[str] = "flag"

    def __call__(self, frame: Tensor, verdict: Verdict) -> Tensor:
        """Return the frame itself."""
        return frame


@dataclass(frozen=True)
class Raise(Action):
    """Raise a BlockedError that carries the verdict.

    Example:
        ```python
        try:
            Guard(load_model("demo-shapes"), action=Raise())([image])
        except BlockedError as error:
            print(error.verdicts[0].reason)
        ```
    """

    name: ClassVar[str] = "raise"

    def __call__(self, frame: Tensor, verdict: Verdict) -> Tensor:
        """Raise the error."""
        raise BlockedError(verdict)


ACTIONS: dict[str, type[Action]] = {a.name: a for a in (Block, Blur, Flag, Pixelate, Raise, Replace)}


def covered(frame: Tensor, verdict: Verdict, action: Action) -> Tensor:
    """Return the replacement for an image that is held back: the action's result, or a solid colour.

    Solid when the image could not be judged, when the action is `flag`, and when the action fails or does not cover.
    """
    solid = Block().cover(frame, verdict)
    if verdict.outcome is Outcome.ERROR or isinstance(action, Flag):
        return solid
    try:
        # A copy, since the cover is compared with the frame and the action may write into what it is given.
        cover = action(frame.clone(), verdict)
        fault = _no_image(cover, frame)
        if not fault:
            bare = [box for box in boxes(verdict, *map(int, frame.shape[1:])) if _shows(cover, frame, box)]
            if not bare:
                return cover.detach().clamp(0, 1)
            # A cover may equal the frame where that is one flat colour: there is nothing to hide.
            fault = "" if all(_flat(_crop(frame, box)) for box in bare) else "shows what it had to cover"
        if fault:
            log.error("the action %s %s: a solid image is used instead", action.name, fault)
    except BlockedError:
        raise
    except Exception:
        log.exception("the action %s failed: a solid image is used instead", action.name)
    return solid


def _no_image(cover: Tensor, frame: Tensor) -> str:
    """Why a cover cannot replace the frame, or an empty text."""
    for what in ("shape", "dtype", "device"):
        if getattr(cover, what) != getattr(frame, what):
            return f"returned {what} {getattr(cover, what)}, expected {getattr(frame, what)}"
    low, high = float(cover.amin()), float(cover.amax())
    # Written so that a NaN, for which every comparison is false, is refused.
    return (
        ""
        if low >= -RANGE_SLACK and high <= 1 + RANGE_SLACK
        else f"returned values from {low:.3g} to {high:.3g}, expected 0 to 1"
    )


def _shows(cover: Tensor, frame: Tensor, box: tuple[int, int, int, int]) -> bool:
    """Whether too little of a box looks different from the frame."""
    different = (_crop(cover, box) - _crop(frame, box)).abs_().amax(0) > NOTICEABLE
    return not float(different.float().mean()) >= COVERED_SHARE


def _crop(image: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    return image[:, box[0] : box[2], box[1] : box[3]]


def _flat(patch: Tensor) -> bool:
    return bool((patch.flatten(1).amax(1) - patch.flatten(1).amin(1)).amax() <= NOTICEABLE)


def boxes(verdict: Verdict, height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Return the areas to cover, in pixels (top, left, bottom, right): rounded outwards, with a margin, never empty.

    It is the whole image where a flagged category has no region, or one that is too small to show anything.
    """
    regions = verdict.scores.regions if verdict.scores else ()
    wanted = [r for r in regions if not r.category or r.category in verdict.flags]
    placed = {r.category for r in wanted}
    if not wanted or any(r.tiny for r in wanted) or not set(verdict.flags) <= placed:
        return [(0, 0, height, width)]
    return [region.pixels(height, width, margin=REGION_MARGIN) for region in wanted]


def _between(parts: int, length: int, device: torch.device) -> Tensor:
    """Weights of `parts` values at each pixel, for linear interpolation. Shape: (length, parts)."""
    spots = torch.eye(parts, device=device)[None]
    return functional.interpolate(spots, length, mode="linear")[0].t()


def _shares(parts: int, length: int, device: torch.device) -> Tensor:
    """Weights of the pixels in each of `parts` equal spans; they add up to 1. Shape: (parts, length)."""
    edges = torch.arange(length + 1, dtype=torch.float32, device=device) * (parts / length)
    low = torch.arange(parts, dtype=torch.float32, device=device)[:, None]
    covered = (edges[1:].minimum(low + 1) - edges[:-1].maximum(low)).clamp_(min=0)
    return covered / covered.sum(1, keepdim=True)
