"""The blocks of a GIF: counts its frames and blocks before decoding, and returns each frame by itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.files.moving import Disposal, Piece

MAX_PIECES = 1_000_000  # a file of 64 MB is written in 260,000
IMAGE, EXTENSION, END = 0x2C, 0x21, 0x3B


# By the three bits of a control block; browsers and players do not agree on the four that are reserved.
DISPOSALS = {0: Disposal.KEEP, 1: Disposal.KEEP, 2: Disposal.CLEAR, 3: Disposal.RESTORE}


@dataclass
class Gif:
    """The structure of a GIF file: its size, and the place of each frame.

    Args:
        images: per frame where it begins, where it ends, and the control block before it.
    """

    size: tuple[int, int]
    images: list[tuple[int, int, bytes]] = field(default_factory=list)


def read(data: bytes, *, most: int) -> Gif:
    """Return the frames of a GIF file.

    Raises:
        DecodeError: it has more than `most` frames or very many blocks, or its end is missing.
    """
    gif = Gif((int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")))
    pieces, control = 0, b""
    at = 13 + _table(data, 10)
    while at < len(data) and pieces <= MAX_PIECES:
        begin, is_image = at, data[at] == IMAGE
        if is_image:
            at += 11 + _table(data, at + 9)
        elif data[at] == EXTENSION:
            control = data[at + 3 : at + 7] if data[at + 1 : at + 3] == b"\xf9\x04" else control
            at += 2
        elif data[at] == END:
            break
        else:  # some readers continue after unknown bytes
            at, pieces = at + 1, pieces + 1
            continue
        if len(gif.images) + is_image > most:
            raise DecodeError(f"more than {most} frames: shorten it, or raise limits.frames")
        while at < len(data) and data[at] and pieces <= MAX_PIECES:
            at += 1 + data[at]
            pieces += 1
        at, pieces = at + 1, pieces + 1
        if is_image:
            gif.images.append((begin, at, control))
            control = b""
    if pieces > MAX_PIECES:
        raise DecodeError("the file has too many small blocks: save it again with fewer frames")
    if at >= len(data):  # the rest of the file is missing
        raise DecodeError("the file is truncated (no end mark): get the complete file, or save it again")
    return gif


def pieces(data: bytes, gif: Gif) -> list[Piece]:
    """Return each frame as a separate file, and where it is drawn.

    Raises:
        DecodeError: a frame has a reserved disposal.
    """
    frames = []
    for begin, end, control in gif.images:
        disposal = DISPOSALS.get((control[0] >> 2) & 7 if control else 0)
        if disposal is None and len(gif.images) > 1:
            raise DecodeError("a frame with a reserved disposal, on which players do not agree: save it again")
        left, top, width, height = (
            int.from_bytes(data[at : at + 2], "little") for at in range(begin + 1, begin + 9, 2)
        )
        frames.append(
            Piece(
                file=lambda begin=begin, end=end, control=control: _alone(data, begin, end, control),  # type: ignore[misc]
                left=left,
                top=top,
                width=width,
                height=height,
                disposal=disposal or Disposal.KEEP,
                over=True,
            )
        )
    return frames


def _alone(data: bytes, begin: int, end: int, control: bytes) -> bytes:
    """One frame as a separate GIF of its own size."""
    screen = data[begin + 5 : begin + 9]
    head = b"GIF89a" + screen + data[10 : 13 + _table(data, 10)]
    clear = bytes((control[0] & 1,)) + control[1:] if control else b""
    block = b"\x21\xf9\x04" + clear + b"\0" if len(clear) == 4 else b""
    return head + block + b"\x2c" + bytes(4) + screen + data[begin + 9 : end] + b";"


def _table(data: bytes, at: int) -> int:
    """Size in bytes of the colour table that these flags announce."""
    flags = data[at] if at < len(data) else 0
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
