"""Images inside a file's metadata: thumbnails in EXIF blocks and Photoshop resources, previews in texts and notes."""

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
    """An embedded image: a name for its place, its file, and the bytes of the host file that hold it.

    `spans` is empty where it cannot be removed by itself; `fill` is a byte that may replace it.
    """

    where: str
    data: bytes
    spans: tuple[tuple[int, int], ...] = ()
    fill: bytes = b"\0"


def sweep(block: bytes, start: int | None) -> Iterator[Embedded]:
    """Yield everything in a block of metadata that begins like an image file, as bytes or as base64.

    `start` is the place of the block in its file, or None where it was assembled or unpacked.
    """
    for match in SIGNATURES.finditer(block):
        end = _end(block, match.start())
        yield Embedded("image in the metadata", block[match.start() : end], _moved(start, (match.start(), end)))
    for match in TEXTS.finditer(block):
        text = BREAKS.sub(b"", match[0]).rstrip(b"=")
        try:
            data = base64.b64decode(text[: len(text) // 4 * 4] + _tail(text))
        except binascii.Error:
            continue
        yield Embedded("image in a text", data, _moved(start, match.span()), b"A")


def _tail(text: bytes) -> bytes:
    rest = text[len(text) // 4 * 4 :]
    return rest + b"=" * (4 - len(rest)) if len(rest) > 1 else b""


def _end(block: bytes, start: int) -> int:
    """The last possible end of an image in a block: the last end mark of its format, else the end of the block."""
    if block[start : start + 1] == b"\x89":
        end = block.rfind(b"IEND", start)
        return end + 8 if end > 0 else len(block)
    if block[start : start + 1] != b"\xff":
        return len(block)
    end = block.rfind(b"\xff\xd9", start)
    return end + 2 if end > 0 else len(block)


def in_exif(block: bytes, start: int | None) -> Iterator[Embedded]:
    """Yield the thumbnail of an EXIF block and the images in its notes."""
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
    """A place that a block declares, cut off at the end of the block."""
    return offset, max(0, min(size, len(block) - offset))


def _moved(start: int | None, *spans: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    return () if start is None else tuple((start + low, start + high) for low, high in spans)


def _strips(block: bytes, start: int | None, directory: Directory, link: tuple[int, int]) -> Iterator[Embedded]:
    """An uncompressed thumbnail: RGB or grey in one strip. Any other kind that has data is refused."""
    width, height = directory.number(0x0100), directory.number(0x0101)
    offset, size = _within(block, directory.number(0x0111), directory.number(0x0117))
    if not (width and height and offset and size):
        return
    channels, photometric = directory.number(0x0115, 1), directory.number(0x0106)
    if directory.number(0x0103, 1) != 1 or (channels, photometric) not in {(3, 2), (1, 1)}:
        raise DecodeError("its EXIF thumbnail has an unsupported format: save the image without it")
    pixels = block[offset : offset + width * height * channels]
    spans = _moved(start, link, (offset, offset + size))
    yield Embedded("EXIF thumbnail", bitmap(pixels, width, height, channels), spans)


def raw_image(where: str, pixels: bytes, width: int, height: int, span: tuple[int, int]) -> Iterator[Embedded]:
    """Yield a thumbnail of bare RGB pixels, unless it is empty."""
    if width and height:
        yield Embedded(where, bitmap(pixels, width, height, 3), (span,))


def bitmap(pixels: bytes, width: int, height: int, channels: int) -> bytes:
    """Return bare pixels, RGB or grey, as an image file."""
    size = width * height * channels
    if len(pixels) < size or width * height > 1_000_000:
        raise DecodeError("its thumbnail is truncated: save the image without it")
    buffer = io.BytesIO()
    Image.frombytes("RGB" if channels == 3 else "L", (width, height), pixels[:size]).save(buffer, "BMP")
    return buffer.getvalue()


def exif_of_text(text: str) -> bytes:
    """Return the EXIF block of a "Raw profile type" text, as some programs write it into a PNG; else nothing."""
    lines = text.strip().splitlines()
    try:
        raw = bytes.fromhex("".join(lines[2:]))
    except ValueError:
        return b""
    return raw[6:] if raw.startswith(b"Exif\0\0") else raw


def blanked(data: bytes, images: Iterable[Embedded]) -> bytes:
    """Return the file with those images overwritten."""
    out = bytearray(data)
    for image in images:
        for low, high in image.spans:
            stop = min(high, len(out))
            out[low:stop] = image.fill * max(0, stop - low)
    return bytes(out)
