"""One decoder for files, bytes, PIL pictures and NumPy arrays: whatever could be shown of a picture becomes a frame.

Headers are checked before any pixel is decoded, every frame and everything under an alpha channel is handed on, and
whatever Pillow raises comes out as one DecodeError: a picture that cannot be read whole is never a safe one.
"""

from __future__ import annotations

import importlib
import io
import math
import os
import re
import stat
import warnings
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, BinaryIO

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from nsfw_guard.errors import ConfigError, DecodeError
from nsfw_guard.flatten import Frame, flatten

# MPO has no opener of its own: it comes in through JPEG.
_PLUGINS = {"JPEG": "Jpeg", "PNG": "Png", "WEBP": "WebP", "GIF": "Gif", "BMP": "Bmp", "TIFF": "Tiff", "AVIF": "Avif"}
for _plugin in _PLUGINS.values():
    with suppress(ImportError):  # Pillow before 11.3 has no AVIF
        importlib.import_module(f"PIL.{_plugin}ImagePlugin")
FORMATS = tuple(name for name in _PLUGINS if name in Image.OPEN)

_FRAME_FLOOR = 16_384  # what a frame costs at the least, in pixels: 200,000 frames of 1x1 are no small file
_READS = 2_000_000  # the most reads that a file may take: a 64 MB GIF takes 1,000,000 in two passes
_TOLERANCE = 1 / 512
_warned: list[bool] = []


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is decoded at the most; beyond it a picture is refused (or, for `frames`, only partly looked at)."""

    pixels: int = 40_000_000
    total_pixels: int = 200_000_000
    frames: int = 32
    aspect: float = 100.0
    bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        for f in fields(self):
            value, least = getattr(self, f.name), 2 if f.name == "frames" else 1
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not (whole or (f.name == "aspect" and isinstance(value, float))) or not least <= value < math.inf:
                kind = "a finite number" if f.name == "aspect" else "a whole number"
                raise ConfigError(f"limits.{f.name} is {value!r}: give {kind} of at least {least}")


@dataclass(frozen=True)
class Decoded:
    """What of a picture must be looked at, and why that is not all of it (empty when it is).

    Shape: each frame (H, W, 3) uint8 RGB, C-contiguous, its own memory.
    """

    frames: tuple[Frame, ...]
    partial: str = ""


def pillow_is_old() -> bool:
    """True when this Pillow is older than 13.0.0, whose JPEG decoder was made safe (CVE-2026-112403)."""
    major = re.match(r"\d+", PIL.__version__)
    return major is None or int(major[0]) < 13


def decode(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[Any],
    *,
    limits: Limits = Limits(),
) -> Decoded:
    """Everything that could be seen of a picture, as upright 8-bit RGB frames.

    Args:
        source: a path, the bytes of a file, a file object (read from where it stands), a PIL picture or an array
            (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) in uint8, uint16, or floats in [0, 1].
        limits: what is refused before it is decoded.

    Raises:
        DecodeError: whatever is wrong with the source; nothing else is raised.
    """
    try:
        if isinstance(source, np.ndarray):
            return _array(source, limits)
        if isinstance(source, Image.Image):
            return _picture(source, limits)
        if not _warned and pillow_is_old():
            _warned.append(True)
            text = f"Pillow {PIL.__version__} has a hole in its JPEG decoder (CVE-2026-112403): install pillow>=13.0.0"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return _file(_read(source, limits), limits)
    except DecodeError:
        raise
    except Exception as error:  # Pillow raises nearly anything on a broken file; all of it means the same
        raise DecodeError(f"cannot be decoded ({_short(error)}): save it anew as PNG or JPEG") from error


class _Reader(io.BytesIO):
    """Bytes that may be read so many times only: a file of millions of empty frames is built to waste time."""

    left = _READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise DecodeError("made of too many tiny pieces: save it anew with fewer frames")
        return super().read(size)


def _read(source: Any, limits: Limits) -> bytes:
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(memoryview(source).cast("B")[: limits.bytes + 1])
    elif isinstance(source, (str, os.PathLike)):
        data = _read_path(os.fspath(source), limits)
    elif hasattr(source, "read"):
        data = _drain(source, limits)
    else:
        raise DecodeError(f"{type(source).__name__} is no picture: give a path, bytes, a file, a PIL picture or array")
    if len(data) > limits.bytes:
        raise DecodeError(f"more than {limits.bytes} bytes: make it smaller, or raise limits.bytes")
    if not data:
        raise DecodeError("an empty file: save the picture again")
    return data


def _read_path(path: str, limits: Limits) -> bytes:
    name = ascii(os.path.basename(path))[:80]
    try:
        # A pipe or a device would hang or never end.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DecodeError(f"{name} is no regular file: give the path of a picture")
        with open(path, "rb") as file:
            return _drain(file, limits)
    except (OSError, ValueError) as error:
        if isinstance(error, DecodeError):
            raise
        # `from None`: the cause would carry the whole path into logs
        raise DecodeError(f"{name} cannot be read ({_short(error)}): check the path and its rights") from None


def _drain(file: Any, limits: Limits) -> bytes:
    parts: list[bytes] = []
    missing = limits.bytes + 1
    while missing > 0:  # raw files and sockets may hand over less than asked for
        part = file.read(missing)
        if not isinstance(part, bytes):
            raise DecodeError(f"the file gave {type(part).__name__}, not bytes: open it in binary mode")
        if not part:
            break
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _file(data: bytes, limits: Limits) -> Decoded:
    reader = _Reader(data)
    try:
        picture = Image.open(reader, formats=FORMATS)
    except PIL.UnidentifiedImageError as error:
        raise DecodeError(f"no readable {', '.join(FORMATS)} file: save it as one of these") from error
    with picture:
        decoded = _walk(picture, limits, {})
        # An APNG whose header counts fewer frames than it carries: a viewer that counts for itself shows them all.
        count, pieces = getattr(picture, "n_frames", 1), data.count(b"\0\0\0\x1afcTL")
    if picture.format == "PNG" and pieces > count:
        return Decoded(decoded.frames, decoded.partial or f"{count} of {pieces} frames")
    return decoded


def _picture(picture: Image.Image, limits: Limits) -> Decoded:
    _check(picture.size, limits)
    if picture.format is None:  # made in memory: there is nothing behind what stands there
        return Decoded(tuple(flatten(picture)))
    # Seeking (even counting) drops what the caller drew on this frame: it is taken first and put back after.
    here, before, info = picture.tell(), picture.copy(), picture.info.copy()
    try:
        return _walk(picture, limits, {here: flatten(picture)})
    finally:
        if getattr(picture, "n_frames", 1) > 1:
            picture.seek(here)
            picture.load()
            if picture.tobytes() != before.tobytes():
                picture.paste(before)
            picture.info = info


def _walk(picture: Image.Image, limits: Limits, known: dict[int, list[Frame]]) -> Decoded:
    _check(picture.size, limits)
    count = max(1, int(getattr(picture, "n_frames", 1)))
    if count > 1 and picture.format not in {*FORMATS, "MPO"}:
        raise DecodeError(f"{picture.format} with {count} frames is not walked: hand over its frames one by one")
    _check_total(count * max(picture.width * picture.height, _FRAME_FLOOR if count > 1 else 0), limits)
    wanted = {round(i * (count - 1) / (limits.frames - 1)) for i in range(limits.frames)} | set(known)
    if picture.format == "PNG" and known:  # Pillow goes back in an APNG from its end only
        picture.seek(count - 1)
        picture.load()
    frames: list[Frame] = []
    total = 0
    for index in range(count):
        if count > 1:
            picture.seek(index)  # one by one: a GIF builds on the frame before, and each page has its own header
            _check(picture.size, limits)
        total += picture.width * picture.height
        _check_total(total, limits)
        if index in wanted:
            frames += known[index] if index in known else flatten(picture)
    return Decoded(tuple(frames), f"{len(wanted)} of {count} frames" if len(wanted) < count else "")


def _check_total(pixels: int, limits: Limits) -> None:
    if pixels > limits.total_pixels:
        raise DecodeError(f"over {limits.total_pixels} pixels in all: shorten it, or raise limits.total_pixels")


def _check(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise DecodeError(f"{width}x{height} has no pixels: save the picture again")
    if width * height > limits.pixels:
        raise DecodeError(f"{width}x{height} is over {limits.pixels} pixels: make it smaller, or raise limits.pixels")
    if max(size) > limits.aspect * min(size):
        raise DecodeError(f"{width}x{height} is longer than {limits.aspect:g}:1: crop it, or raise limits.aspect")


def _array(array: NDArray[Any], limits: Limits) -> Decoded:
    if array.ndim not in {2, 3} or (array.ndim == 3 and array.shape[2] not in {1, 3, 4}):
        raise DecodeError(f"an array of shape {array.shape} is no picture: give (H, W) or (H, W, 1 or 3 or 4)")
    _check((array.shape[1], array.shape[0]), limits)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise DecodeError("an array with NaN or infinity is no picture: look for the step that overflowed")
        if array.min() < -_TOLERANCE or array.max() > 1 + _TOLERANCE:
            raise DecodeError("a float array beyond [0, 1]: scale it, or give uint8")
        array = (array.clip(0, 1) * 255).round().astype(np.uint8)  # as diffusers does when it makes a PIL picture
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise DecodeError(f"an array of {array.dtype} has no known range: give uint8, uint16 or floats in [0, 1]")
    array = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return Decoded(tuple(flatten(Image.fromarray(np.ascontiguousarray(array)))))


def _short(error: BaseException) -> str:
    # An OSError's own text carries the whole path; other texts may echo what stands in the file.
    text = (isinstance(error, OSError) and error.strerror) or str(error)
    return ascii(f"{type(error).__name__}: {text}")[1:-1][:120]
