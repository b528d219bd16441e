"""Files that players, browsers and Pillow would not show alike, made here."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from nsfw_guard.imaging.files import avif
from tests.attacks import files as make
from tests.attacks.files import BLUE, DARK, RED, WHITE, jpeg, saved
from tests.imaging.decode.files import saved as file_of

SIDE = 64
PALETTE = (DARK, RED, WHITE, BLUE)


def gif_frame(box: tuple[int, int, int, int], levels: Any, disposal: int, clear: int | None = None) -> bytes:
    """One frame with its control block. `box`: left, top, width, height; `levels`: places in the palette."""
    control = bytes(((disposal << 2) | (clear is not None), 5, 0, clear or 0))
    filled = np.broadcast_to(levels, (box[3], box[2]))
    return b"\x21\xf9\x04" + control + b"\0\x2c" + struct.pack("<HHHHB", *box, 0) + _lzw(filled.reshape(-1))


def _lzw(levels: Sequence[int]) -> bytes:
    """Codes of three bits that never grow: the table is cleared after every other one."""
    codes = [4] + [code for level in levels for code in (int(level), 4)] + [5]
    bits = sum(code << 3 * place for place, code in enumerate(codes))
    packed = bits.to_bytes(-(-3 * len(codes) // 8), "little")
    blocks = (packed[at : at + 255] for at in range(0, len(packed), 255))
    return b"\2" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def gif(*frames: bytes, side: int = SIDE) -> bytes:
    """A GIF of these frames, on a ground of dark grey."""
    colours = b"".join(bytes(colour) for colour in PALETTE)
    return b"GIF89a" + struct.pack("<HHBBB", side, side, 0xF1, 0, 0) + colours + b"".join(frames) + b";"


def sliced_gif(disposal: int) -> bytes:
    """An image that becomes red slice by slice where each is kept, behind a frame that is taken back."""
    step = SIDE // 4
    slices = [gif_frame((0, top, SIDE, step), 1, disposal) for top in range(0, SIDE, step)]
    return gif(gif_frame((0, 0, SIDE, SIDE), 3, 1), gif_frame((0, 0, 1, 1), 0, 3), *slices)


def gif_hole(disposal: int) -> bytes:
    """An image that is clear but for its rim, where players put nothing: white on a white page."""
    inner = (2, 2, SIDE - 4, SIDE - 4)
    return gif(gif_frame((0, 0, SIDE, 2), 0, 1), gif_frame(inner, 3, disposal), gif_frame((0, 0, 1, 1), 0, 1))


def apng(frames: Sequence[tuple[tuple[int, int, int, int], Sequence[int], int, int]], *, counted: int = 0) -> bytes:
    """An APNG. Each frame: its box, its colour (RGBA), its disposal and its blending."""
    body, number = b"", 0
    for index, (box, colour, disposal, blend) in enumerate(frames):
        left, top, width, height = box
        rows = zlib.compress((b"\0" + bytes(colour) * width) * height)
        control = struct.pack(">5L2H2B", number, width, height, left, top, 1, 10, disposal, blend)
        body += make.chunk(b"fcTL", control)
        number += 1
        body += make.chunk(b"fdAT", struct.pack(">L", number) + rows) if index else make.chunk(b"IDAT", rows)
        number += bool(index)
    head = make.chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 6, 0, 0, 0))
    acts = make.chunk(b"acTL", struct.pack(">LL", counted or len(frames), 0))
    return make.PNG + head + acts + body + make.chunk(b"IEND", b"")


def sliced_apng() -> bytes:
    """Red slices, each kept, behind a small frame that is to be taken back."""
    step = SIDE // 4
    whole, dot = (0, 0, SIDE, SIDE), (0, 0, 1, 1)
    red = [((0, top, SIDE, step), (*RED, 255), 0, 1) for top in range(0, SIDE, step)]
    return apng([(whole, (*BLUE, 255), 0, 0), (dot, (*DARK, 255), 2, 1), *red])


def small_grey(depth: int) -> bytes:
    """A grey PNG of few bits whose square is of the level that is clear."""
    most = (1 << depth) - 1
    levels = np.full((SIDE, SIDE), most // 2 + 1 if depth > 1 else 1)
    levels[4:-4, 4:-4] = clear = most // 2
    bits = np.unpackbits(levels.astype(np.uint8)[..., None], axis=2)[..., 8 - depth :].reshape(SIDE, -1)
    rows = zlib.compress(b"".join(b"\0" + np.packbits(row).tobytes() for row in bits))
    head = struct.pack(">IIBBBBB", SIDE, SIDE, depth, 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"tRNS", struct.pack(">H", clear)), (b"IDAT", rows), (b"IEND", b""))
    return make.PNG + b"".join(make.chunk(*part) for part in parts)


def avif_still(colour: Sequence[int]) -> bytes:
    """A blue sequence whose still image, shown by readers that know no sequences, is of another colour."""
    blue, other = (_sequence(one) for one in (BLUE, colour))
    (place,) = avif.read(other).places[avif.read(other).primary]
    data = other[slice(*place)]
    ((low, high),) = avif.read(blue).places[avif.read(blue).primary]
    at = blue.index(struct.pack(">LL", low, high - low))
    moved = struct.pack(">LL", len(blue) + 8, len(data))
    return blue[:at] + moved + blue[at + 8 :] + struct.pack(">L4s", len(data) + 8, b"mdat") + data


def _sequence(colour: Sequence[int]) -> bytes:
    frames = [Image.new("RGB", (64, 48), one) for one in (tuple(colour), BLUE, (0, 0, 200))]
    return file_of(frames[0], "AVIF", save_all=True, append_images=frames[1:], quality=95)


def avif_cropped() -> bytes:
    """A plain AVIF with a property that crops it."""
    data = saved(BLUE, "AVIF")
    assert data.count(b"pixi") == 1
    return data.replace(b"pixi", b"clap")


def avif_with_item(kind: bytes) -> bytes:
    """An AVIF that holds an item of some kind beside its image."""
    data = saved(BLUE, "AVIF", exif=b"Exif\0\0" + make.bare_exif(BLUE))
    at = data.index(b"Exif", data.index(b"infe"))
    return data[:at] + kind + data[at + 4 :]


def avif_tracks() -> bytes:
    """A sequence with a second track."""
    data = _sequence(BLUE)
    start, end = next((low, high) for kind, low, high in avif.boxes(data, 0, len(data)) if kind == b"moov")
    track = next(data[low - 8 : high] for kind, low, high in avif.boxes(data, start, end) if kind == b"trak")
    size = struct.pack(">L", end - start + 8 + len(track))
    return data[: start - 8] + size + data[start - 4 : end] + track + data[end:]


def tiff_with_extra(extra: int, colour: Sequence[int], fourth: int) -> bytes:
    """An RGB TIFF with a fourth channel that it calls this."""
    data = file_of(Image.new("RGBA", (SIDE, SIDE), (*colour, fourth)), "TIFF")
    at = data.index(struct.pack("<HHLL", 0x0152, 3, 1, 2))
    return data[: at + 8] + struct.pack("<L", extra) + data[at + 12 :]


def tiff_of_few_strips() -> bytes:
    """A plain TIFF of four strips that lists the first one only."""
    data = bytearray(file_of(Image.new("RGB", (SIDE, SIDE), RED), "TIFF", tiffinfo={278: SIDE // 4}))
    for tag in (0x0111, 0x0117):
        at = data.index(struct.pack("<HH", tag, 4))
        (place,) = struct.unpack("<L", data[at + 8 : at + 12])
        data[at + 4 : at + 12] = struct.pack("<L", 1) + data[place : place + 4]
    return bytes(data)


def tiff_of_large_tiles() -> bytes:
    """A TIFF of 64 x 64 whose one tile is a thousand times as large."""
    rows = [(0x100, 4, 1, 64), (0x101, 4, 1, 64), (0x102, 3, 1, 8), (0x103, 3, 1, 8), (0x106, 3, 1, 1),
            (0x115, 3, 1, 1), (0x142, 4, 1, 5000), (0x143, 4, 1, 5000), (0x144, 4, 1, 200),
            (0x145, 4, 1, 20)]  # fmt: skip
    return (b"II*\0\x08\0\0\0" + make.ifd(rows) + bytes(4)).ljust(300, b"\0")


def with_pieces(order: Sequence[tuple[int, int]], *, late: bool = False) -> bytes:
    """A JPEG with a colour profile in pieces of these numbers and counts."""
    profile, data = make.wild_between(), jpeg()
    size = -(-len(profile) // len(order))
    for index, (number, count) in reversed(list(enumerate(order))):
        body = b"ICC_PROFILE\0" + bytes((number, count)) + profile[index * size : (index + 1) * size]
        at = data.index(b"\xff\xda") if late else 2
        data = data[:at] + make.segment(0xE2, body) + data[at:]
    return data


def damaged_profile() -> bytes:
    """A PNG whose packed profile has a wrong sum at its end."""
    packed = bytearray(zlib.compress(make.wild_between()))
    packed[-1] ^= 1
    return make.with_chunk(b"iCCP", b"x\0\0" + bytes(packed), data=saved(BLUE, "PNG"))


def changed_profile(at: int, new: bytes) -> bytes:
    """A JPEG whose profile is changed so that LittleCMS does not take it, or not as others do."""
    profile = make.wild_between()
    return jpeg(icc_profile=profile[:at] + new + profile[at + len(new) :])


def overlapping_mpo(count: int) -> bytes:
    """A JPEG whose index names the same further image again and again."""
    rows = b"".join(struct.pack("<LLLHH", 0, 100, 40, 0, 0) for _ in range(count))
    index = struct.pack("<H", 1) + struct.pack("<HHLL", 0xB002, 7, len(rows), 26) + bytes(4)
    return make.with_segment(0xE2, b"MPF\0II*\0\x08\0\0\0" + index + rows)


def texts(count: int) -> bytes:
    """A PNG of so many packed texts, each of a megabyte."""
    data = saved(BLUE, "PNG")
    for _ in range(count):
        data = make.with_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20)), data=data)
    return data


def bmp_16() -> bytes:
    """A BMP of 16 bits that has bits for transparency."""
    masks = struct.pack("<4L", 0x7C00, 0x03E0, 0x001F, 0x8000)
    head = struct.pack("<LllHHLLllLL", 108, 8, 8, 1, 16, 3, 128, 0, 0, 0, 0) + masks + b"BGRs"
    return b"BM" + struct.pack("<LLL", 14 + 108 + 128, 0, 122) + head.ljust(108, b"\0") + bytes(128)


def bmp_rle() -> bytes:
    """A BMP of 8 bits whose pixels are packed, most of them skipped."""
    head = struct.pack("<LllHHLLllLL", 40, 8, 8, 1, 8, 1, 6, 0, 0, 2, 0)
    colours = bytes((255, 255, 255, 0, 0, 0, 0, 0))
    return b"BM" + struct.pack("<LLL", 68, 0, 62) + head + colours + b"\0\2\4\4\0\1"
