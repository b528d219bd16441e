"""Pictures inside a file's metadata: thumbnails in EXIF blocks and Photoshop resources, previews in texts and notes."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from PIL import Image

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.files.tiffs import Directory, directories

# A JPEG's first bytes and the markers that really follow them; the beginnings of PNG, GIF, WebP and AVIF.
SIGNATURES = re.compile(
    rb"\xff\xd8\xff+[\xc0-\xc2\xc4\xdb\xdd\xe0-\xef\xfe]|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|....ftypavi[fs]",
    re.DOTALL,
)
TEXTS = re.compile(rb"(?:/9j/|iVBORw0KGgo|R0lGOD[dl]h|UklGR)(?:[A-Za-z0-9+/=\s]|&#x?[0-9A-Fa-f]{1,3};){40,}")
BREAKS = re.compile(rb"\s|&#x?[0-9A-Fa-f]{1,3};")


@dataclass(frozen=True)
class Embedded:
    """A picture beside the picture: where it is, the file that it makes, and which bytes of the host file hold it.

    `spans` is empty where it cannot be taken out by itself; `fill` is what may stand in its place.
    """

    where: str
    data: bytes
    spans: tuple[tuple[int, int], ...] = ()
    fill: bytes = b"\0"


def sweep(block: bytes, start: int | None) -> Iterator[Embedded]:
    """Return whatever begins like a JPEG or PNG in a block of metadata, as bytes or as base64.

    `start` is where the block stands in its file, or None where it was put together or unpacked.
    """
    for match in SIGNATURES.finditer(block):
        end = _end(block, match.start())
        yield Embedded("picture in the metadata", block[match.start() : end], _moved(start, (match.start(), end)))
    for match in TEXTS.finditer(block):
        text = BREAKS.sub(b"", match[0]).rstrip(b"=")
        try:
            data = base64.b64decode(text[: len(text) // 4 * 4] + _tail(text))
        except binascii.Error:
            continue
        yield Embedded("picture in a text", data, _moved(start, match.span()), b"A")


def _tail(text: bytes) -> bytes:
    rest = text[len(text) // 4 * 4 :]
    return rest + b"=" * (4 - len(rest)) if len(rest) > 1 else b""


def _end(block: bytes, start: int) -> int:
    """Where a picture in a block ends at the latest: with the last end mark of its kind, else with the block."""
    if block[start : start + 1] == b"\x89":
        end = block.rfind(b"IEND", start)
        return end + 8 if end > 0 else len(block)
    if block[start : start + 1] != b"\xff":
        return len(block)
    end = block.rfind(b"\xff\xd9", start)
    return end + 2 if end > 0 else len(block)


def in_exif(block: bytes, start: int | None) -> Iterator[Embedded]:
    """Return the thumbnail of an EXIF block, and what its notes hold."""
    rest, link = bytearray(block), (0, 0)
    for index, directory in enumerate(directories(block)):
        offset, size = _within(block, directory.number(0x0201), directory.number(0x0202))
        if offset and size:
            # Not found again below; what lies behind its beginning still is.
            rest[offset : offset + 3] = bytes(len(rest[offset : offset + 3]))
            yield Embedded(
                "EXIF thumbnail", block[offset : offset + size], _moved(start, link, (offset, offset + size))
            )
        elif index:
            yield from _strips(block, start, directory, link)
        link = link if index else (directory.link, directory.link + 4)  # without it nobody looks for a thumbnail
    yield from sweep(bytes(rest), start)


def _within(block: bytes, offset: int, size: int) -> tuple[int, int]:
    """A place that a block declares, as far as it lies in the block: what is behind it is not the block's to name."""
    return offset, max(0, min(size, len(block) - offset))


def _moved(start: int | None, *spans: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    return () if start is None else tuple((start + low, start + high) for low, high in spans)


def _strips(block: bytes, start: int | None, directory: Directory, link: tuple[int, int]) -> Iterator[Embedded]:
    """An uncompressed thumbnail: RGB or grey in one strip. Another kind is refused where it has any data."""
    width, height = directory.number(0x0100), directory.number(0x0101)
    offset, size = _within(block, directory.number(0x0111), directory.number(0x0117))
    if not (width and height and offset and size):
        return
    channels, photometric = directory.number(0x0115, 1), directory.number(0x0106)
    if directory.number(0x0103, 1) != 1 or (channels, photometric) not in {(3, 2), (1, 1)}:
        raise DecodeError("its EXIF thumbnail is of an uncommon kind: save the picture without it")
    pixels = block[offset : offset + width * height * channels]
    spans = _moved(start, link, (offset, offset + size))
    yield Embedded("EXIF thumbnail", bitmap(pixels, width, height, channels), spans)


def raw_picture(where: str, pixels: bytes, width: int, height: int, span: tuple[int, int]) -> Iterator[Embedded]:
    """Return a thumbnail of bare RGB pixels, unless it is of no size."""
    if width and height:
        yield Embedded(where, bitmap(pixels, width, height, 3), (span,))


def bitmap(pixels: bytes, width: int, height: int, channels: int) -> bytes:
    """Return bare pixels, RGB or grey, as a file that the decoder takes."""
    size = width * height * channels
    if len(pixels) < size or width * height > 1_000_000:
        raise DecodeError("its thumbnail is cut off: save the picture without it")
    buffer = io.BytesIO()
    Image.frombytes("RGB" if channels == 3 else "L", (width, height), pixels[:size]).save(buffer, "BMP")
    return buffer.getvalue()


def exif_of_text(text: str) -> bytes:
    """Return the EXIF block of a "Raw profile type" text, as some programs write it into a PNG; nothing where it is
    none.
    """
    lines = text.strip().splitlines()
    try:
        raw = bytes.fromhex("".join(lines[2:]))
    except ValueError:
        return b""
    return raw[6:] if raw.startswith(b"Exif\0\0") else raw


def blanked(data: bytes, pictures: Iterable[Embedded]) -> bytes:
    """Return the same file with something empty in place of those pictures."""
    out = bytearray(data)
    for picture in pictures:
        for low, high in picture.spans:
            stop = min(high, len(out))
            out[low:stop] = picture.fill * max(0, stop - low)
    return bytes(out)
