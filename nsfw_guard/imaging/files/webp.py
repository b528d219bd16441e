"""The chunks of a WebP: the frames that they contain, and the images in its metadata."""

from __future__ import annotations

from collections.abc import Iterator

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.files.metadata import Embedded, in_exif, sweep

PIXELS = {b"VP8 ", b"VP8L", b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"ICCP"}


def chunks(data: bytes, *, most: int) -> list[tuple[bytes, int, int]]:
    """Return the chunks of a WebP file with their places, up to its end.

    Raises:
        DecodeError: there are more of them than that.
    """
    rows: list[tuple[bytes, int, int]] = []
    end, at = min(len(data), 8 + int.from_bytes(data[4:8], "little")), 12
    while at + 8 <= end:
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        rows.append((data[at : at + 4], at + 8, min(at + 8 + size, end)))
        at += 8 + size + size % 2
        if len(rows) > most:
            raise DecodeError(f"more than {most} chunks: save it again, or raise limits.chunks")
    return rows


def check_frames(rows: list[tuple[bytes, int, int]], shown: int) -> None:
    """Raise an error when a file has more images than its header declares."""
    kinds = [kind for kind, _, _ in rows]
    stills, frames = kinds.count(b"VP8 ") + kinds.count(b"VP8L"), kinds.count(b"ANMF")
    if stills + frames > shown:
        raise DecodeError(f"{stills + frames} images, but its header counts {shown}: save it again")


def declares_profile(data: bytes, rows: list[tuple[bytes, int, int]]) -> bool:
    """Return whether its header declares a colour profile."""
    return any(kind == b"VP8X" and data[start] & 0x20 for kind, start, end in rows if start < end)


def embedded(data: bytes, rows: list[tuple[bytes, int, int]]) -> Iterator[Embedded]:
    """Yield the images in its EXIF block, its XMP text and in unknown chunks."""
    for kind, start, end in rows:
        block = data[start:end]
        if kind == b"EXIF":
            skip = 6 if block.startswith(b"Exif\0\0") else 0
            yield from in_exif(block[skip:], start + skip)
        elif kind not in PIXELS:
            yield from sweep(block, start)
