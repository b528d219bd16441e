"""The chunks of a PNG: their number, the colours and frames that they declare, and the images in them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.files.colour import LARGEST_PROFILE, cicp_profile, gamma_profile
from nsfw_guard.imaging.files.metadata import Embedded, exif_of_text, in_exif, sweep
from nsfw_guard.imaging.files.moving import Disposal, Piece

START = b"\x89PNG\r\n\x1a\n"
KNOWN = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"fdAT", b"fcTL", b"acTL", b"tRNS", b"iCCP"}
SHARED = {b"PLTE", b"tRNS"}  # apply to every frame of an APNG
# Chunks that may occur once: readers would not agree on which of two counts.
ONCE = {b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"gAMA", b"cHRM", b"cICP", b"sRGB", b"sBIT", b"bKGD", b"hIST", b"pHYs",
        b"eXIf", b"mDCV", b"cLLI", b"acTL"}  # fmt: skip
DISPOSALS = {0: Disposal.KEEP, 1: Disposal.CLEAR, 2: Disposal.RESTORE}
LONGEST_TEXT, MOST_TEXT = 1 << 20, 16 << 20  # bytes of an unpacked text, Pillow's own limit, and of all of them


@dataclass
class Png:
    """The structure of a PNG file: its chunks other than pixels, each frame's size and pixels, and its end."""

    chunks: list[tuple[bytes, int, int]] = field(default_factory=list)
    header: tuple[int, int, int, int, bool] = (0, 0, 8, 0, False)  # width, height, depth, colour type, interlaced
    pixels: list[tuple[tuple[int, int], list[tuple[int, int]]]] = field(default_factory=list)
    counted: int = 0
    frames: int = 0
    shared: list[bytes] = field(default_factory=list)
    controls: list[bytes] = field(default_factory=list)
    end: int = 0


def read(data: bytes, *, most_chunks: int) -> Png:
    """Return the chunks of a PNG file.

    Raises:
        DecodeError: there are more of them than that, or two of a kind that may occur only once.
    """
    png, at, count = Png(end=len(data)), len(START), 0
    seen: set[bytes] = set()
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        start, at, count = at + 8, at + 12 + length, count + 1
        if count > most_chunks:
            raise DecodeError(f"more than {most_chunks} chunks: save it again, or raise limits.chunks")
        _pixels(png, kind, data[start : start + 26], (start, min(start + length, len(data))))
        if kind == b"acTL":
            png.counted = max(png.counted, int.from_bytes(data[start : start + 4], "big"))
        if kind in ONCE and kind in seen:
            raise DecodeError(f"its chunk {kind.decode()} occurs twice: save it again")
        seen.add(kind)
        png.frames += kind == b"fcTL" or (kind == b"IDAT" and not png.frames)  # a default image of its own counts
        if kind == b"iCCP" and not _is_packed_whole(data[start : start + length]):
            raise DecodeError("its colour profile is damaged: save the image without it")
        if kind in SHARED:
            png.shared.append(data[start - 8 : at])
        if kind not in KNOWN:
            png.chunks.append((kind, start, min(start + length, len(data))))
        if kind == b"IEND":
            png.end = min(at, len(data))
            break
    return png


def _pixels(png: Png, kind: bytes, body: bytes, place: tuple[int, int]) -> None:
    """Record the places of each frame's pixels."""
    if kind == b"IHDR" and len(body) >= 13:
        width, height, depth, colour, _, _, interlaced = struct.unpack(">LLBBBBB", body[:13])
        png.header = width, height, depth, colour, bool(interlaced)
    elif kind == b"fcTL" and len(body) >= 12:
        png.controls.append(body)
        png.pixels.append((struct.unpack(">LL", body[4:12]), []))
    elif kind == b"IDAT":
        if not png.pixels:
            png.pixels.append((png.header[:2], []))
        png.pixels[-1][1].append(place)
    elif kind == b"fdAT" and png.pixels:
        png.pixels[-1][1].append((place[0] + 4, place[1]))


def _is_packed_whole(body: bytes) -> bool:
    """Whether a chunk of a name and packed bytes can be unpacked to its end."""
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(body.partition(b"\0")[2][1:], LARGEST_PROFILE)
    except zlib.error:
        return False
    return unpacker.eof or bool(unpacker.unconsumed_tail)  # what is larger is refused for its size


def clear_level(data: bytes, png: Png) -> int | None:
    """Return the transparent level of a grey image of 1, 2 or 4 bits, in 8 bits: Pillow widens only the pixels."""
    _, _, depth, colour, _ = png.header
    named = [chunk for chunk in png.shared if chunk[4:8] == b"tRNS"]
    if colour != 0 or depth >= 8 or not named:
        return None
    most = (1 << depth) - 1
    return (int.from_bytes(named[0][8:10], "big") & most) * 255 // most


