"""Writes a copy of a clip with covered frames: images encoded again, sound as it was, no metadata."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nsfw_guard.errors import ConfigError, DecodeError, ImageError, UnknownNameError
from nsfw_guard.imaging.clips.clip import CLIP_LIMITS, Clip, ClipFrame
from nsfw_guard.imaging.clips.facts import load_av
from nsfw_guard.imaging.files.sources import describe_error
from nsfw_guard.imaging.limits import Limits

# By the name of the target: the format, and encoders in the order in which they are tried.
TARGETS = {
    ".mp4": ("mp4", ("libx264", "mpeg4")),
    ".mov": ("mov", ("libx264", "mpeg4")),
    ".mkv": ("matroska", ("libx264", "mpeg4")),
    ".webm": ("webm", ("libvpx-vp9", "libvpx")),
}
CLOCK = 90_000  # ticks a second, in which times are kept

Covers: TypeAlias = Mapping[int, NDArray[np.uint8]] | Callable[[ClipFrame], NDArray[np.uint8] | None]


def censor_clip(
    source: Any, target: str | Path, covers: Covers, *, limits: Limits = CLIP_LIMITS, comment: str = ""
) -> int:
    """Write a copy of a clip in which some frames are covered, and return how many are.

    The images are encoded again as most players show them (turned, with square pixels), the sound is copied, and
    metadata, chapters and other tracks are left out. The target appears only when the whole copy is written.

    Args:
        source: the clip: a path, bytes, or a file object.
        target: the new file: .mp4, .mov, .mkv or .webm, which must be able to hold the sound.
        covers: the new pixels by the index of their frame, or a function that returns them, or None, for each frame.
            They have the frame's own size. Shape: (H, W, 3) uint8 RGB.
        limits: the limits beyond which the source is refused.
        comment: a text that the copy keeps as its comment.

    Raises:
        DecodeError: the source cannot be read whole, or the target cannot be written.

    Example:
        ```python
        black = {7: np.zeros((480, 640, 3), np.uint8)}
        censor_clip("clip.mp4", "covered.mp4", black)  # 1
        ```
    """
    target = Path(target)
    if target.suffix.lower() not in TARGETS:
        raise UnknownNameError("kind of video file", target.suffix, TARGETS)
    clip = Clip.open(source, limits=limits)
    folder = target.parent
    if not folder.is_dir():
        raise ConfigError(f"the folder {folder.name!r} of the target does not exist: create it")
    handle, name = tempfile.mkstemp(suffix=target.suffix.lower(), prefix=".censor-", dir=folder)
    os.close(handle)
    try:
        covered = _write(clip, Path(name), _as_function(covers), comment)
        Path(name).replace(target)
    except (DecodeError, ImageError):
        raise
    except Exception as error:
        raise DecodeError(f"the copy cannot be written ({describe_error(error)}): try another kind of file") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
    return covered


def _as_function(covers: Covers) -> Callable[[ClipFrame], NDArray[np.uint8] | None]:
    return (lambda frame: covers.get(frame.index)) if isinstance(covers, Mapping) else covers


def _write(clip: Clip, path: Path, cover: Callable[[ClipFrame], NDArray[np.uint8] | None], comment: str) -> int:
    """Write frames and sound in the order of their times; the number of covered frames."""
    av = load_av()
    form, encoders = TARGETS[path.suffix]
    covered = 0
    with av.open(str(path), "w", format=form) as out, _sound(clip) as (begin, rate, streams, packets):
        images: Any = None
        if comment:
            out.metadata["comment"] = comment
        heard = {stream.index: _like(out, stream) for stream in streams}
        waiting = next(packets, None)
        for frame in clip:
            if frame.way:
                continue  # another way to show the frame before
            given = cover(frame)
            pixels = frame.pixels if given is None else _checked(given, frame)
            covered += given is not None
            if images is None:
                images = _images(out, encoders, pixels, rate)
            out.mux(images.encode(_frame(pixels, frame.seconds + begin)))
            while waiting is not None and _time(waiting) <= frame.seconds + begin:
                waiting = _pass_on(out, waiting, heard, packets)
        out.mux(images.encode())
        while waiting is not None:
            waiting = _pass_on(out, waiting, heard, packets)
    return covered


def _images(out: Any, encoders: tuple[str, ...], pixels: NDArray[np.uint8], rate: Fraction) -> Any:
    """The new stream of images, with the colours of HD video, which are named so that every player reads the same."""
    known = load_av().codecs_available
    encoder = next((name for name in encoders if name in known), encoders[-1])
    stream = out.add_stream(encoder, rate=rate, options={} if encoder == "mpeg4" else {"crf": "18"})
    stream.width, stream.height = _even(pixels.shape[1]), _even(pixels.shape[0])
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.time_base = Fraction(1, CLOCK)
    context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1
    return stream


def _frame(pixels: NDArray[np.uint8], seconds: float) -> Any:
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    frame = load_av().VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
    frame = frame.reformat(format="yuv420p", src_colorspace=1, dst_colorspace=1, src_color_range=2, dst_color_range=1)
    frame.pts, frame.time_base = round(seconds * CLOCK), Fraction(1, CLOCK)
    return frame


def _even(side: int) -> int:
    return side + side % 2


def _checked(pixels: NDArray[np.uint8], frame: ClipFrame) -> NDArray[np.uint8]:
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != frame.pixels.shape:
        given = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise ImageError(f"the cover of frame {frame.index} must be uint8 {frame.pixels.shape}, got {given}: resize it")
    return pixels


@contextlib.contextmanager
def _sound(clip: Clip) -> Iterator[tuple[float, Fraction, list[Any], Iterator[Any]]]:
    """When the images begin, their rate, the streams of sound and their packets, at the times of the edit list."""
    with load_av().open(io.BytesIO(clip.data), mode="r", format=clip.facts.format) as container:
        images = container.streams.video[0]
        rate = images.average_rate or images.guessed_rate or Fraction(25)
        begin = max(0.0, float((images.start_time or 0) * images.time_base))
        streams = list(container.streams.audio)
        packets = (p for p in (container.demux(streams) if streams else ()) if p.size and p.dts is not None)
        yield begin, rate, streams, packets


def _like(out: Any, stream: Any) -> Any:
    """A stream of the target for the same coded sound; PyAV before 14 has another name for it."""
    copied = out.add_stream_from_template(stream) if hasattr(out, "add_stream_from_template") else None
    return copied or out.add_stream(template=stream)


def _pass_on(out: Any, packet: Any, heard: Mapping[int, Any], packets: Iterator[Any]) -> Any:
    """Write a packet of sound as it is; return the next one."""
    packet.stream = heard[packet.stream.index]
    out.mux(packet)
    return next(packets, None)


def _time(packet: Any) -> float:
    return float(packet.dts * packet.time_base)
