"""The one currency of pictures: stacks of RGB frames on the device where they are, and the way back.

The range of a tensor is told, never guessed from its numbers: bytes by their type, floats by `value_range`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nsfw_guard.channels import opaque, to_array, with_channels
from nsfw_guard.decode import Decoded, Limits, decode
from nsfw_guard.errors import ImageError, UnknownNameError
from nsfw_guard.quantise import BOUNDS, ValueRange, extremes, quantise
from nsfw_guard.views import MAX_ASPECT


@dataclass(frozen=True)
class Frames:
    """A stack of RGB frames of one size.

    Args:
        pixels: uint8, or floats in `value_range`. Shape: (N, 3, H, W).
        value_range: "unit" for [0, 1]; "signed" for what a VAE decodes, [-1, 1] before it is clipped.
    """

    pixels: Tensor
    value_range: ValueRange = "unit"

    def __post_init__(self) -> None:
        shape = tuple(self.pixels.shape)
        if self.value_range not in get_args(ValueRange):
            raise UnknownNameError("value_range", self.value_range, get_args(ValueRange))
        if not (self.pixels.dtype == torch.uint8 or self.pixels.is_floating_point()):
            raise ImageError(f"frames are uint8 or floating point, not {self.pixels.dtype}: convert them first")
        if len(shape) != 4 or shape[1] != 3:
            cure = ": permute it to channels first" if shape and shape[-1] in {1, 3, 4} else ""
            raise ImageError(f"expected RGB frames (N, 3, H, W), got {shape}{cure}")
        if 0 in shape:
            raise ImageError(f"there is no picture in {shape}: hand over at least one, of at least one pixel")
        if max(shape[2:]) > MAX_ASPECT * min(shape[2:]):
            raise ImageError(f"{shape[3]}x{shape[2]} is longer than {MAX_ASPECT:g}:1: crop it first")

    def __len__(self) -> int:
        return int(self.pixels.shape[0])

    def quantise(self) -> tuple[Tensor, Tensor | None]:
        """The 8-bit levels that the frames will be saved with, and the extremes of the floats they came as.

        Shape: uint8 (N, 3, H, W), and float32 (N, 2), low and high, or None for frames that were bytes.
        """
        if self.pixels.dtype == torch.uint8:
            return self.pixels, None
        levels, found = quantise(self.pixels, self.value_range)
        # Kept, so that whoever asks later need not read every pixel again: two numbers a frame.
        object.__setattr__(self, "_extremes", found)
        return levels, found

    def extremes(self) -> Tensor | None:
        """Low and high of each frame's floats, as `quantise` found them or found now; None for bytes. Shape: (N, 2)."""
        if self.pixels.dtype == torch.uint8:
            return None
        if "_extremes" not in vars(self):
            object.__setattr__(self, "_extremes", extremes(self.pixels))
        kept: Tensor = vars(self)["_extremes"]
        return kept

    def fault(self, low: float, high: float) -> str:
        """Why a frame with these extremes is no picture, or nothing."""
        least, most = BOUNDS[self.value_range]
        if least <= low and high <= most:
            return ""
        if low > -np.inf and high < np.inf:
            return (
                f"values from {low:.3g} to {high:.3g} do not fit value_range={self.value_range!r}: name the right one"
            )
        return "not a picture: it holds NaN or infinite values"


@dataclass(frozen=True)
class Batch:
    """What there is to judge: stacks of frames, whose each frame is, and what could not be read.

    One picture may own several frames: an animation, or a picture with alpha on black, on white and without it.
    """

    count: int
    stacks: tuple[Frames, ...] = ()
    owners: tuple[int, ...] = ()
    faults: Mapping[int, str] = field(default_factory=dict)
    partial: Mapping[int, str] = field(default_factory=dict)


def as_batch(images: Any, *, value_range: ValueRange = "unit", limits: Limits | None = None) -> Batch:
    """Whatever was handed over, as frames: a tensor, PIL, NumPy, a path, bytes, or a list of them.

    A file that cannot be read is a fault of that picture. A tensor of the wrong shape is the caller's error, unless it
    stands in a list.
    """
    if isinstance(images, (list, tuple)):
        if not images:
            raise ImageError("an empty list holds no picture: hand over at least one")
        return _join([_one(image, value_range, limits, in_list=True) for image in images])
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return as_batch(list(images), value_range=value_range, limits=limits)
    if isinstance(images, Tensor) and images.ndim == 4:
        if images.shape[1] in {1, 4} and 0 not in images.shape:
            return as_batch(list(images), value_range=value_range, limits=limits)
        return Batch(len(images), (Frames(images, value_range),), tuple(range(len(images))))
    return _one(images, value_range, limits, in_list=False)


