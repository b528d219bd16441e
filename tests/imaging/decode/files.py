"""Images and files, made in code."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import PIL
from PIL import Image

from nsfw_guard.imaging.decode import Decoded, decode
from nsfw_guard.imaging.files.formats import FORMATS

RED, BLUE = (255, 0, 0), (0, 0, 255)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def one(source: Any, **options: Any) -> np.ndarray:
    decoded = decode(source, **options)
    assert len(decoded.frames) == 1
    assert decoded.partial == ""
    return decoded.frames[0]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes = b"", *, depth: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def flat(colour: tuple[int, ...], size: tuple[int, int] = (8, 6), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, colour)


def shows(decoded: Decoded, colour: tuple[int, int, int], tolerance: int = 0) -> bool:
    return any((np.abs(f.astype(int) - colour).max(axis=-1) <= tolerance).any() for f in decoded.frames)


def drawn(mode: str, ground: tuple[int, ...], mark: tuple[int, ...]) -> Image.Image:
    image = Image.new(mode, (8, 8), ground)
    image.paste(mark, (2, 2, 4, 4))
    return image


def moving(frames: list[Image.Image], kind: str) -> bytes:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "AVIF" else {}
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    return mended(data, len(frames)) if kind == "MPO" else data


def mended(mpo: bytes, count: int) -> bytes:
    """Pillow writes wrong sizes from the third image of an MPO on."""
    starts = [at for at in range(len(mpo)) if mpo[at : at + 3] == b"\xff\xd8\xff"]
    assert len(starts) == count
    origin = mpo.index(b"MPF\0") + 4
    table = mpo.index(struct.pack("<LLL", 0x030000, starts[1], 0))
    for i, (start, end) in enumerate(zip(starts, [*starts[1:], len(mpo)], strict=True)):
        entry = struct.pack("<LLLHH", 0 if i else 0x030000, end - start, start - origin if i else 0, 0, 0)
        mpo = mpo[: table + 16 * i] + entry + mpo[table + 16 * i + 16 :]
    return mpo


def animation(kind: str, count: int = 6, at: int = 5) -> bytes:
    frames = [flat((27 * i % 200, 10, 200)) for i in range(count)]
    frames[at] = flat(RED)
    return moving(frames, kind)


# Pillow before 10 writes MPO files of several images that it cannot read itself.
MPO = ("MPO",) if int(PIL.__version__.split(".")[0]) >= 10 else ()
ANIMATED = [k for k in ("GIF", "WEBP", "PNG", "TIFF", "MPO", "AVIF") if k in (*FORMATS, *MPO)]


def arrow() -> Image.Image:
    image = Image.new("RGB", (6, 4), (10, 20, 30))
    image.putpixel((0, 0), RED)
    image.putpixel((5, 0), BLUE)
    return image
