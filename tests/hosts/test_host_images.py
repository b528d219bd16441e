"""Images are painted where they stand, in every kind and mode that hosts use."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from nsfw_guard.hosts.host_images import GROUND, fingerprint, judged_as, paint, readable, solid

RED = (220, 30, 30)
MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16", "RGBX")


def red(mode: str, size: tuple[int, int] = (24, 16)) -> Image.Image:
    if mode == "I;16":
        return Image.new("I;16", size, 40_000)
    image = Image.new("RGB", size, RED)
    return image.convert("RGB").convert(mode) if mode not in {"LAB", "RGBX"} else Image.new(mode, size, 200)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cover", [None, Image.new("RGB", (24, 16), (1, 200, 3))], ids=["solid", "cover"])
def test_every_mode_is_painted_and_nothing_of_it_is_left(mode, cover):
    image = red(mode)
    image.info["parameters"] = "a prompt"
    before = image.tobytes()
    result = paint(image, cover)
    assert result.size == image.size
    assert result.tobytes() != before or mode == "1"  # which is black or white
    assert "parameters" not in result.info
    values = np.asarray(result.convert("RGB")).reshape(-1, 3)
    assert len({tuple(v) for v in values.tolist()}) == 1
    if mode in {"RGB", "RGBA", "P"}:
        assert result is image
        expected = GROUND if cover is None or mode == "P" else (1, 200, 3)
        assert tuple(values[0]) == expected


def test_alpha_becomes_opaque_so_that_nothing_hides_in_it():
    image = Image.new("RGBA", (8, 8), (*RED, 7))
    assert paint(image, None) is image
    assert set(image.getchannel("A").tobytes()) == {255}


def test_an_image_that_cannot_be_painted_is_another_object():
    closed = Image.open(io.BytesIO(_png()))
    closed.fp.close()
    result = paint(closed, None)
    assert result is not closed
    assert result.convert("RGB").getpixel((0, 0)) == GROUND


def _png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (300, 300), RED).save(file, "PNG")
    return file.getvalue()[:-60]


@pytest.mark.parametrize("layout", ["hwc", "chw"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_arrays_are_painted_in_place_in_their_own_range(layout, dtype, channels):
    shape = (10, 12, channels) if layout == "hwc" else (channels, 10, 12)
    array = np.full(shape, 0.9 if dtype != np.uint8 else 230, dtype)
    assert paint(array, None, layout) is array
    first = array[0, 0] if layout == "hwc" else array[:, 0, 0]
    scale = 1 if dtype == np.uint8 else 255
    assert first[: min(3, channels)] * scale == pytest.approx(GROUND[: min(3, channels)], abs=0.01)
    assert channels < 4 or first[3] * scale == 255


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_tensors_are_painted_in_place(dtype):
    tensor = torch.full((3, 6, 9), 0.9 if dtype.is_floating_point else 200).to(dtype)
    assert paint(tensor, solid(9, 6)) is tensor
    scale = 255 if dtype.is_floating_point else 1
    assert (tensor[:, 2, 2].float() * scale).tolist() == pytest.approx(GROUND, abs=1.0)


def test_what_cannot_be_written_is_replaced():
    array = np.full((4, 4, 3), 0.9, np.float32)
    array.flags.writeable = False
    result = paint(array, None)
    assert result is not array
    assert result[0, 0, 0] * 255 == pytest.approx(GROUND[0])
    with torch.inference_mode():
        tensor = torch.ones(3, 4, 4)
    assert paint(tensor, None) is not tensor


@pytest.mark.parametrize("odd", [None, "image", 3, np.zeros(4), torch.zeros(2, 3, 4, 5)], ids=str)
def test_what_is_no_image_is_replaced_by_one(odd):
    assert paint(odd, None).size == (64, 64)


def test_a_fingerprint_is_of_what_is_seen():
    one, other = Image.new("RGB", (4, 6), RED), Image.new("RGB", (6, 4), RED)
    assert fingerprint(one) == fingerprint(one.copy())
    assert fingerprint(one) != fingerprint(other)
    palette = [Image.new("P", (4, 4), 0) for _ in range(2)]
    palette[1].putpalette([9, 9, 9] * 256)
    assert fingerprint(palette[0]) != fingerprint(palette[1])
    assert fingerprint(torch.zeros(3, 2, 2)) != fingerprint(torch.zeros(3, 2, 2, dtype=torch.bfloat16))
    assert fingerprint(np.zeros((2, 2, 3))) != fingerprint(np.zeros((2, 3, 2)))


@pytest.mark.parametrize(("alpha", "same"), [(255, True), (254, True), (253, False), (0, False)])
def test_an_alpha_that_cannot_be_seen_is_not_judged_again(alpha, same):
    one = Image.new("RGB", (4, 6), RED)
    other = one.convert("RGBA")
    other.putpixel((1, 1), (*RED, alpha))
    assert (judged_as(one) == judged_as(other)) is same
    assert fingerprint(one) != fingerprint(other)


def test_channels_are_put_where_the_guard_looks_for_them():
    assert readable(torch.zeros(5, 7, 3), "hwc").shape == (3, 5, 7)
    assert readable(np.zeros((3, 5, 7)), "chw").shape == (5, 7, 3)
    assert readable(np.zeros((5, 7, 3)), None).shape == (5, 7, 3)
