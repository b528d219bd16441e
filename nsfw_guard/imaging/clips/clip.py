"""A video file as frames, one after the other: whole, or an error.

A clip is whole when its structure ends where it says, when each coded image that we counted in the file was read
undamaged and gave a frame, and when its last track lasts as long as the header says. Decoding is PyAV's, without
threads, so that its processor time can be limited.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsfw_guard.errors import ConfigError, DecodeError
from nsfw_guard.imaging.clips.boxes import read_boxes
from nsfw_guard.imaging.clips.ebml import read_elements
from nsfw_guard.imaging.clips.facts import Facts, load_av
from nsfw_guard.imaging.clips.ways import Look, check_look, look_of, ways, whole_ratio
from nsfw_guard.imaging.files.sources import describe_error, read_bytes
from nsfw_guard.imaging.limits import Budget, Limits

# Limits for a clip: a minute of 1920 x 1080 with 30 frames a second takes 7.5 thousand million pixels.
CLIP_LIMITS = Limits(total_pixels=8_000_000_000, frames=10_000, seconds=120.0, bytes=256 * 1024 * 1024)
TOLERANCE = 0.5  # seconds, and 2% of the duration, by which the tracks may end before the header says


@dataclass(frozen=True, kw_only=True)
class ClipSampling:
    """Which frames of a clip are looked at: every n-th, or so many a second. The first one always is.

    Example:
        ```python
        clip = Clip.open("clip.mp4", every=ClipSampling(per_second=2))
        clip.partial  # "only 2 frames a second"
        ```
    """

    nth: int = 1
    per_second: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.nth, bool) or not isinstance(self.nth, int) or self.nth < 1:
            raise ConfigError(f"nth must be a whole number of at least 1 (1 is every frame), got {self.nth!r}")
        rate = self.per_second
        if rate is not None and (isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < 1e4):
            raise ConfigError(f"per_second must be a number above 0, got {rate!r}")
        if rate is not None and self.nth != 1:
            raise ConfigError("nth and per_second are both set: choose one of them")

    @property
    def partial(self) -> str:
        """What is looked at, in words; empty when it is everything."""
        if self.per_second is not None:
            return f"only {self.per_second:g} frames a second"
        return f"only every {self.nth}. frame" if self.nth > 1 else ""


@dataclass(frozen=True)
class ClipFrame:
    """A frame in one of the ways that players show it; a frame that is shown in several ways comes several times.

    Shape: pixels (H, W, 3) uint8 RGB.
    """

    index: int
    seconds: float
    pixels: NDArray[np.uint8] = field(repr=False)
    way: int = 0


@dataclass(frozen=True)
class Clip:
    """A video file (MP4, MOV, WebM or Matroska), read frame by frame: at no time is more than one frame held.

    Iterating may raise DecodeError at any point: then the frames before must not be taken for a safe clip.

    Example:
        ```python
        for frame in Clip.open("clip.mp4"):
            print(frame.index, frame.seconds, frame.pixels.shape)
        ```
    """

    data: bytes = field(repr=False)
    facts: Facts
    limits: Limits = CLIP_LIMITS
    every: ClipSampling = field(default_factory=ClipSampling)

    @classmethod
    def open(cls, source: Any, *, limits: Limits = CLIP_LIMITS, every: ClipSampling | None = None) -> Clip:
        """Read the structure of a clip: a path, bytes, or a file object.

        Raises:
            DecodeError: it is no clip, it is beyond the limits, or players may show it in different ways.
        """
        load_av()
        if limits.process:
            raise ConfigError("clips are not decoded in a process of their own: pass limits without process=True")
        data = read_bytes(source, limits.bytes)
        try:
            facts = _read(data, limits)
        except DecodeError:
            raise
        except Exception as error:
            raise DecodeError(f"its structure is damaged ({describe_error(error)}): save the clip again") from error
        Budget(limits).check_size((facts.width, facts.height))
        Budget(limits).foresee(facts.width * facts.height * facts.samples)
        return cls(data, facts, limits, every or ClipSampling())

    @property
    def width(self) -> int:
        """Pixels in a row, as stored."""
        return self.facts.width

    @property
    def height(self) -> int:
        """Rows, as stored."""
        return self.facts.height

    @property
    def frames(self) -> int:
        """The number of coded images in the file; VP8 may have some that are never shown."""
        return self.facts.samples

    @property
    def seconds(self) -> float:
        """The duration in the header."""
        return self.facts.seconds

    @property
    def partial(self) -> str:
        """Why the frames are not all of the clip; empty when they are."""
        return self.every.partial

    def __iter__(self) -> Iterator[ClipFrame]:
        try:
            yield from self._frames()
        except DecodeError:
            raise
        except Exception as error:  # ffmpeg's errors are of many types
            raise DecodeError(
                f"cannot be decoded ({describe_error(error)}): get the whole file, or save it again"
            ) from error

    def _frames(self) -> Iterator[ClipFrame]:
        budget = Budget(self.limits)
        with self._opened() as container:
            stream = _only_stream(container, self.limits)
            ratios = [whole_ratio(stream.sample_aspect_ratio), whole_ratio(stream.codec_context.sample_aspect_ratio)]
            count, due = 0, -math.inf
            for frame, first in _decoded(container, stream, self.facts, budget):
                seconds = _seconds(frame, first)
                index, count = count, count + 1
                if index % self.every.nth or seconds < due:
                    continue
                if self.every.per_second is not None:
                    due = max(seconds, due if due > -math.inf else seconds) + 1 / self.every.per_second
                shown = ways(frame, ratios)
                way = 0
                while (pixels := _next(shown, budget)) is not None:
                    yield ClipFrame(index, seconds, pixels, way)
                    way += 1

    def _opened(self) -> Any:
        """The file in ffmpeg: the format is the one that we read, and parts that an edit list hides are shown."""
        options = {"ignore_editlist": "1"} if self.facts.format == "mov" else {}
        return load_av().open(
            io.BytesIO(self.data),
            mode="r",
            format=self.facts.format,
            options={"err_detect": "explode", **options},
            stream_options=[{"max_pixels": str(self.limits.pixels), "threads": "1"}] * self.facts.tracks,
        )


def _read(data: bytes, limits: Limits) -> Facts:
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return read_elements(data, limits)
    if data[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}:
        return read_boxes(data, limits)
    raise DecodeError("neither an MP4, MOV, WebM nor Matroska file: convert it, or check an image as an image")


def _only_stream(container: Any, limits: Limits) -> Any:
    """The only stream of images, set up to end at the first fault."""
    if len(container.streams.video) != 1:
        raise DecodeError(
            f"{len(container.streams.video)} streams of images (a cover image is one): save it with one of them"
        )
    if kinds := {stream.type for stream in container.streams} - {"video", "audio", "data"}:
        raise DecodeError(f"a stream of the kind {min(kinds)!r}, which players may show: save it without")
    stream = container.streams.video[0]
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"err_detect": "explode", "max_pixels": str(limits.pixels)}
    return stream


def _decoded(container: Any, stream: Any, facts: Facts, budget: Budget) -> Iterator[tuple[Any, Any]]:
    """Each frame with the time of the first one; raises an error at the end where the clip was not whole."""
    packets = frames = hidden = 0
    look: Look | None = None
    first, end = None, 0.0
    size = facts.width * facts.height
    for packet in container.demux():
        if packet.is_corrupt:
            raise DecodeError("a part of it is damaged or missing: get the whole file")
        end = max(end, _end(packet))
        if packet.stream.index != stream.index:
            continue
        if packet.size:
            packets, hidden = packets + 1, hidden + _is_hidden(packet, stream)
            budget.take(size)
        with budget.frame():
            ready = packet.decode()
        for frame in ready:
            look = look or look_of(frame)
            first = frame.time if first is None else first
            _check_frame(frame, stream.codec_context, look, facts)
            frames += 1
            yield frame, first
    _check_end(packets, frames + hidden, end, facts)


def _check_frame(frame: Any, context: Any, look: Look, facts: Facts) -> None:
    if frame.is_corrupt:
        raise DecodeError("a frame is damaged: get the whole file, or save it again")
    if look_of(frame) != look or (frame.width, frame.height) != (facts.width, facts.height):
        raise DecodeError(
            f"a frame of {frame.width}x{frame.height} ({frame.format.name}) in a clip of {facts.width}x{facts.height} "
            f"({look.format}): save it with one size"
        )
    check_look(frame, context)


def _check_end(packets: int, frames: int, end: float, facts: Facts) -> None:
    if packets != facts.samples or frames != facts.samples:
        raise DecodeError(
            f"it holds {facts.samples} coded images, of which {packets} could be read and {frames} decoded: get the "
            "whole file, or save it again"
        )
    if not end >= facts.seconds * 0.98 - TOLERANCE:
        raise DecodeError(f"its header says {facts.seconds:.2f} s, but it ends after {end:.2f} s: save it again")


def _end(packet: Any) -> float:
    """When a packet ends, in seconds."""
    return 0.0 if packet.pts is None else float((packet.pts + (packet.duration or 0)) * packet.time_base)


def _is_hidden(packet: Any, stream: Any) -> bool:
    """Whether it is an image that VP8 keeps for prediction and never shows."""
    return stream.codec_context.name in {"vp8", "libvpx"} and not bytes(packet)[0] & 0x10


def _seconds(frame: Any, first: float | None) -> float:
    if frame.time is None or first is None:
        raise DecodeError("a frame has no time: save the clip again")
    return float(frame.time - first)


def _next(shown: Iterator[NDArray[np.uint8]], budget: Budget) -> NDArray[np.uint8] | None:
    """The next way to show a frame, within the limits of size and work."""
    with budget.frame():
        pixels = next(shown, None)
    if pixels is not None:
        budget.check_size((pixels.shape[1], pixels.shape[0]))
        budget.take(pixels.shape[0] * pixels.shape[1])
    return pixels
