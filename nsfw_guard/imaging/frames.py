"""The one currency of pictures: stacks of RGB frames on the device where they are, and the way back.

The range of a tensor is told, never guessed from its numbers: bytes by their type, floats by `value_range`.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from nsfw_guard.errors import ImageError, UnknownNameError
from nsfw_guard.imaging.arrays import as_tensor, is_odd, plain, refuse_odd
from nsfw_guard.imaging.channels import alpha_composites, to_decoder_array
from nsfw_guard.imaging.decode import Stream
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.imaging.quantise import BOUNDS, ValueRange, extremes, quantise
from nsfw_guard.imaging.views import MAX_ASPECT

GROUP_PIXELS = 16_000_000  # pixels that are judged at a time


@dataclass(frozen=True)
class Frames:
    """A stack of RGB frames of one size.

    Args:
        pixels: uint8, or floats in `value_range`. Shape: (N, 3, H, W).
        value_range: "unit" for [0, 1]; "signed" for what a VAE decodes, [-1, 1] before it is clipped.

    Example:
        ```python
        verdicts = guard.check(Frames(torch.rand(2, 3, 64, 64)))
        ```
    """

    pixels: Tensor
    value_range: ValueRange = "unit"

    def __post_init__(self) -> None:
        refuse_odd(self.pixels)
        shape = tuple(self.pixels.shape)
        if self.value_range not in get_args(ValueRange):
            raise UnknownNameError("value_range", self.value_range, get_args(ValueRange))
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
        """Return the 8-bit levels that the frames will be saved with, and the extremes of the floats they came as.

        Shape: uint8 (N, 3, H, W), and float32 (N, 2), low and high, or None for frames that were bytes.
        """
        if self.pixels.dtype == torch.uint8:
            return self.pixels, None
        levels, bounds = quantise(self.pixels, self.value_range)
        # Kept, so that whoever asks later need not read every pixel again: two numbers a frame.
        object.__setattr__(self, "_extremes", bounds)
        return levels, bounds

    def extremes(self) -> Tensor | None:
        """Return low and high of each frame's floats, as `quantise` found them or found now; None for bytes. Shape: (N,
        2).
        """
        if self.pixels.dtype == torch.uint8:
            return None
        if "_extremes" not in vars(self):
            object.__setattr__(self, "_extremes", extremes(self.pixels))
        kept: Tensor = vars(self)["_extremes"]
        return kept

    def fault(self, low: float, high: float) -> str:
        """Return why a frame with these extremes is no picture, or nothing."""
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


@dataclass(frozen=True)
class Part:
    """Some of what there is of one image: frames, why it has none, or why they are not all of it."""

    frames: Frames | None = None
    fault: str = ""
    partial: str = ""


def in_groups(
    images: Any, *, value_range: ValueRange = "unit", limits: Limits | None = None, pixels: int = GROUP_PIXELS
) -> Iterator[Batch]:
    """Yield whatever was handed over as frames: a tensor, PIL, NumPy, a path, bytes, Frames, or a list of them.

    Files are decoded as the groups are asked for, and no group begins a frame beyond `pixels`: a folder of large files
    never stands in memory whole. Each group counts and numbers all images.

    A file that cannot be read is a fault of that picture. A tensor of the wrong shape is the caller's error, raised
    here and now, unless it stands in a list.
    """
    refuse_odd(images)
    if value_range not in get_args(ValueRange):
        raise UnknownNameError("value_range", value_range, get_args(ValueRange))
    if isinstance(images, Frames):
        images, value_range = images.pixels, images.value_range
    if isinstance(images, (list, tuple)):
        if not images:
            raise ImageError("an empty list holds no picture: hand over at least one")
        return _grouped(images, value_range, limits, pixels)
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return in_groups(list(images), value_range=value_range, limits=limits, pixels=pixels)
    if isinstance(images, Tensor) and images.ndim == 4:
        if images.shape[1] in {1, 4} and 0 not in images.shape:
            return in_groups(list(images), value_range=value_range, limits=limits, pixels=pixels)
        return iter([Batch(len(images), (Frames(images.detach(), value_range),), tuple(range(len(images))))])
    if isinstance(images, (Tensor, np.ndarray)):
        return iter([_join([list(_parts(images, value_range, limits))])])
    return _grouped([images], value_range, limits, pixels)


def _grouped(images: Sequence[Any], value_range: ValueRange, limits: Limits | None, pixels: int) -> Iterator[Batch]:
    """Frames of a list in groups; what cannot be read is a fault of its image alone."""
    rows: list[list[Part]] = [[] for _ in images]
    held = 0
    for index, image in enumerate(images):
        try:
            for part in _parts(image, value_range, limits):
                size = part.frames.pixels.numel() // 3 if part.frames else 0
                if held and held + size > pixels:
                    yield _join(rows)
                    rows, held = [[] for _ in images], 0
                rows[index].append(part)
                held += size
        except ImageError as error:
            rows[index].append(Part(fault=str(error)))
    yield _join(rows)


def _parts(image: Any, value_range: ValueRange, limits: Limits | None) -> Iterator[Part]:
    """One image, frame by frame where it comes out of a decoder."""
    if isinstance(image, Frames):
        yield Part(image)
        return
    refuse_odd(image)
    if isinstance(image, np.ndarray):
        tensor = as_tensor(image)
        image = plain(image) if tensor is None else tensor
    if isinstance(image, Tensor):
        image = image.detach()
        if not (image.ndim == 3 and image.shape[0] in {1, 4}):
            yield Part(Frames(image[None], value_range))
            return
        if image.shape[0] == 4 and image.device.type != "cpu":
            yield Part(Frames(alpha_composites(image, value_range)))
            return
        image = to_decoder_array(image, value_range)
    stream = Stream(image, limits=limits or Limits())
    for frame in stream:
        yield Part(Frames(torch.from_numpy(frame)[None].permute(0, 3, 1, 2)))
    if stream.partial:
        yield Part(partial=stream.partial)


def _join(rows: Sequence[Sequence[Part]]) -> Batch:
    """The parts of each image, in order, as one group."""
    parts = [(index, part) for index, row in enumerate(rows) for part in row]
    stacks = [(index, part.frames) for index, part in parts if part.frames]
    return Batch(
        count=len(rows),
        stacks=tuple(frames for _, frames in stacks),
        owners=tuple(index for index, frames in stacks for _ in frames.pixels),
        faults={index: part.fault for index, part in parts if part.fault},
        partial={index: part.partial for index, part in parts if part.partial},
    )


def count_of(images: Any) -> int:
    """Return how many pictures were handed over."""
    refuse_odd(images)
    return len(images) if is_batch(images) else 1


def first_frames(batch: Batch, wanted: Container[int]) -> dict[int, Tensor]:
    """Return the first frame in this group of each wanted image, by the image's number. Shape: uint8 (3, H, W)."""
    firsts: dict[int, Tensor] = {}
    owners = iter(batch.owners)
    for frames in batch.stacks:
        for frame, owner in zip(frames.pixels, owners, strict=False):
            if owner in wanted and owner not in firsts:
                firsts[owner] = Frames(frame[None], frames.value_range).quantise()[0][0]
    return firsts


