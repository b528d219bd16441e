"""Limits for decoding a file, and the budget that is spent while it is decoded."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Literal, get_args

from nsfw_guard.errors import ConfigError, DecodeError, UnknownNameError

Unseen = Literal["error", "review"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits for decoding a file. A file beyond a limit is refused: its verdict is ERROR.

    Args:
        pixels: pixels of one frame.
        total_pixels: all the work on one file, about 20 ns each on one core: the pixels of each frame for looking at
            it, half to twice that for decoding it, and more for each way in which viewers may show it (on black, on
            white, colour-managed ...). A PNG reaches 100 million at 40 megapixels if opaque, at 13 with alpha.
        frames: frames of an animation, or pages; all of them are judged.
        aspect: ratio of the longer side to the shorter one.
        bytes: size of a file.
        scans: scans of a progressive JPEG; each one is a pass over all of its pixels.
        chunks: chunks of a PNG.
        embedded: further images in the file, such as thumbnails.
        seconds: processor time between the first and the last frame; with `process`, time to wait for the decoder.
        unseen: the result for a file with more frames than `frames`: "error", or "review", which judges that many
            of them, evenly spread.
        process: decode files in a separate process, which is ended when it takes too long or too much memory. Meant
            for untrusted files; it costs about 1 ms per file.
        memory: bytes that such a process may take (where the system can limit it).

    Example:
        ```python
        guard = Guard(load_model("demo-shapes"), limits=Limits(process=True, frames=64))
        ```
    """

    pixels: int = 40_000_000
    total_pixels: int = 100_000_000
    frames: int = 256
    aspect: float = 100.0
    bytes: int = 64 * 1024 * 1024
    scans: int = 100
    chunks: int = 50_000
    embedded: int = 16
    seconds: float = 2.0
    unseen: Unseen = "error"
    process: bool = False
    memory: int = 1024 * 1024 * 1024

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "unseen":
                if value not in get_args(Unseen):
                    raise UnknownNameError("limits.unseen", value, get_args(Unseen))
            elif f.name == "process":
                if not isinstance(value, bool):
                    raise ConfigError(f"limits.process must be True or False, got {value!r}")
            else:
                _check_number(f.name, value)


def _check_number(name: str, value: object) -> None:
    fraction = name in {"aspect", "seconds"}
    least = {"frames": 2, "embedded": 0, "seconds": 0.01}.get(name, 1)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not isinstance(value, (int, float)) or not (whole or fraction) or not least <= value < math.inf:
        kind = "a finite number" if fraction else "a whole number"
        raise ConfigError(f"limits.{name} must be {kind} of at least {least}, got {value!r}")


class Budget:
    """What remains of the limits while one file is decoded."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.pixels = limits.total_pixels
        self.spent = 0.0
        self.frames = 0

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise an error when a frame of this size is beyond the limits."""
        width, height = size
        limits = self.limits
        if width < 1 or height < 1:
            raise DecodeError(f"a size of {width}x{height} has no pixels: save the image again")
        if width * height > limits.pixels:
            raise DecodeError(
                f"{width}x{height} has more than {limits.pixels} pixels: make it smaller, or raise limits.pixels"
            )
        if max(size) > limits.aspect * min(size):
            raise DecodeError(
                f"the aspect ratio of {width}x{height} is above {limits.aspect:g}:1: crop it, or raise limits.aspect"
            )

    def foresee(self, pixels: int) -> None:
        """Raise an error when work that is still to come exceeds the budget."""
        if pixels > self.pixels:
            raise DecodeError(
                f"more than {self.limits.total_pixels} pixels in all, counting each way in which viewers may show it: "
                "shorten it or make it smaller, or raise limits.total_pixels"
            )

    def take(self, pixels: int) -> None:
        """Subtract work of so many pixels from the budget."""
        self.foresee(pixels)
        self.pixels -= pixels

    @contextmanager
    def frame(self) -> Iterator[None]:
        """Count the processor time of one more frame; a frame that would probably be too late is not begun."""
        if self.frames and self.spent * (self.frames + 1) / self.frames > self.limits.seconds:
            raise DecodeError(
                f"takes more than {self.limits.seconds:g} s to decode: shorten it or make it smaller, or raise "
                "limits.seconds"
            )
        start = time.thread_time()
        try:
            yield
        finally:
            self.spent += time.thread_time() - start
            self.frames += 1
