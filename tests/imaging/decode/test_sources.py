"""PIL images and arrays of the caller: judged as they stand, left as they were."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.decode import decode
from nsfw_guard.imaging.limits import Limits
from tests.imaging.decode.files import ANIMATED, RED, animation, flat, moving, noise, one, png, saved, shows


@pytest.mark.parametrize("at", [0, 3, 5])
@pytest.mark.parametrize("kind", ANIMATED)
def test_the_callers_image_is_left_as_it_was(kind: str, at: int) -> None:
    image = Image.open(io.BytesIO(animation(kind)))
    image.seek(at)
    image.load()
    image.info["mine"] = "kept"
    before = (image.mode, image.size, image.tobytes())
    decoded = decode(image)
    assert len(decoded.frames) == 6
    assert shows(decoded, RED, tolerance=12)
    assert (image.mode, image.size, image.tobytes()) == before
    assert image.tell() == at
    assert image.info["mine"] == "kept"


@pytest.mark.parametrize("kind", [*ANIMATED, "JPEG", "BMP"])
def test_edits_of_the_caller_on_a_frame_are_seen_and_kept(kind: str) -> None:
    frames = [Image.new("L", (8, 6), 60 * i) for i in range(3)]
    image = Image.open(io.BytesIO(moving(frames, kind) if kind in ANIMATED else saved(frames[0], kind)))
    image.load()
    mark = 255 if image.mode in {"L", "P"} else (255,) * len(image.getbands())
    image.paste(mark, (0, 0, 8, 6))
    before = image.tobytes()
    decoded = decode(image)
    assert len(decoded.frames) >= (3 if kind in ANIMATED else 1)
    assert image.tobytes() == before
    shown = np.asarray(image.convert("RGB"))
    assert any(np.array_equal(f, shown) for f in decoded.frames)


@pytest.mark.parametrize("at", [0, 3, 5])
@pytest.mark.parametrize("kind", ANIMATED)
def test_an_image_whose_file_cannot_be_read_again_is_walked_and_left_as_it_was(kind: str, at: int) -> None:
    data = animation(kind, at=2)
    image = Image.open(io.BytesIO(data))
    image.seek(at)
    image.load()
    image.info["mine"] = "kept"
    before = (image.mode, image.size, image.tobytes())
    decoded = decode(image, limits=Limits(bytes=len(data) - 1))
    assert image.info["mine"] == "kept"
    assert len(decoded.frames) == 6
    assert shows(decoded, RED, tolerance=12)
    assert (image.mode, image.size, image.tobytes(), image.tell()) == (*before, at)


@pytest.mark.parametrize("kind", ANIMATED)
def test_the_second_of_two_frames_behind_an_image_is_seen(kind: str) -> None:
    assert shows(decode(Image.open(io.BytesIO(animation(kind, count=2, at=1)))), RED, tolerance=12)


def test_several_frames_of_an_unknown_format_are_refused() -> None:
    image = Image.open(io.BytesIO(animation("GIF")))
    image.format = "FLI"
    with pytest.raises(DecodeError, match="FLI with several frames is not supported"):
        decode(image)


def test_an_image_of_a_format_that_no_file_may_have_is_judged_by_its_pixels() -> None:
    pixels = noise(5, 4, 3)
    np.testing.assert_array_equal(one(Image.open(io.BytesIO(saved(Image.fromarray(pixels), "PPM")))), pixels)


def test_an_image_at_a_frame_beyond_the_limit_is_judged_there_too() -> None:
    image = Image.open(io.BytesIO(animation("GIF", count=40, at=17)))
    image.seek(17)
    decoded = decode(image, limits=Limits(frames=2, unseen="review"))
    assert decoded.partial == "2 of 40 frames"
    assert shows(decoded, RED)
    assert image.tell() == 17


def test_limits_hold_for_a_lazy_image_before_it_is_loaded() -> None:
    image = Image.open(io.BytesIO(png(5000, 5000, b"\0")))
    with pytest.raises(DecodeError, match=r"limits\.pixels"):
        decode(image, limits=Limits(pixels=1000))


def test_a_closed_image_is_refused() -> None:
    image = Image.open(io.BytesIO(saved(flat(RED))))
    image.close()
    with pytest.raises(DecodeError):
        decode(image)


@pytest.mark.parametrize(
    "array",
    [
        noise(4, 5),
        noise(4, 5, 1),
        noise(4, 5, 3),
        noise(4, 5, 4),
        noise(4, 5, 3).astype(np.uint16) * 257,
        (noise(4, 5, 3).astype(np.uint16) * 257).astype(">u2"),
        noise(4, 5, 3).astype(np.float32) / 255,
        noise(4, 5, 3).astype(np.float64) / 255,
        noise(4, 5, 3)[::-1, ::-1],
        np.asfortranarray(noise(4, 5, 3)),
    ],
)
def test_arrays_of_every_kind_are_decoded(array: np.ndarray) -> None:
    before = hashlib.sha256(array.tobytes()).hexdigest()
    frames = decode(array).frames
    assert hashlib.sha256(array.tobytes()).hexdigest() == before
    levels = array if array.dtype == np.uint8 else (array // 257 if array.dtype.kind == "u" else (array * 255).round())
    levels = levels if levels.ndim == 3 else levels[:, :, None]
    if levels.shape[2] == 4:
        assert len(frames) == 3
        np.testing.assert_array_equal(frames[2], levels[:, :, :3])
    else:
        np.testing.assert_array_equal(frames[0], np.broadcast_to(levels, (4, 5, 3)))


def test_16_bit_levels_are_rounded_to_the_nearest() -> None:
    levels = np.array([[0, 128, 129, 385, 386, 65406, 65407, 65535]], dtype=np.uint16)
    for source in (levels, Image.frombytes("I;16", (8, 1), levels.astype("<u2").tobytes())):
        assert one(source)[0, :, 0].tolist() == [0, 0, 1, 1, 2, 254, 255, 255]


def test_floats_are_rounded_as_diffusers_rounds_them() -> None:
    for dtype in (np.float16, np.float32, np.float64):
        array = np.random.default_rng(1).random((40, 40, 3)).astype(dtype)
        np.testing.assert_array_equal(one(array), (array * 255).round().astype("uint8"))
    assert one(np.array([[-0.001, 0.5 / 255, 1.5 / 255, 1.0015]]))[0, :, 0].tolist() == [0, 0, 2, 255]


@pytest.mark.parametrize(
    ("array", "cure"),
    [
        (np.zeros((4, 4, 3), np.int64), "uint8"),
        (np.zeros((4, 4, 3), bool), "uint8"),
        (np.zeros((4, 4, 3), np.int16), "uint8"),
        (np.zeros((4, 4, 3), np.int8), "uint8"),
        (np.zeros((4, 4), object), "uint8"),
        (np.zeros((4, 4), complex), "uint8"),
        (np.zeros((4, 4), np.uint32), "uint8"),
        (np.zeros((4, 4), "U1"), "uint8"),
        (np.zeros((2, 4, 4, 3), np.uint8), "reshape"),
        (np.zeros((3, 4, 4), np.uint8)[:, :, :2], "reshape"),
        (np.zeros(5, np.uint8), "reshape"),
        (np.zeros((), np.uint8), "reshape"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros((0, 4, 3), np.float32), "no pixels"),
        (np.full((4, 4, 3), 1.01), "scale"),
        (np.full((4, 4, 3), -0.5), "scale"),
        (np.full((4, 4, 3), 255.0), "scale"),
        (np.full((4, 4, 3), np.nan), "NaN"),
        (np.full((4, 4, 3), 1e38, np.float32), "scale"),
        (np.full((4, 4, 3), np.inf, np.float16), "NaN"),
        (np.zeros((2, 400), np.uint8), "aspect"),
    ],
)
def test_other_arrays_are_refused_with_the_cure(array: np.ndarray, cure: str) -> None:
    with pytest.raises(DecodeError, match=cure):
        decode(array)
