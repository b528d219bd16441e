"""The twins of one loaded picture; what they hide is tested through the decoder."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.appearances import flatten


def test_an_opaque_picture_has_no_twin() -> None:
    for mode in ("RGB", "RGBA", "L", "P", "CMYK"):
        (frame,) = flatten(Image.new("RGB", (3, 2), (10, 20, 30)).convert(mode))
        assert frame.shape == (2, 3, 3)


def test_twins_come_on_black_on_white_and_bare() -> None:
    frames = flatten(Image.new("RGBA", (1, 1), (200, 100, 0, 0)))
    assert [frame[0, 0].tolist() for frame in frames] == [[0, 0, 0], [255, 255, 255], [200, 100, 0]]


@pytest.mark.parametrize(("colour", "count"), [((0, 0, 0, 0), 2), ((255, 255, 255, 0), 2), ((9, 9, 9, 0), 3)])
def test_equal_twins_are_one(colour: tuple[int, ...], count: int) -> None:
    assert len(list(flatten(Image.new("RGBA", (2, 2), colour)))) == count


def test_the_picture_is_not_edited() -> None:
    picture = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(4, 4, 4))
    before = picture.tobytes()
    for frame in flatten(picture):
        frame[:] = 7
    assert picture.tobytes() == before


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DecodeError, match="finite"):
        list(flatten(Image.fromarray(np.array([[0.5, np.nan]], dtype=np.float32))))


def test_a_cut_file_raises() -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file, "PNG")
    with pytest.raises(OSError, match="truncated"):
        list(flatten(Image.open(io.BytesIO(file.getvalue()[:1000]))))
