"""A GIF's blocks: how many frames and pieces they are, counted before any of them is decoded."""

from __future__ import annotations

from nsfw_guard.errors import DecodeError

MOST_PIECES = 1_000_000  # a file of 64 MB is written in 260,000
IMAGE, EXTENSION, END = 0x2C, 0x21, 0x3B


def count_frames(data: bytes, *, most: int) -> int:
    """How many frames a GIF file holds.

    Raises:
        DecodeError: there are more than `most`, it is made of very many pieces, or its end is missing.
    """
    frames, pieces = 0, 0
    at = 13 + _table(data, 10)
    while at < len(data) and pieces <= MOST_PIECES:
        if data[at] == IMAGE:
            frames += 1
            at += 11 + _table(data, at + 9)
        elif data[at] == EXTENSION:
            at += 2
        elif data[at] == END:
            break
        else:  # some readers look on behind what is no block
            at, pieces = at + 1, pieces + 1
            continue
        if frames > most:
            raise DecodeError(f"over {most} frames: shorten it, or raise limits.frames")
        while at < len(data) and data[at] and pieces <= MOST_PIECES:
            at += 1 + data[at]
            pieces += 1
        at, pieces = at + 1, pieces + 1
    if pieces > MOST_PIECES:
        raise DecodeError("made of too many tiny pieces: save it anew with fewer frames")
    if at >= len(data):  # whatever else it held is gone
        raise DecodeError("cut off: its end mark is missing. Get the whole file, or save it anew")
    return frames


def _table(data: bytes, at: int) -> int:
    """How many bytes the colour table takes that these flags announce."""
    flags = data[at] if at < len(data) else 0
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
