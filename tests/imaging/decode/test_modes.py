"""Every mode of a file is its RGB twin."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageCms

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.decode import decode
from tests.imaging.decode.files import RED, flat, noise, one, png, saved


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "RGBA", "RGBa", "LA", "La", "PA"]
)
def test_each_mode_is_its_rgb_twin(mode: str) -> None:
    rgb = Image.fromarray(noise(6, 5, 3))
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(rgb, *profiles, outputMode="LAB")
        assert image is not None
    elif mode == "La":
        image = rgb.convert("LA").convert("La")
    elif mode == "RGBa":
        image = rgb.convert("RGBA").convert("RGBa")
    else:
        image = rgb.convert("P").convert("PA") if mode == "PA" else rgb.convert(mode)
    frame = one(image)
    loose = {"La": "LA", "RGBa": "RGBA"}.get(mode, mode)
    np.testing.assert_array_equal(frame, np.asarray(image.convert(loose).convert("RGB")))
    if mode in {"RGB", "RGBX", "RGBA", "RGBa", "CMYK"}:
        np.testing.assert_array_equal(frame, np.asarray(rgb))
    if mode in {"YCbCr", "HSV", "LAB"}:
        assert np.abs(frame.astype(int) - np.asarray(rgb)).max() <= 20


def test_cmyk_jpeg_is_not_inverted() -> None:
    frame = one(saved(flat(RED).convert("CMYK"), "JPEG", quality=100))
    assert np.abs(frame.astype(int) - RED).max() <= 3


GREY8 = np.arange(256, dtype=np.uint8).reshape(16, 16)
GREY_RGB = np.repeat(GREY8[:, :, None], 3, axis=2)


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "memory"])
def test_16_bit_grey_is_its_8_bit_twin(kind: str, dtype: str) -> None:
    wide = (GREY8.astype(np.uint16) * 257).astype(dtype)
    image = Image.frombytes("I;16B" if dtype == ">u2" else "I;16", (16, 16), wide.tobytes())
    if kind == "PNG":
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
        np.testing.assert_array_equal(one(png(16, 16, rows, depth=16, colour=0)), GREY_RGB)
    else:
        np.testing.assert_array_equal(one(saved(image, "TIFF") if kind == "TIFF" else image), GREY_RGB)


def test_a_16_bit_ramp_is_not_clipped_to_white() -> None:
    ramp = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64)
    frame = one(Image.frombytes("I;16", (64, 64), ramp.tobytes()))
    assert abs(frame.mean() - 127.5) < 1
    assert (frame == 255).mean() < 0.01


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 10, 255], [0, 10, 255]),
        ([0, 500, 1000], [0, 128, 255]),
        ([0, 2**30, 2**31 - 1], [0, 128, 255]),
        ([-100, 0, 155], [0, 100, 255]),
    ],
)
def test_32_bit_grey_is_scaled_by_its_own_range(values: list[int], expected: list[int]) -> None:
    image = Image.fromarray(np.array([values], dtype=np.int32))
    assert image.mode == "I"
    assert decode(image).frames[0][0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([5.0, 10.0, 255.0], [5, 10, 255]),
        ([0.0, 500.0, 1000.0], [0, 128, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([-3e38, 0.0, 3e38], [0, 128, 255]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
        ([7e9, 7e9, 7e9], [0, 0, 0]),
    ],
)
def test_float_grey_is_scaled_by_its_range(values: list[float], expected: list[int]) -> None:
    assert decode(Image.fromarray(np.array([values], dtype=np.float32))).frames[0][0, :, 0].tolist() == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_float_grey_that_is_not_finite_is_refused(bad: float) -> None:
    values = np.full((4, 4), 0.5, np.float32)
    values[2, 3] = bad
    image = Image.fromarray(values)
    for source in (image, saved(image, "TIFF"), values):
        with pytest.raises(DecodeError, match=r"finite|NaN"):
            decode(source)