def pieces(data: bytes, png: Png) -> list[Piece]:
    """Return each frame of an APNG as a separate file, and where it is drawn.

    Raises:
        DecodeError: a frame exceeds the canvas, or has an unknown disposal or blending.
    """
    placed = []
    frames = png.pixels[len(png.pixels) - len(png.controls) :]  # not a default image that is none of them
    for control, ((width, height), places) in zip(png.controls, frames, strict=True):
        if len(control) < 26 or control[24] not in DISPOSALS or control[25] > 1:
            raise DecodeError("a frame with an unknown disposal or blending: save it again")
        left, top = struct.unpack(">LL", control[12:20])
        if not (width and height and left + width <= png.header[0] and top + height <= png.header[1]):
            raise DecodeError("a frame that exceeds the canvas: save it again")
        placed.append(
            Piece(
                file=lambda size=(width, height), places=places: _alone(data, png, size, places),  # type: ignore[misc]
                left=left,
                top=top,
                width=width,
                height=height,
                disposal=DISPOSALS[control[24]],
                over=control[25] == 1,
            )
        )
    return placed


def _alone(data: bytes, png: Png, size: tuple[int, int], places: Sequence[tuple[int, int]]) -> bytes:
    """One frame as a separate PNG."""
    _, _, depth, colour, interlaced = png.header
    header = struct.pack(">LLBBBBB", *size, depth, colour, 0, 0, interlaced)
    pixels = b"".join(data[low:high] for low, high in places)
    return START + _chunk(b"IHDR", header) + b"".join(png.shared) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))


def lacks_pixels(data: bytes, png: Png) -> bool:
    """Return whether a frame lacks pixel data. Pillow leaves the missing rows black without an error."""
    _, _, depth, colour, interlaced = png.header
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
    for (width, height), places in png.pixels:
        if places and not _unpacks_to(_rows(width, height, bits, interlaced), (data[a:b] for a, b in places)):
            return True
    return False


def _rows(width: int, height: int, bits: int, interlaced: bool) -> int:
    """Size in bytes of the rows of a frame, each with its filter byte."""
    passes = [(width, height)]
    if interlaced:
        steps = ((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2))
        passes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, dx, y, dy in steps]
    return sum(max(0, rows) * (1 + (columns * bits + 7) // 8) for columns, rows in passes if columns > 0)


def _unpacks_to(size: int, parts: Iterator[bytes]) -> bool:
    unpacker, count = zlib.decompressobj(), 0
    for part in parts:
        left = part
        while left and count < size and not unpacker.eof:
            count += len(unpacker.decompress(left, 1 << 20))
            left = unpacker.unconsumed_tail
    return count >= size


def profiles(data: bytes, png: Png) -> Iterator[bytes]:
    """Yield the colours that its chunks declare, each as a profile: cICP, and gAMA with cHRM.

    By the standard the first of cICP, iCCP, sRGB and gAMA counts. Viewers that know fewer of them follow a later one,
    so each is returned.
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
    """Yield the images in its EXIF blocks, its texts and in unknown chunks."""
    unpacked = 0
    for kind, start, end in png.chunks:
        block = data[start:end]
        if kind == b"eXIf":
            yield from in_exif(block[6:] if block.startswith(b"Exif\0\0") else block, start)
        elif kind in {b"zTXt", b"iTXt", b"tEXt"}:
            name, text = _unpacked(kind, block)
            unpacked += len(text or b"")
            if unpacked > MOST_TEXT:
                raise DecodeError(f"more than {MOST_TEXT >> 20} MB of texts: save the image without them")
            yield from sweep(block if text is None else text, start if text is None else None)
            if name.startswith(b"Raw profile type"):
                body = block.partition(b"\0")[2] if text is None else text
                for image in in_exif(exif_of_text(body.decode("latin-1")), None):
                    yield Embedded(image.where, image.data)
        else:
            yield from sweep(block, start)


def _unpacked(kind: bytes, block: bytes) -> tuple[bytes, bytes | None]:
    """The name of a text and its unpacked content: None where it is not packed, empty where it cannot be unpacked."""
    name, _, rest = block.partition(b"\0")
    if not (kind == b"zTXt" or (kind == b"iTXt" and rest[:1] == b"\1")):
        return name, None
    body = rest[1:] if kind == b"zTXt" else rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    try:
        return name, zlib.decompressobj().decompress(body, LONGEST_TEXT)
    except zlib.error:
        return name, b""


def mended(data: bytes, png: Png) -> bytes:
    """Return the file with the checksums of its chunks corrected."""
    out = bytearray(data)
    for _, start, end in png.chunks:
        if end + 4 <= len(out):
            out[end : end + 4] = zlib.crc32(out[start - 4 : end]).to_bytes(4, "big")
    return bytes(out)
