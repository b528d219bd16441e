"""Images of any accepted type as stacks of RGB frames, on the device where they are.

The range of a tensor is stated, never guessed from its values: bytes by their dtype, floats by `value_range`.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
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
            raise ImageError(f"the shape {shape} contains no image: pass at least one, of at least one pixel")
        if max(shape[2:]) > MAX_ASPECT * min(shape[2:]):
            raise ImageError(f"the aspect ratio of {shape[3]}x{shape[2]} is above {MAX_ASPECT:g}:1: crop the image")

    def __len__(self) -> int:
        return int(self.pixels.shape[0])

    def quantise(self) -> tuple[Tensor, Tensor | None]:
        """Return the 8-bit levels that the frames will be saved with, and the extremes of the original floats.

        Shape: uint8 (N, 3, H, W), and float32 (N, 2), low and high, or None for frames that were bytes.
        """
        if self.pixels.dtype == torch.uint8:
            return self.pixels, None
        levels, bounds = quantise(self.pixels, self.value_range)
        # Kept so that a later call need not read every pixel again: two numbers per frame.
        object.__setattr__(self, "_extremes", bounds)
        return levels, bounds

    def split(self) -> list[Frames]:
        """Return each frame as a stack of its own."""
        return [Frames(self.pixels[i : i + 1], self.value_range) for i in range(len(self))]

    def to_array(self) -> NDArray[np.uint8]:
        """Return the 8-bit levels of the first frame, in memory of the host. Shape: (H, W, 3)."""
        array: NDArray[np.uint8] = self.quantise()[0][0].permute(1, 2, 0).cpu().numpy()
        return array

    def extremes(self) -> Tensor | None:
        """Return the lowest and highest float of each frame, or None for bytes. Shape: (N, 2)."""
        if self.pixels.dtype == torch.uint8:
            return None
        if "_extremes" not in vars(self):
            object.__setattr__(self, "_extremes", extremes(self.pixels))
        kept: Tensor = vars(self)["_extremes"]
        return kept

    def fault(self, low: float, high: float) -> str:
        """Return why a frame with these extremes is not an image, or an empty text."""
        least, most = BOUNDS[self.value_range]
        if least <= low and high <= most:
            return ""
        if low > -np.inf and high < np.inf:
            return (
                f"values from {low:.3g} to {high:.3g} do not fit value_range={self.value_range!r}: pass the right one"
            )
        return "the image contains NaN or infinite values"


@dataclass(frozen=True)
class Batch:
    """Frames to judge: stacks, the image that owns each frame, and the images that could not be read.

    One image may own several frames: an animation, or an image with alpha on black, on white and without it.
    """

    count: int
    stacks: tuple[Frames, ...] = ()
    owners: tuple[int, ...] = ()
    faults: Mapping[int, str] = field(default_factory=dict)
    partial: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """A part of one image: frames, or why it has none, or why they are not all of it."""

    frames: Frames | None = None
    fault: str = ""
    partial: str = ""


def in_groups(
    images: Any, *, value_range: ValueRange = "unit", limits: Limits | None = None, pixels: int = GROUP_PIXELS
) -> Iterator[Batch]:
    """Yield images as groups of frames: a tensor, PIL, NumPy, a path, bytes, Frames, or a list of them.

    Files are decoded when their group is requested, and a group begins no frame beyond `pixels`, so that a folder of
    large files never has to fit into memory. Each group counts and numbers all images.

    A file that cannot be read is a fault of that image alone. A tensor of the wrong shape raises an error at once,
    unless it is in a list.
    """
    refuse_odd(images)
    if value_range not in get_args(ValueRange):
        raise UnknownNameError("value_range", value_range, get_args(ValueRange))
    if isinstance(images, Frames):
        images, value_range = images.pixels, images.value_range
    if isinstance(images, (list, tuple)):
        if not images:
            raise ImageError("the list of images is empty: pass at least one image")
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
    """Frames of a list in groups; an image that cannot be read is a fault of that image alone."""
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
    """The parts of one image; one frame at a time where it is decoded."""
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
    """Return the number of images."""
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
    """Return the first frame of one of the images, or a black frame where it cannot be read.

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


def _sides(image: Any) -> tuple[int, int]:
    """Size of the cover for an image that cannot be read: that of its array, where it is one."""
    if isinstance(image, Tensor) and not is_odd(image) and image.ndim >= 2:
        return int(image.shape[-2]), int(image.shape[-1])
    if isinstance(image, np.ndarray) and image.ndim >= 2:
        return int(image.shape[0]), int(image.shape[1])
    return 512, 512


def is_batch(images: Any) -> bool:
    """Return whether this is several images: a list, Frames, or a stack of four axes."""
    return isinstance(images, (list, tuple, Frames)) or (isinstance(images, (Tensor, np.ndarray)) and images.ndim == 4)
