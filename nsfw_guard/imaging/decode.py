"""One decoder for files, bytes, PIL images and NumPy arrays: whatever a viewer could show becomes a frame.

The structure of a file is read before any pixel is decoded. Every frame, every embedded image and everything under
an alpha channel is returned. Any error of Pillow becomes a DecodeError: an image that cannot be read completely is
never safe.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.appearances import Frame, appearances, declared, work
from nsfw_guard.imaging.files.container import Container, inspect
from nsfw_guard.imaging.files.formats import FORMATS, opened, pillow_is_old
from nsfw_guard.imaging.files.moving import compose, is_plain
from nsfw_guard.imaging.files.sources import bytes_behind, describe_error, read_bytes, whole_files_only
from nsfw_guard.imaging.files.whole import check_parts, check_whole
from nsfw_guard.imaging.limits import Budget, Limits

__all__ = ["Decoded", "Stream", "decode"]

DEFAULTS = Limits()
_FRAME_FLOOR = 16_384  # the least cost of a frame, in pixels: 200,000 frames of 1x1 take long too
# Time to decode, relative to one look at an image (benchmarks/files.py); 1 for other formats.
_DECODING = {"JPEG": 0.5, "MPO": 0.5, "PNG": 1.5, "WEBP": 2.0, "AVIF": 2.0}
_SCANS_A_PASS = 20  # scans of a progressive JPEG that take as long as one look
_TOLERANCE = 1 / 512
_warned: list[bool] = []

Source: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[Any]


@dataclass(frozen=True)
class Decoded:
    """The frames of an image to judge, and why they are not all of it (empty when they are).

    Shape: each frame (H, W, 3) uint8 RGB, C-contiguous, its own memory.
    """

    frames: tuple[Frame, ...]
    partial: str = ""


def decode(source: Source, *, limits: Limits = DEFAULTS) -> Decoded:
    """Decode everything that a viewer could show of an image, as upright 8-bit RGB frames.

    Args:
        source: a path, the bytes of a file, a file object (read from its current position), a PIL image or an array
            (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) in uint8, uint16, or floats in [0, 1].
        limits: the limits beyond which a source is refused.

    Raises:
        DecodeError: the source cannot be decoded; no other error is raised.
    """
    stream = Stream(source, limits=limits)
    return Decoded(tuple(stream), stream.partial)


class Stream:
    """The frames of one image, decoded one by one, so that large ones need not all fit into memory.

    After the last frame, `partial` says why some were left out; it stays empty unless `limits.unseen` is "review".
    Iterating may raise DecodeError at any point: then the frames before must not be taken for a safe image.
    """

    def __init__(self, source: Source, *, limits: Limits = DEFAULTS) -> None:
        self.source = source
        self.limits = limits
        self.partial = ""
        self._budget = Budget(limits)
        self._seen: set[bytes] = set()
        if not _warned and not isinstance(source, (np.ndarray, Image.Image)) and pillow_is_old():
            _warned.append(True)
            text = f"Pillow {PIL.__version__} has a vulnerable JPEG decoder (CVE-2026-112403): install pillow>=13.0.0"
            warnings.warn(text, RuntimeWarning, stacklevel=3)

    def __iter__(self) -> Iterator[Frame]:
        try:
            yield from self._frames()
        except DecodeError:
            raise
        except Exception as error:  # Pillow raises errors of many types on a broken file
            raise DecodeError(f"cannot be decoded ({describe_error(error)}): save it again as PNG or JPEG") from error

    def _frames(self) -> Iterator[Frame]:
        if isinstance(self.source, np.ndarray):
            return _array(self.source, self._budget)
        if isinstance(self.source, Image.Image):
            return self._image(self.source)
        data = read_bytes(self.source, self.limits.bytes)
        return self._elsewhere(data) if self.limits.process else self._file(data)

    def _elsewhere(self, data: bytes) -> Iterator[Frame]:
        """The frames of a file, decoded in a process of its own."""
        from nsfw_guard.imaging.process import decode_in_process

        for part in decode_in_process(data, self.limits):
            if isinstance(part, str):
                self.partial = part
            else:
                yield part

    def _file(self, data: bytes) -> Iterator[Frame]:
        container = inspect(data, self.limits)
        with opened(data) as image:
            yield from self._walk(image, container, data)
            shown = _count(image)
        yield from self._beside(container, shown)

    def _image(self, image: Image.Image) -> Iterator[Frame]:
        """A PIL image, which its caller may have drawn on, and the rest of the file it came from."""
        self._budget.check_size(image.size)
        data = bytes_behind(image, self.limits.bytes) if image.format in {*FORMATS, "MPO"} else None
        if data is None and image.format is not None and _count(image) > 1:
            yield from self._walk_callers(image)
            return
        container = inspect(data, self.limits) if data else Container()
        self._book(image, container)
        with whole_files_only():
            image.load()
        shown = image
        if container.clear_level is not None:  # the caller's image is never changed
            shown = image.copy()
            shown.info["transparency"] = container.clear_level
        yield from appearances(shown, container.profiles, seen=self._seen if data else None)
        if data is None:
            return
        with opened(data) as again:
            count = _count(again)
            if count > 1 or container.frames > 1:
                yield from self._walk(again, container, data)
            else:
                check_whole(image, container, data)
                check_parts(image, container.corners.get(0, ()))
                yield from self._composed(again, container)
        yield from self._beside(container, count)

    def _beside(self, container: Container, shown: int) -> Iterator[Frame]:
        """The images that a file carries beside the one it shows."""
        for index, embedded in enumerate(container.embedded(shown)):
            if index >= self.limits.embedded:
                raise DecodeError(
                    f"more than {self.limits.embedded} embedded images: save it without its metadata, or raise "
                    "limits.embedded"
                )
            try:
                inner = inspect(embedded.data, self.limits)
                with opened(embedded.data) as image:
                    yield from self._walk(image, inner, embedded.data)
            except DecodeError as error:
                raise DecodeError(f"{embedded.where}: {error}") from error
            except Exception as error:
                raise DecodeError(
                    f"{embedded.where} cannot be decoded ({describe_error(error)}): save the image without it"
                ) from error

    def _walk(self, image: Image.Image, container: Container, data: bytes = b"") -> Iterator[Frame]:
        """Every frame of an opened image."""
        self._budget.check_size(image.size)
        count = _count(image)
        wanted = self._wanted(count, container.frames)
        self._budget.foresee(count * max(image.width * image.height, _FRAME_FLOOR if count > 1 else 0))
        alone = count == 1 and not self._seen and work(image, container.profiles) == 1  # nothing to compare it with
        for index in range(count):
            with self._budget.frame(), whole_files_only():
                if count > 1:
                    image.seek(index)  # one by one: a GIF builds on the frame before, each page has its own header
                    self._budget.check_size(image.size)
                self._book(image, container)
                if index in wanted:
                    image.load()
                    if container.clear_level is not None:
                        image.info["transparency"] = container.clear_level
            if not index:
                check_whole(image, container, data)
            elif index <= len(container.further):
                where, part = container.further[index - 1]
                check_whole(image, part, data[where])
            if index in wanted:
                check_parts(image, container.corners.get(index, ()))
                yield from appearances(image, container.profiles, seen=None if alone else self._seen)
        sampled = {index - count + len(container.pieces) for index in wanted}  # a default image is no piece
        yield from self._composed(image, container, sampled if len(wanted) < count else None)

    def _composed(self, image: Image.Image, container: Container, wanted: set[int] | None = None) -> Iterator[Frame]:
        """The frames (all, or those wanted) as players put them together, where that may not be what Pillow makes."""
        size = container.canvas
        if not container.pieces or is_plain(container.pieces, size):
            return
        self._budget.check_size(size)
        areas = [max(size[0] * size[1], piece.width * piece.height, _FRAME_FLOOR) for piece in container.pieces]
        self._budget.foresee(sum(areas))  # also a frame far larger than the canvas, of which little is seen
        profiles = declared(image, container.profiles)
        shown = compose(container.pieces, size, opened)
        for index, area in enumerate(areas):
            with self._budget.frame(), whole_files_only():
                frame = next(shown)
                self._budget.take(int(area * (1.0 + work(frame, profiles))))
            if wanted is None or index in wanted:
                yield from appearances(frame, profiles, seen=self._seen)

    def _wanted(self, count: int, held: int) -> set[int]:
        """Which frames are looked at: all, unless the limits say that some of a longer file are enough for a review."""
        most = self.limits.frames
        if held <= count <= most:
            return set(range(count))
        if self.limits.unseen == "error":
            why = f"{held} frames, but its header counts {count}" if count < held else f"more than {most} frames"
            raise DecodeError(f"{why}: shorten it or save it again, or raise limits.frames")
        wanted = {round(i * (count - 1) / (most - 1)) for i in range(most)} if count > most else set(range(count))
        self.partial = f"{len(wanted)} of {max(count, held)} frames"
        return wanted

    def _walk_callers(self, image: Image.Image) -> Iterator[Frame]:
        """Every frame of a PIL image whose file cannot be read again; it is left as it was."""
        if image.format not in {*FORMATS, "MPO"}:
            raise DecodeError(f"{image.format} with several frames is not supported: pass its frames one by one")
        here, before, info = image.tell(), image.copy(), image.info.copy()
        yield from appearances(image, seen=self._seen)
        try:
            if image.format == "PNG":  # Pillow goes back in an APNG from its end only
                image.seek(_count(image) - 1)
                image.load()
            yield from self._walk(image, Container())
        finally:
            image.seek(here)
            image.load()
            if image.tobytes() != before.tobytes():
                image.paste(before)
            image.info = info

    def _book(self, image: Image.Image, container: Container) -> None:
        """Books the work on the frame that stands there: decoding it, and each of its twins."""
        size = image.width * image.height
        decoding = _DECODING.get(image.format or "", 1.0)
        scans = container.passes / _SCANS_A_PASS if image.format in {"JPEG", "MPO"} else 0.0
        self._budget.take(int(size * (decoding + scans + work(image, container.profiles))))


def _count(image: Image.Image) -> int:
    with whole_files_only():
        return max(1, int(getattr(image, "n_frames", 1)))


def _array(array: NDArray[Any], budget: Budget) -> Iterator[Frame]:
    if array.ndim not in {2, 3} or (array.ndim == 3 and array.shape[2] not in {1, 3, 4}):
        raise DecodeError(f"an image array must be (H, W) or (H, W, 1 or 3 or 4), got {array.shape}: reshape it")
    budget.check_size((array.shape[1], array.shape[0]))
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise DecodeError("the array contains NaN or infinity: find the step that overflowed")
        if array.min() < -_TOLERANCE or array.max() > 1 + _TOLERANCE:
            raise DecodeError("a float array must be within [0, 1]: scale it, or pass uint8")
        array = (array.clip(0, 1) * 255).round().astype(np.uint8)  # as diffusers does when it makes a PIL image
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise DecodeError(f"an array of {array.dtype} is not supported: pass uint8, uint16 or floats in [0, 1]")
    array = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return appearances(Image.fromarray(np.ascontiguousarray(array)))
