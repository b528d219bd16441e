"""Small clips of drawn shapes, made by PyAV in memory, and the same with a fault."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

SIZE = (64, 48)
KINDS = {
    "mp4": ("mp4", "libx264"),
    "mov": ("mov", "libx264"),
    "mpeg4": ("mp4", "mpeg4"),
    "webm": ("webm", "libvpx-vp9"),
    "vp8": ("webm", "libvpx"),
    "mkv": ("matroska", "libx264"),
}


def drawn(count: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """A white square that moves over blue, a step a frame."""
    frames = []
    for i in range(count):
        pixels = np.zeros((size[1], size[0], 3), np.uint8)
        pixels[..., 2] = 200
        left = i * 4 % (size[0] - 16)
        pixels[8:24, left : left + 16] = 255
        frames.append(pixels)
    return frames


def clip(
    frames: Sequence[np.ndarray],
    kind: str = "mp4",
    *,
    codec: str = "",
    pixels: str = "yuv420p",
    rate: int = 24,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    setup: Callable[[Any], None] | None = None,
    sound: str = "",
    each: Callable[[av.VideoFrame, int], None] | None = None,
    metadata: dict[str, str] | None = None,
) -> bytes:
    """A video file with these frames. `setup` gets the stream of images, `each` every frame before it is encoded."""
    form, usual = KINDS[kind]
    with tempfile.TemporaryDirectory() as folder:  # ffmpeg opens the file again to move its header to the front
        file = Path(folder) / "clip"
        _write(file, form, codec or usual, frames, pixels, rate, options, container, setup, sound, each, metadata)
        return file.read_bytes()


def _write(file, form, codec, frames, pixels, rate, options, container, setup, sound, each, metadata) -> None:
    with av.open(str(file), "w", format=form, options=container or {}) as out:
        out.metadata.update(metadata or {})
        stream = out.add_stream(codec, rate=rate, options={"crf": "10"} | (options or {}))
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], pixels
        if setup:
            setup(stream)
        heard = _sound(out, sound, len(frames) / rate) if sound else []
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, "rgba" if image.shape[2] == 4 else "rgb24")
            if each:
                each(frame, i)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        for packets in heard:
            out.mux(packets)


def _sound(out: Any, codec: str, seconds: float) -> list[Any]:
    """A tone of 440 Hz, encoded."""
    stream = out.add_stream(codec, rate=48000, layout="mono")
    samples = np.sin(np.arange(int(seconds * 48000)) * 440 * 2 * np.pi / 48000).astype(np.float32)
    packets = []
    for start in range(0, len(samples), 960):
        part = samples[None, start : start + 960]
        if part.shape[1] < 960:
            break
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), "fltp", "mono")
        frame.sample_rate, frame.pts = 48000, start
        packets.append(stream.encode(frame))
    packets.append(stream.encode())
    return packets


def whole(data: bytes, **settings: Any) -> list[np.ndarray]:
    """The pixels of all frames, or an error."""
    from nsfw_guard.imaging.clips.clip import Clip

    return [frame.pixels for frame in Clip.open(data, **settings)]
