"""One decoded frame of a clip in every way that players show it, and the frames whose look is not agreed on."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.clips.facts import refuse

CONVERT = "save it as H.264 with 8 bits per colour (`ffmpeg -i IN -pix_fmt yuv420p OUT`)"
FULL = {"yuvj420p", "yuvj422p", "yuvj444p"}  # the range of these is in their name
FORMATS = FULL | {"yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "nv12", "gbrp", "gray"}
# Numbers of ITU-T H.273; 2 is "not specified", which players read as standard video.
TRANSFERS = {1, 2, 4, 5, 6, 7, 13}
HDR = {16: "HDR (PQ)", 18: "HDR (HLG)", 8: "linear light"}
PRIMARIES = {1, 2, 4, 5, 6, 7}
MATRICES = {0, 1, 2, 4, 5, 6}
ITU709, ITU601 = 1, 5  # as libswscale numbers them
HD_ROWS = 720  # from here on, players read colours that name no matrix as those of HD video
RATIO = 4.0  # of the sides of a pixel
# Notes of an encoder, captions as text, and what the decoder has applied or does not need.
SIDE_DATA = {"DISPLAYMATRIX", "A53_CC", "SEI_UNREGISTERED", "GOP_TIMECODE", "S12M_TIMECODE", "VIDEO_ENC_PARAMS",
             "MOTION_VECTORS", "REGIONS_OF_INTEREST", "DETECTION_BBOXES", "VIDEO_HINT", "AFD"}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """The size and format that all frames of a clip must have."""

    width: int
    height: int
    format: str


def look_of(frame: Any) -> Look:
    """Return the size and format of a frame."""
    return Look(frame.width, frame.height, frame.format.name)


def check_look(frame: Any, context: Any) -> None:
    """Raise an error for a frame whose colours, transparency or views players do not show alike."""
    name = frame.format.name
    if name not in FORMATS:
        alpha = any(component.is_alpha for component in frame.format.components)
        raise refuse("transparency" if alpha else f"pixels in the format {name!r}", CONVERT)
    transfer, primaries = _setting(frame, context, "color_trc"), _setting(frame, context, "color_primaries")
    if not transfer <= TRANSFERS:
        number = min(transfer - TRANSFERS)
        raise refuse(HDR.get(number, f"a transfer of the number {number}"), CONVERT)
    if not primaries <= PRIMARIES or not _setting(frame, context, "colorspace") <= MATRICES:
        raise refuse("colours beyond those of HD video", CONVERT)
    for data in frame.side_data:
        if data.type.name not in SIDE_DATA:
            raise refuse(f"{data.type.name} on its frames", CONVERT)


def ways(frame: Any, ratios: Sequence[float]) -> Iterator[NDArray[np.uint8]]:
    """Yield a frame in every way that players show it, first as most of them do.

    These are: turned and stretched as the file says; as it is stored; and where it is interlaced, each field alone.

    Args:
        frame: a frame whose look was checked.
        ratios: width to height of a pixel, as container and codec say.

    Shape: (H, W, 3) uint8 RGB.
    """
    matrix = _matrix(frame)
    sizes = list(dict.fromkeys(_stretched(frame, ratio) for ratio in ratios if ratio))
    stored = (frame.width, frame.height)
    if matrix is not None or sizes not in ([], [stored]):
        for size in sizes or [stored]:
            yield np.ascontiguousarray(_turned(_rgb(frame, *size), matrix))
    pixels = _rgb(frame, *stored)
    yield pixels
    if frame.interlaced_frame:
        for start in (0, 1):
            yield np.ascontiguousarray(np.repeat(pixels[start::2], 2, axis=0)[: frame.height])


def _setting(frame: Any, context: Any, name: str) -> set[int]:
    """What the frame and the header of the codec say; PyAV before 16 gives some only for the codec."""
    return {int(getattr(holder, name)) for holder in (frame, context) if getattr(holder, name, None) is not None}


def _rgb(frame: Any, width: int, height: int) -> NDArray[np.uint8]:
    hd = frame.colorspace == 1 or (frame.colorspace == 2 and frame.height >= HD_ROWS)
    full = frame.format.name in FULL or frame.color_range == 2
    # For RGB the target's matrix has no meaning; PyAV before 16 follows the source's only where the two differ.
    given = frame.reformat(
        width=width,
        height=height,
        format="rgb24",
        src_colorspace=ITU709 if hd else ITU601,
        dst_colorspace=ITU601 if hd else ITU709,
        src_color_range=2 if full else 1,
        dst_color_range=2,
    )
    return np.ascontiguousarray(given.to_ndarray())


def _stretched(frame: Any, ratio: float) -> tuple[int, int]:
    """The size of a frame whose pixels are made square."""
    if not 1 / RATIO <= ratio <= RATIO:
        raise refuse(f"pixels of {ratio:.3g}:1", "scale it so that its pixels are square")
    if abs(ratio - 1) < 1 / 64:
        return frame.width, frame.height
    return max(1, round(frame.width * max(ratio, 1))), max(1, round(frame.height / min(ratio, 1)))


def _matrix(frame: Any) -> tuple[int, int, int, int] | None:
    """The rotation and mirroring that the file asks for, as whole numbers; None for none."""
    given = [data for data in frame.side_data if data.type.name == "DISPLAYMATRIX"]
    if not given:
        return None
    a, b, u, c, d, v, *_ = struct.unpack("=9i", bytes(given[0])[:36])
    whole = tuple(value // 65536 for value in (a, b, c, d))
    turns = sorted((abs(whole[0]), abs(whole[1]))) == [0, 1] and abs(whole[0]) == abs(whole[3])
    if not turns or abs(whole[1]) != abs(whole[2]) or any(value % 65536 for value in (a, b, c, d)) or u or v:
        raise refuse("a rotation by less than a quarter turn, or a scale", "turn its pixels instead")
    return None if whole == (1, 0, 0, 1) else (whole[0], whole[1], whole[2], whole[3])


def _turned(pixels: NDArray[np.uint8], matrix: tuple[int, int, int, int] | None) -> NDArray[np.uint8]:
    """Move each pixel from (x, y) to (a x + c y, b x + d y)."""
    if matrix is None:
        return pixels
    a, b, c, d = matrix
    if not a:
        pixels = pixels.swapaxes(0, 1)
    pixels = pixels[:, ::-1] if a + c < 0 else pixels
    return pixels[::-1] if b + d < 0 else pixels


def whole_ratio(value: Any) -> float:
    """Return a ratio as a number; 0 where there is none."""
    try:
        return float(value or 0)
    except (ZeroDivisionError, ValueError) as error:
        raise DecodeError(f"its pixels have no valid ratio ({value!r}): save the clip again") from error