def first_frame(images: Any, index: int, *, value_range: ValueRange, limits: Limits | None) -> Tensor:
    """Return the first frame of one picture of what was handed over, or a black one where there is none to be had.

    Shape: uint8 (3, H, W).
    """
    if isinstance(images, Frames):
        return Frames(images.pixels[index : index + 1], images.value_range).quantise()[0][0]
    image = images[index] if is_batch(images) else images
    try:
        frames = next(part.frames for part in _parts(image, value_range, limits) if part.frames)
    except (ImageError, StopIteration):
        return torch.zeros(3, *_sides(image), dtype=torch.uint8)
    return Frames(frames.pixels[:1], frames.value_range).quantise()[0][0]


def _sides(picture: Any) -> tuple[int, int]:
    """How large the cover of what cannot be read is: as large as its array, where it is one."""
    if isinstance(picture, Tensor) and not is_odd(picture) and picture.ndim >= 2:
        return int(picture.shape[-2]), int(picture.shape[-1])
    if isinstance(picture, np.ndarray) and picture.ndim >= 2:
        return int(picture.shape[0]), int(picture.shape[1])
    return 512, 512


def is_batch(images: Any) -> bool:
    """Return whether this is several images: a list, Frames, or a stack of four axes."""
    return isinstance(images, (list, tuple, Frames)) or (isinstance(images, (Tensor, np.ndarray)) and images.ndim == 4)