def _one(image: Any, value_range: ValueRange, limits: Limits | None, *, in_list: bool) -> Batch:
    try:
        if isinstance(image, Tensor) and not (image.ndim == 3 and image.shape[0] in {1, 4}):
            stack = Frames(image[None], value_range)
            return Batch(1, (stack,), (0,))
        if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3 and image.dtype.kind in "fu":
            return _one(torch.from_numpy(image).permute(2, 0, 1), value_range, limits, in_list=in_list)
        if isinstance(image, Tensor) and image.shape[0] == 4 and image.device.type != "cpu":
            return Batch(1, (Frames(opaque(image, value_range)),), (0, 0, 0))
        if isinstance(image, Tensor):
            image = to_array(image, value_range)
        return _frames_of(decode(image, limits=limits or Limits()))
    except ImageError as error:
        if isinstance(image, (Tensor, np.ndarray)) and not in_list:
            raise
        return Batch(1, faults={0: str(error)})


def _frames_of(decoded: Decoded) -> Batch:
    stacks = tuple(Frames(torch.from_numpy(f)[None].permute(0, 3, 1, 2)) for f in decoded.frames)
    return Batch(1, stacks, (0,) * len(stacks), partial={0: decoded.partial} if decoded.partial else {})


def _join(parts: Sequence[Batch]) -> Batch:
    """Batches of one picture each, in order."""
    return Batch(
        count=len(parts),
        stacks=tuple(s for part in parts for s in part.stacks),
        owners=tuple(i for i, part in enumerate(parts) for _ in part.owners),
        faults={i: fault for i, part in enumerate(parts) for fault in part.faults.values()},
        partial={i: why for i, part in enumerate(parts) for why in part.partial.values()},
    )


def count_of(images: Any) -> int:
    """How many pictures were handed over."""
    return len(images) if _is_batch(images) else 1


def first_frame(images: Any, index: int, *, value_range: ValueRange, limits: Limits | None) -> Tensor:
    """The first frame of one picture of what was handed over, or a black one where there is none to be had.

    Shape: (3, H, W) in [0, 1].
    """
    picture = images[index] if _is_batch(images) else images
    batch = as_batch([picture], value_range=value_range, limits=limits)
    if not batch.stacks:
        return torch.zeros(3, *_sides(picture))
    stack = batch.stacks[0]
    return Frames(stack.pixels[:1], stack.value_range).quantise()[0][0].float() / 255


def _sides(picture: Any) -> tuple[int, int]:
    """How large the cover of what cannot be read is: as large as its array, where it is one."""
    if isinstance(picture, Tensor) and picture.ndim >= 2:
        return int(picture.shape[-2]), int(picture.shape[-1])
    if isinstance(picture, np.ndarray) and picture.ndim >= 2:
        return int(picture.shape[0]), int(picture.shape[1])
    return 512, 512


def _is_batch(images: Any) -> bool:
    return isinstance(images, (list, tuple)) or (isinstance(images, (Tensor, np.ndarray)) and images.ndim == 4)


def put_back(images: Any, covers: Mapping[int, Tensor], *, value_range: ValueRange = "unit") -> Any:
    """The same kind of thing that was given: what is not covered bit for bit, the rest replaced.

    Args:
        images: what was handed over; never edited.
        covers: per index the new picture. Shape: (3, H, W) in [0, 1]. For a path or bytes a PIL picture stands in.
        value_range: the range of `images`, and so of what goes back into it.
    """
    if not covers:
        return images
    if isinstance(images, (list, tuple)):
        return type(images)(_like(old, covers[i], value_range) if i in covers else old for i, old in enumerate(images))
    if _is_batch(images):
        out = images.clone() if isinstance(images, Tensor) else images.copy()
        for index, cover in covers.items():
            out[index] = _like(images[index], cover, value_range)
        return out
    return _like(images, covers[0], value_range)


def _like(old: Any, cover: Tensor, value_range: ValueRange) -> Any:
    """`cover` as the kind of thing that `old` is."""
    levels = cover.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    if isinstance(old, Tensor) and old.ndim == 3:
        channels = with_channels(levels, old.shape[0]).to(old.device)
        if old.dtype == torch.uint8:
            return channels
        unit = channels.float() / 255
        return (unit * 2 - 1 if value_range == "signed" else unit).to(old.dtype)
    if isinstance(old, np.ndarray) and old.ndim in {2, 3}:
        channels = with_channels(levels, 1 if old.ndim == 2 else old.shape[2]).permute(1, 2, 0).cpu()
        array = channels.numpy() if old.ndim == 3 else channels.numpy()[..., 0]
        if old.dtype.kind == "f":
            unit_array = array.astype(np.float32) / 255
            return (unit_array * 2 - 1 if value_range == "signed" else unit_array).astype(old.dtype)
        return array.astype(old.dtype) * (257 if old.dtype == np.uint16 else 1)
    made = Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())
    return made.convert(old.mode) if isinstance(old, Image.Image) and old.mode in {"L", "LA", "RGBA"} else made
