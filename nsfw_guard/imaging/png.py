"""A PNG's chunks: how many, the colours they declare, the frames they count, and the pictures in them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.colour import cicp_profile, gamma_profile
from nsfw_guard.imaging.metadata import Embedded, exif_of_text, in_exif, sweep

START = b"\x89PNG\r\n\x1a\n"
KNOWN = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"fdAT", b"fcTL", b"acTL", b"tRNS", b"iCCP"}
LONGEST_TEXT = 1 << 20  # bytes of an unpacked text: Pillow's own limit


@dataclass
class Png:
    """What a PNG file says of itself: its chunks but those of pixels, the frames, and where it ends."""

    chunks: list[tuple[bytes, int, int]] = field(default_factory=list)
    counted: int = 0
    frames: int = 0
    end: int = 0


def read(data: bytes, *, most_chunks: int) -> Png:
    """The chunks of a PNG file.

    Raises:
        DecodeError: there are more of them than that.
    """
    png, at, count = Png(end=len(data)), len(START), 0
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        start, at, count = at + 8, at + 12 + length, count + 1
        if count > most_chunks:
            raise DecodeError(f"over {most_chunks} chunks: save it anew, or raise limits.chunks")
        if kind == b"acTL":
            png.counted = max(png.counted, int.from_bytes(data[start : start + 4], "big"))
        png.frames += kind == b"fcTL"
        if kind not in KNOWN:
            png.chunks.append((kind, start, min(start + length, len(data))))
        if kind == b"IEND":
            png.end = min(at, len(data))
            break
    return png


def profiles(data: bytes, png: Png) -> Iterator[bytes]:
    """The colours that its chunks declare, each as a profile: cICP, and gAMA with cHRM.

    The standard lets the first of cICP, iCCP, sRGB and gAMA win. Viewers that know fewer follow the next one, so each
    is given.
    """
    values = {kind: data[start:end] for kind, start, end in reversed(png.chunks)}
    if len(code := values.get(b"cICP", b"")) == 4:
        yield from cicp_profile(primaries=code[0], transfer=code[1])
    gamma, places = values.get(b"gAMA", b""), values.get(b"cHRM", b"")
    if len(gamma) == 4 or len(places) == 32:
        exponent = int.from_bytes(gamma, "big") / 100_000 if len(gamma) == 4 else 0.0
        points = [n / 100_000 for n in struct.unpack(">8L", places)] if len(places) == 32 else []
        yield from gamma_profile(exponent, points)


def embedded(data: bytes, png: Png) -> Iterator[Embedded]:
    """The pictures in its EXIF blocks, its texts and in chunks of unknown kinds."""
    for kind, start, end in png.chunks:
        block = data[start:end]
        if kind == b"eXIf":
            yield from in_exif(block[6:] if block.startswith(b"Exif\0\0") else block, start)
        elif kind in {b"zTXt", b"iTXt", b"tEXt"}:
            yield from _in_text(kind, block, start)
        else:
            yield from sweep(block, start)


def _in_text(kind: bytes, block: bytes, start: int) -> Iterator[Embedded]:
    name, _, rest = block.partition(b"\0")
    packed = kind == b"zTXt" or (kind == b"iTXt" and rest[:1] == b"\1")
    if not packed:
        yield from sweep(block, start)
        body = rest
    else:
        body = rest[1:] if kind == b"zTXt" else rest[2:].partition(b"\0")[2].partition(b"\0")[2]
        try:
            body = zlib.decompressobj().decompress(body, LONGEST_TEXT)
        except zlib.error:
            return
        yield from sweep(body, None)
    if name.startswith(b"Raw profile type"):
        for picture in in_exif(exif_of_text(body.decode("latin-1")), None):
            yield Embedded(picture.where, picture.data)


def mended(data: bytes, png: Png) -> bytes:
    """The same file with the checksums of its described chunks made right again."""
    out = bytearray(data)
    for _, start, end in png.chunks:
        if end + 4 <= len(out):
            out[end : end + 4] = zlib.crc32(out[start - 4 : end]).to_bytes(4, "big")
    return bytes(out)
