"""Files that are small and cost much: refused by what their structure counts, before anything is decoded."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Mapping

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.decode import decode
from nsfw_guard.imaging.limits import Budget, Limits
from tests.attacks.files import (
    BLUE,
    chunk,
    ifd,
    jpeg,
    png_text,
    saved,
    tiff,
    tiff_with_sub_image,
    with_chunk,
)
from tests.imaging.decode.files import saved as file_of


def scans(count: int, side: int = 64) -> bytes:
    data = jpeg(BLUE, size=(side, side), progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:-2] + data[at:-2] * count + b"\xff\xd9"


def pages(count: int) -> bytes:
    parts, at = [b"II*\0", struct.pack("<L", 8)], 8
    for index in range(count):
        at += 2 + 12 * 9 + 4
        tags = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 1)]
        parts += [struct.pack("<H", 9), *(struct.pack("<HHLL", tag, 3, 1, value) for tag, value in tags)]
        parts.append(struct.pack("<L", at if index + 1 < count else 0))
    return b"".join(parts)


def round_trip() -> bytes:
    """A sub-image that is the image itself."""
    data = tiff_with_sub_image(BLUE, BLUE)
    at = data.index(struct.pack("<HHL", 0x014A, 4, 1)) + 8
    return data[:at] + struct.pack("<L", 8) + data[at + 4 :]


def gif_pieces(count: int) -> bytes:
    """A comment of very many pieces of one byte before the image."""
    data = saved(BLUE, "GIF")
    at = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    return data[:at] + b"\x21\xfe" + b"\1 " * count + b"\0" + data[at:]


def gif_junk(count: int) -> bytes:
    data = saved(BLUE, "GIF")
    at = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    return data[:at] + bytes(count) + data[at:]


def webp_chunks(count: int) -> bytes:
    data = saved(BLUE, "WEBP", exif=b"Exif\0\0") + b"teSt\0\0\0\0" * count
    return data[:4] + struct.pack("<L", len(data) - 8) + data[8:]


def tiff_of_lists(pages: int, rows: Mapping[int, tuple[int, ...]], block: bytes) -> bytes:
    """A TIFF whose pages all hold these entries (tag: kind, count), all of them this one block (or a third number)."""
    entries = {row[0]: row for row in tiff(BLUE, 8)[0]} | {tag: (tag, *more, 8)[:4] for tag, more in rows.items()}
    first, step = 8 + len(block), 2 + 12 * len(entries) + 4
    directory = ifd([entries[tag] for tag in sorted(entries)])
    links = [first + step * (index + 1) for index in range(pages - 1)] + [0]
    return b"II*\0" + struct.pack("<L", first) + block + b"".join(directory + struct.pack("<L", at) for at in links)


def strips_over_each_other() -> bytes:
    """JPEG strips by the ten thousand, each of them the second half of the file, which ends as a JPEG does."""
    half, count = 1_500_000, 60_000
    rows = {0x0103: (3, 1, 7), 0x0111: (4, count), 0x0117: (4, count)}
    data = tiff_of_lists(1, rows, struct.pack("<L", half) * count)
    return data + bytes(2 * half - 2 - len(data)) + b"\xff\xd9"


def further_channels(count: int) -> bytes:
    """An image with alpha that says of itself that it has so many further channels."""
    data = saved((9, 9, 9, 255), "TIFF", mode="RGBA")
    at = data.index(struct.pack("<HHL", 0x0152, 3, 1))
    return data[:at] + struct.pack("<HHLL", 0x0152, 3, count, 2) + data[at + 12 :]


LISTS = dict.fromkeys((0x00FE, 0x0102, 0x011C, 0x0142, 0x0143, 0x0152), (3, 400_000))
OVER = "overlap"
BOMBS = {
    "further channels by the billion": (lambda: further_channels(900_000_000), "cannot be decoded"),
    "pages whose lists lie over each other": (lambda: tiff_of_lists(250, LISTS, b"\1\0" * 400_000), OVER),
    "private data that lie over each other": (
        lambda: tiff_of_lists(1, {40_000 + i: (7, 2_000_000) for i in range(4000)}, bytes(2_000_000)), OVER,
    ),
    "EXIF whose entries lie over each other": (
        lambda: with_chunk(
            b"eXIf", tiff_of_lists(1, {40_000 + i: (7, 2_000_000) for i in range(4000)}, bytes(2_000_000)),
            data=saved(BLUE, "PNG"),
        ), OVER,
    ),
    "strips by the million": (
        lambda: tiff_of_lists(1, {0x0117: (4, 1_200_000)}, bytes(4_800_000)), "entry of 1200000 numbers",
    ),
    "JPEG strips over each other": (strips_over_each_other, "."),
    "scans": (lambda: scans(200), r"more than 100 scans.*limits\.scans"),
    "scans of a large image": (lambda: scans(60, 5000), r"limits\.total_pixels"),
    "pages": (lambda: pages(50_000), r"more than 256 pages.*limits\.frames"),
    "pages that point back": (lambda: pages(3)[:-4] + struct.pack("<L", 8), "^$"),
    "chunks": (
        lambda: png_text(b"teSt", b"")[:-12] + chunk(b"teSt", b"") * 60_000, r"more than 50000 chunks.*limits\.chunks",
    ),
    "chunks of a WebP": (
        lambda: webp_chunks(60_000), r"more than 50000 chunks.*limits\.chunks",
    ),
    "junk between the blocks of a GIF": (lambda: gif_junk(1_100_000), "too many small blocks"),
    "pieces of a GIF": (lambda: gif_pieces(1_100_000), "too many small blocks"),
    "previews": (lambda: png_text(b"prVW", jpeg(size=(8, 8)) * 40), r"more than 16 embedded images.*limits\.embedded"),
    "sub-images that point at themselves": (round_trip, "^$"),
    "packed text": (lambda: png_text(b"zTXt", b"x\0\0" + zlib.compress(bytes(200_000_000))), "cannot be decoded"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # Pillow warns of some; where warnings are errors it stops there
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_at_once(name: str) -> None:
    make, why = BOMBS[name]
    data = make()
    start = time.process_time()
    if why == "^$":  # there is nothing wrong with what it shows: it ends, that is all
        assert len(decode(data).frames) >= 1
    else:
        with pytest.raises(DecodeError, match=why):
            decode(data)
    assert time.process_time() - start < 1.5


def test_an_animation_that_takes_too_long_is_stopped_on_the_way() -> None:
    frames = [Image.fromarray(np.random.default_rng(i).integers(0, 255, (400, 400, 3), np.uint8)) for i in range(12)]
    data = file_of(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert len(decode(data).frames) == 12
    with pytest.raises(DecodeError, match=r"takes more than 0\.01 s to decode.*limits\.seconds"):
        decode(data, limits=Limits(seconds=0.01))


def test_no_frame_is_begun_that_would_exceed_the_time_budget() -> None:
    budget = Budget(Limits(seconds=1.0))
    budget.spent, budget.frames = 0.6, 1
    with pytest.raises(DecodeError, match="takes more than 1 s"), budget.frame():
        raise AssertionError("a frame was begun that cannot be in time")
    budget.spent = 0.4
    with budget.frame():
        pass
    assert budget.frames == 2


def test_each_way_to_show_an_image_counts_as_work() -> None:
    clear = saved((9, 9, 9, 90), "PNG", mode="RGBA", size=(100, 100))
    assert len(decode(clear, limits=Limits(total_pixels=75_000)).frames) == 3
    with pytest.raises(DecodeError, match="counting each way"):
        decode(clear, limits=Limits(total_pixels=74_999))
