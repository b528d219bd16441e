"""The pages of a TIFF file, from its directories: their parts, missing data and embedded images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.files import tiffs
from nsfw_guard.imaging.files.metadata import Embedded, sweep

MAX_TILES, MAX_TILE_PIXELS = 20_000, 1 << 24  # tiles of a page, and pixels of one
MAX_TRAILING_ZEROS = 64  # behind the end mark of a strip or tile
PACKING = 0x0103
EXTRA_SAMPLES = 0x0152
SUB_DIRECTORIES = 0x014A
TIFF_METADATA = (0x02BC, 0x83BB, 0x8649, 0x8769, 0xC634, 0xC7D8)  # XMP, IPTC, Photoshop, EXIF, private data


def read(data: bytes, *, most: int) -> list[tiffs.Directory]:
    """Return the pages of a TIFF file.

    Raises:
        DecodeError: there are more than `most`, none can be read, or the tiles of one are too large.
    """
    pages = list(itertools.islice(tiffs.directories(data, most=most), most + 1))
    if len(pages) > most:
        raise DecodeError(f"more than {most} pages: split it, or raise limits.frames")
    if not pages:
        raise DecodeError("a TIFF whose first directory cannot be read: save it again")
    if any(page.number(0x0142) * page.number(0x0143) > MAX_TILE_PIXELS for page in pages):
        raise DecodeError("the tiles of the TIFF are too large: save it again with smaller tiles")
    return pages


def corners(page: tiffs.Directory) -> tuple[tuple[int, int], ...]:
    """Return the lower right corner of each strip or tile of a page, within the image."""
    width, height = page.number(0x0100), page.number(0x0101)
    across, down = page.number(0x0142, width), page.number(0x0143) or page.number(0x0116, height)
    if not (across > 0 and down > 0 and width * height):
        return ()
    columns, rows = -(-width // across), -(-height // min(down, height))
    if columns * rows > MAX_TILES:
        raise DecodeError(f"more than {MAX_TILES} tiles: save it again with fewer tiles")
    return tuple(
        (min((x + 1) * across, width), min((y + 1) * down, height)) for y in range(rows) for x in range(columns)
    )


def lacks_strips(page: tiffs.Directory) -> bool:
    """Return whether a page lists fewer strips or tiles, or fewer bytes in plain strips, than its size takes."""
    width, height, planes = page.number(0x0100), page.number(0x0101), 1
    samples = page.number(0x0115, 1)
    if page.number(0x011C, 1) == 2:
        planes = samples
    if 0x0144 in page.entries:
        across, down = page.number(0x0142), page.number(0x0143)
        wanted = -(-width // max(1, across)) * -(-height // max(1, down)) * planes
        return page.entries[0x0144].count < wanted
    rows = min(page.number(0x0116, height) or height, height)
    strips = page.entries.get(0x0111)
    if strips is None or strips.count < -(-height // max(1, rows)) * planes:
        return True
    bits = page.number(0x0102, 1) * (samples if planes == 1 else 1)
    sizes = page.entries.get(0x0117)
    plain = page.number(PACKING, 1) == 1 and sizes is not None
    return plain and sizes is not None and sum(sizes.numbers()) < height * -(-width * bits // 8) * planes


def ends_whole(data: bytes, page: tiffs.Directory) -> bool:
    """Return whether each JPEG in a page ends with its end mark and at most a few zeros after it."""
    tags = (0x0144, 0x0145) if 0x0144 in page.entries else (0x0111, 0x0117)
    offsets, sizes = (page.entries[tag].numbers() if tag in page.entries else [] for tag in tags)
    ends = (data[max(a, a + n - MAX_TRAILING_ZEROS) : a + n] for a, n in zip(offsets, sizes, strict=False))
    return all(end.rstrip(b"\0").endswith(b"\xff\xd9") for end in ends)


def embedded(data: bytes, pages: list[tiffs.Directory]) -> Iterator[Embedded]:
    """Yield images in sub-directories (some viewer shows each of them), old-style JPEGs and those in metadata."""
    seen = {page.at for page in pages}
    places: set[tuple[int, int]] = set()
    swept = 0
    layout = tiffs.Layout.of(data)
    queue = list(pages)
    while queue and layout:
        page = queue.pop(0)
        for at in _sub_directories(page):
            if at not in seen:
                seen.add(at)
                yield Embedded("sub-image of a TIFF file", tiffs.pointing_to(data, at))
                inner = layout.read(data, at)
                if inner is not None:
                    queue.append(inner)
        offset, size = page.number(0x0201), page.number(0x0202)
        if offset and size and (offset, size) not in places:
            places.add((offset, size))
            yield Embedded("JPEG thumbnail of a TIFF file", data[offset : offset + size])
        for value in (page.entries[tag] for tag in TIFF_METADATA if tag in page.entries):
            if (value.at, value.size) not in places:
                places.add((value.at, value.size))
                swept += len(value.data)
                if swept > 2 * len(data):
                    raise DecodeError("a TIFF whose metadata overlap: save it again")
                yield from sweep(value.data, None)
        if (extra := page.entries.get(EXTRA_SAMPLES)) is not None and set(extra.numbers()) & {0, 1}:
            # Some viewers use a further channel as transparency although it is declared not to be, or ignore it.
            yield Embedded("TIFF with its further channel as transparency", _with_alpha(data, page.at, extra))


def _with_alpha(data: bytes, at: int, extra: tiffs.Value) -> bytes:
    """The file with this page first and its further channels declared as unassociated transparency."""
    width = extra.size // max(1, extra.count)
    value = (2).to_bytes(width, "little" if extra.order == "<" else "big") * extra.count
    changed = data[: extra.at] + value + data[extra.at + extra.size :]
    return tiffs.pointing_to(changed, at)


def _sub_directories(page: tiffs.Directory) -> list[int]:
    value = page.entries.get(SUB_DIRECTORIES)
    if value is None:
        return []
    if not value.numbers():
        raise DecodeError("its sub-images cannot be found: save it again")
    return value.numbers()
