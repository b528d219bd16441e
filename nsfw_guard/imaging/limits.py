"""How much of a file is decoded at the most, and the account that is kept while it is."""

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
    """How much of a file is decoded at the most. A file beyond a limit is refused: its verdict is ERROR.

    Args:
        pixels: of one frame.
        total_pixels: all the work on one file, about 20 ns each on one core: the pixels of each frame for looking at
            it, half to twice that for decoding it, and more for each way in which viewers may show it (on black, on
            white, colour-managed ...). An opaque PNG of 40 megapixels takes 100 million, one with alpha of 13 too.
        frames: of an animation, or pages; all of them are looked at.
        aspect: of the longer side to the shorter one.
        bytes: of a file.
        scans: of a progressive JPEG; each one is a pass over all of its pixels.
        chunks: of a PNG.
        embedded: pictures beside the picture, such as thumbnails.
        seconds: of processor time between the first and the last frame; with `process`, of waiting for the decoder.
        unseen: what becomes of a file with more frames than `frames`: "error", or "review", which looks at that many
            of them, evenly spread.
        process: files are decoded in a process of their own, which is ended when it is late or takes too much memory.
            For files of strangers; it costs about 1 ms a file.
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
                    raise ConfigError(f"limits.process is {value!r}: say True or False")
            else:
                _check_number(f.name, value)


def _check_number(name: str, value: object) -> None:
    fraction = name in {"aspect", "seconds"}
    least = {"frames": 2, "embedded": 0, "seconds": 0.01}.get(name, 1)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not isinstance(value, (int, float)) or not (whole or fraction) or not least <= value < math.inf:
        kind = "a finite number" if fraction else "a whole number"
        raise ConfigError(f"limits.{name} is {value!r}: give {kind} of at least {least}")


class Budget:
    """What is left of the limits while one file is decoded."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.pixels = limits.total_pixels
        self.spent = 0.0
        self.frames = 0

    def check_size(self, size: tuple[int, int]) -> None:
        """Raises when a frame of this size is not decoded at all."""
        width, height = size
        limits = self.limits
        if width < 1 or height < 1:
            raise DecodeError(f"{width}x{height} has no pixels: save the picture again")
        if width * height > limits.pixels:
            raise DecodeError(
                f"{width}x{height} is over {limits.pixels} pixels: make it smaller, or raise limits.pixels"
            )
        if max(size) > limits.aspect * min(size):
            raise DecodeError(f"{width}x{height} is longer than {limits.aspect:g}:1: crop it, or raise limits.aspect")

    def foresee(self, pixels: int) -> None:
        """Raises when work that is still to come will not fit, before any of it is done."""
        if pixels > self.pixels:
            raise DecodeError(
                f"over {self.limits.total_pixels} pixels in all, counting each way in which viewers may show it: "
                "shorten it or make it smaller, or raise limits.total_pixels"
            )

    def take(self, pixels: int) -> None:
        """Books work of so many pixels."""
        self.foresee(pixels)
        self.pixels -= pixels

    @contextmanager
    def frame(self) -> Iterator[None]:
        """Books the processor time of one more frame; no frame is begun that would be late, going by those before."""
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
