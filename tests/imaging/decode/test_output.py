"""What decoding gives: the exact pixels, memory of its own, from every kind of source."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.imaging.decode import decode
from nsfw_guard.imaging.files.formats import FORMATS
from tests.imaging.decode.files import noise, one, saved


@pytest.mark.parametrize("kind", [k for k in ("PNG", "WEBP", "BMP", "TIFF", "GIF") if k in FORMATS])
def test_lossless_formats_give_the_exact_pixels(kind: str) -> None:
    pixels = noise(9, 7, 3) if kind != "GIF" else np.repeat(noise(9, 7, 1), 3, axis=2)
    options = {"lossless": True} if kind == "WEBP" else {}
    image = Image.fromarray(pixels) if kind != "GIF" else Image.fromarray(pixels[:, :, 0])
    np.testing.assert_array_equal(one(saved(image, kind, **options)), pixels)


@pytest.mark.parametrize("kind", [k for k in ("JPEG", "AVIF") if k in FORMATS])
def test_lossy_formats_give_what_pillow_gives(kind: str) -> None:
    data = saved(Image.fromarray(noise(16, 24, 3)), kind)
    np.testing.assert_array_equal(one(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_a_frame_is_contiguous_uint8_memory_of_its_own() -> None:
    pixels = noise(5, 4, 3)
    for source in (pixels, Image.fromarray(pixels), saved(Image.fromarray(pixels))):
        frame = one(source)
        assert (frame.dtype, frame.shape, frame.flags.c_contiguous) == (np.uint8, (5, 4, 3), True)
        assert frame.flags.writeable
        assert not np.shares_memory(frame, pixels)


def test_every_kind_of_source_gives_the_same_frame(tmp_path: Path) -> None:
    image = Image.fromarray(noise(5, 4, 3))
    data, path = saved(image), tmp_path / "a.png"
    path.write_bytes(data)
    expected = np.asarray(image)
    for source in (str(path), path, data, bytearray(data), memoryview(data), io.BytesIO(data), image, expected):
        np.testing.assert_array_equal(one(source), expected)
    with open(path, "rb", buffering=0) as raw:
        np.testing.assert_array_equal(one(raw), expected)


def test_bytes_after_the_end_change_nothing() -> None:
    image = Image.fromarray(noise(8, 8, 3))
    for kind in FORMATS:
        data = saved(image, kind)
        np.testing.assert_array_equal(decode(data + b"PK\x03\x04" + b"tail" * 50).frames[0], decode(data).frames[0])
