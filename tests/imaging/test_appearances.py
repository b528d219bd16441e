"""The twins of one loaded image; what they hide is tested through the decoder."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

import nsfw_guard.imaging.appearances as module
from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.appearances import appearances, clear_rgba, work
from nsfw_guard.imaging.files.colour import converted_appearances
from tests.attacks.files import COLUMNS, curve, plain, profile, red_table, wild_between


def test_an_opaque_image_has_no_twin() -> None:
    for mode in ("RGB", "RGBA", "L", "P", "CMYK"):
        (frame,) = appearances(Image.new("RGB", (3, 2), (10, 20, 30)).convert(mode))
        assert frame.shape == (2, 3, 3)


def test_twins_come_on_black_on_white_and_without_alpha() -> None:
    frames = appearances(Image.new("RGBA", (1, 1), (200, 100, 0, 0)))
    assert [frame[0, 0].tolist() for frame in frames] == [[0, 0, 0], [255, 255, 255], [200, 100, 0]]


@pytest.mark.parametrize(
    ("colour", "count"), [((0, 0, 0, 0), 2), ((255, 255, 255, 0), 2), ((9, 9, 9, 0), 3), ((200, 99, 9, 254), 3)]
)
def test_equal_twins_are_one(colour: tuple[int, ...], count: int) -> None:
    assert len(list(appearances(Image.new("RGBA", (2, 2), colour)))) == count


def test_the_image_is_not_edited() -> None:
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(4, 4, 4))
    before = image.tobytes()
    for frame in appearances(image):
        frame[:] = 7
    assert image.tobytes() == before


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DecodeError, match="NaN or infinity"):
        list(appearances(Image.fromarray(np.array([[0.5, np.nan]], dtype=np.float32))))


def test_a_cut_file_raises() -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file, "PNG")
    with pytest.raises(OSError, match="truncated"):
        list(appearances(Image.open(io.BytesIO(file.getvalue()[:1000]))))


def test_the_work_on_the_twins_is_counted_beforehand() -> None:
    """An image on three grounds is six looks, and each way of reading a profile one and a half and its twins."""
    opaque, clear = Image.new("RGB", (3, 2)), Image.new("RGBA", (3, 2))
    assert (work(opaque), work(clear)) == (1.0, 6.0)
    assert (work(opaque, [wild_between()]), work(clear, [wild_between()])) == (3.5, 13.5)
    opaque.info["icc_profile"] = wild_between()
    assert (work(opaque), work(opaque, [wild_between()])) == (3.5, 6.0)
    assert len(list(appearances(opaque))) <= 2


def red_at_40(strength: int) -> bytes:
    """A profile that shows level 40 as red and leaves the others nearly as they are."""
    red = curve(lambda i: strength if i == 40 else plain(i))
    other = curve(lambda i: 0 if i == 40 else plain(i))
    return profile({**COLUMNS, b"rTRC": red, b"gTRC": other, b"bTRC": other})


@pytest.mark.parametrize(("level", "count"), [(40, 2), (50, 1)])
def test_appearances_that_are_nearly_equal_are_one(level: int, count: int) -> None:
    """Two profiles show two reds of few levels apart; where an image has no such level, nearly itself."""
    profiles = [red_at_40(65535), red_at_40(64500)]
    assert len({shown.tobytes() for one in profiles for shown in converted_appearances(grey(40), one)}) == 2
    assert all(shown.tobytes() != grey(50).tobytes() for shown in converted_appearances(grey(50), profiles[0]))
    frames = list(appearances(grey(level), profiles))
    assert len(frames) == count
    np.testing.assert_array_equal(frames[0], np.asarray(grey(level)))


def grey(level: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (level, level, level))


def test_twins_that_came_before_are_not_made_again() -> None:
    image, seen = Image.new("RGBA", (2, 2), (200, 100, 0, 0)), set[bytes]()
    assert [len(list(appearances(image, seen=seen))) for _ in range(2)] == [3, 0]


@pytest.mark.parametrize(("mode", "count"), [("1", 3), ("L", 3), ("RGB", 3), ("CMYK", 1), ("YCbCr", 1), ("HSV", 1)])
def test_a_transparent_colour_counts_where_viewers_know_it(mode: str, count: int) -> None:
    image = Image.new("RGB", (8, 8), (0, 0, 0)).convert(mode)
    image.paste(255 if mode in {"1", "L"} else (255,) * len(image.getbands()), (0, 0, 4, 8))
    image.info["transparency"] = {"RGB": (0, 0, 0)}.get(mode, 0)
    frames = list(appearances(image))
    assert work(image) == (1.0 if count == 1 else 6.0)
    assert len(frames) == min(count, 2)  # on black it is as if it were bare
    assert frames[-1].shape == (8, 8, 3)


RAMP = np.arange(300 * 200).reshape(300, 200) % 251
WHOLE = np.array([[0, 1], [100, 200], [7, 50]])


@pytest.mark.parametrize(("values", "kind", "expected"), [
    (WHOLE.astype(np.int32), None, WHOLE),  # in the range of 8 bits: as it is
    (WHOLE.astype(np.int32) * 257, "PNG", WHOLE),  # as older Pillow opens 16-bit PNG
    (WHOLE.astype(np.uint16) * 257, None, WHOLE),
    (np.array([[0, 1], [1, 0]], np.int32), None, np.array([[0, 1], [1, 0]])),
    (np.array([[0, 1], [0.5, 0.2]], np.float32), None, np.array([[0, 255], [128, 51]])),
    (np.array([[0, 100], [200, 3]], np.float32), None, np.array([[0, 100], [200, 3]])),
    (np.array([[0, 255], [510, 51]], np.float32), None, np.array([[0, 128], [255, 26]])),
    (np.array([[102, 510]], np.int32), None, np.array([[51, 255]])),  # whole numbers: black is 0
    (np.array([[51, 255.5]], np.float32), None, np.array([[0, 255]])),  # beyond 8 bits: black is the lowest
    (np.array([[51, 255]], np.float32), None, np.array([[51, 255]])),
    (np.array([[-10, 0], [10, 5]], np.int32), None, np.array([[0, 128], [255, 191]])),
    (np.full((2, 2), -7, np.int32), None, np.zeros((2, 2))),
    (RAMP.astype(np.uint16) * 257, None, RAMP),
])  # fmt: skip
def test_grey_of_more_bits_is_narrowed_by_its_range(values: np.ndarray, kind: str | None, expected: np.ndarray) -> None:
    image = Image.fromarray(values)
    image.format = kind
    frame = next(appearances(image))
    np.testing.assert_array_equal(frame, np.repeat(expected[:, :, None], 3, axis=2))


@pytest.mark.parametrize(("values", "shown"), [
    (np.array([[40, 250], [2**30, 250]], np.int32), [[40, 250], [255, 250]]),
    (np.array([[40, 250], [1e9, 250]], np.float32), [[40, 250], [255, 250]]),
    (np.array([[0.5, 0.2], [1e9, 0.0]], np.float32), [[128, 51], [255, 0]]),
    (np.array([[0.5, 0.2], [-1e9, 1.0]], np.float32), [[128, 51], [0, 255]]),
])  # fmt: skip
def test_one_outlying_level_hides_nothing(values: np.ndarray, shown: list[list[int]]) -> None:
    """Who scales by the range sees one grey; who cuts off sees the image."""
    image = Image.fromarray(values)
    frames = [frame[..., 0].tolist() for frame in appearances(image)]
    assert shown in frames
    assert len(frames) <= work(image) == {"I": 2.0, "F": 3.0}[image.mode]


@pytest.mark.parametrize(("values", "count"), [
    (np.array([[0, 1], [0.5, 0.2]], np.float32), 1),
    (np.array([[0, 255], [100, 200]], np.int32), 1),
    (np.array([[0, 255], [100, 200]], np.float32), 2),  # who cuts at 1 shows white
    (np.array([[0, 256], [100, 200]], np.int32), 2),
])  # fmt: skip
def test_wide_grey_that_no_viewer_clips_is_looked_at_once(values: np.ndarray, count: int) -> None:
    assert len(list(appearances(Image.fromarray(values)))) == count


@pytest.mark.parametrize(("image", "expected"), [
    (Image.new("RGB", (1, 1), (200, 100, 50)), (200, 100, 50, 255)),
    (Image.new("RGBA", (1, 1), (200, 100, 50, 7)), (200, 100, 50, 7)),
    (Image.merge("RGBA", [Image.new("L", (1, 1), 100)] * 4).convert("RGBa"), (100, 100, 100, 100)),
    (Image.merge("LA", [Image.new("L", (1, 1), 100)] * 2).convert("La"), (100, 100, 100, 100)),
    (Image.fromarray(np.full((1, 1), 257 * 9, np.uint16)), (9, 9, 9, 255)),
    (Image.fromarray(np.full((1, 1), 9, np.int32)), (9, 9, 9, 255)),
    (Image.fromarray(np.full((1, 1), 0.2, np.float32)), (51, 51, 51, 255)),
])  # fmt: skip
def test_an_image_read_by_its_numbers_keeps_its_colours_and_alpha(image: Image.Image, expected: tuple) -> None:
    near = np.asarray(clear_rgba(image))[0, 0].astype(int) - expected
    assert np.abs(near).max() <= (1 if image.mode in {"RGBa", "La"} else 0)


def test_an_image_of_lab_is_looked_up_in_its_own_numbers() -> None:
    """Made RGB first, no profile of LAB would be followed."""
    image = Image.new("LAB", (4, 4), (128, 250, 10))
    frames = list(appearances(image, [profile({b"A2B0": red_table(3)}, b"Lab ", b"Lab ", b"spac")]))
    assert len(frames) == 2


@pytest.mark.parametrize(("photometric", "inverted"), [(1, False), (0, True)])
def test_wide_grey_that_says_that_white_is_zero_is_seen_both_ways(photometric: int, inverted: bool) -> None:
    file = io.BytesIO()
    Image.fromarray(WHOLE.astype(np.uint16) * 257).save(file, "TIFF")
    data = file.getvalue()
    entry = data.index(b"\x06\x01\x03\x00\x01\x00\x00\x00")
    image = Image.open(io.BytesIO(data[: entry + 8] + bytes([photometric]) + data[entry + 9 :]))
    frames = [frame[..., 0].tolist() for frame in appearances(image)]
    assert work(image) == 1.0 + inverted
    assert frames == [WHOLE.tolist(), (255 - WHOLE).tolist()][: 1 + inverted]


def test_grey_of_8_bits_that_says_that_white_is_zero_is_seen_once() -> None:
    """Pillow turns it."""
    file = io.BytesIO()
    Image.fromarray(WHOLE.astype(np.uint8)).save(file, "TIFF")
    data = file.getvalue()
    entry = data.index(b"\x06\x01\x03\x00\x01\x00\x00\x00")
    image = Image.open(io.BytesIO(data[: entry + 8] + b"\0" + data[entry + 9 :]))
    assert work(image) == 1.0
    assert [frame[..., 0].tolist() for frame in appearances(image)] == [(255 - WHOLE).tolist()]


def test_the_range_of_a_png_is_known() -> None:
    image = Image.fromarray(WHOLE.astype(np.int32) * 257)
    image.format = "PNG"  # as older Pillow opens 16 bits
    assert work(image) == 1.0
    assert [frame[..., 0].tolist() for frame in appearances(image)] == [WHOLE.tolist()]


def test_floats_that_call_themselves_a_png_are_not_made_black() -> None:
    """Whoever sets the format of an image does not change what is seen of it."""
    image = Image.fromarray(np.array([[0, 1], [0.5, 0.2]], np.float32))
    image.format = "PNG"
    assert next(appearances(image))[..., 0].tolist() == [[0, 255], [128, 51]]


def test_a_clear_level_of_wide_grey_is_seen_on_every_ground() -> None:
    image = Image.fromarray(WHOLE.astype(np.uint16) * 257)
    image.info["transparency"] = 100 * 257
    black, white = (np.where(WHOLE == 100, ground, WHOLE).tolist() for ground in (0, 255))
    assert [frame[..., 0].tolist() for frame in appearances(image)] == [black, white, WHOLE.tolist()]


def turned(kind: str, **where: object) -> Image.Image:
    """An image that is to be turned by half, said in one place."""
    file = io.BytesIO()
    Image.fromarray(np.repeat(WHOLE[..., None], 3, axis=2).astype(np.uint8)).resize((8, 8)).save(file, kind, **where)
    return Image.open(io.BytesIO(file.getvalue()))


def plain_exif(kind: int = 3, count: int = 1) -> bytes:
    """A block that says 3: turned by half."""
    value = struct.pack("<HH", 3, count - 1) if kind == 3 else struct.pack("<L", 3)
    return b"Exif\0\0II*\0" + struct.pack("<LHHHL4sL", 8, 1, 0x0112, kind, count, value, 0)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'


@pytest.mark.filterwarnings("ignore:Metadata Warning:UserWarning")
@pytest.mark.parametrize(("kind", "where", "ways"), [
    ("JPEG", {"exif": plain_exif()}, 1),
    ("PNG", {"exif": plain_exif()}, 1),
    ("WEBP", {"exif": plain_exif(), "lossless": True}, 1),
    ("JPEG", {"exif": plain_exif(kind=4)}, 2),
    ("JPEG", {"exif": plain_exif(kind=8)}, 2),
    ("JPEG", {"exif": plain_exif(count=2)}, 2),
    ("WEBP", {"xmp": XMP, "lossless": True}, 2),
    ("PNG", {}, 1),
])  # fmt: skip
def test_a_rotation_that_only_some_viewers_follow_is_judged_both_ways(kind: str, where: dict, ways: int) -> None:
    image = turned(kind, **where)
    if "xmp" in where and image.getexif().get(0x0112) is None:
        pytest.skip("this Pillow does not read an orientation there, as most viewers do not")
    frames = list(appearances(image))
    assert len(frames) <= ways
    assert work(image) == float(ways)
    upright = np.asarray(image)
    if where:
        np.testing.assert_array_equal(frames[0], np.rot90(upright, 2))
    if len(frames) == 2 or not where:
        np.testing.assert_array_equal(frames[-1], upright)


@pytest.mark.filterwarnings("ignore:Metadata Warning:UserWarning")
def test_a_rotation_beside_an_empty_block_is_judged_both_ways() -> None:
    image = turned("WEBP", xmp=XMP, lossless=True)
    image.info["exif"] = b""
    if image.getexif().get(0x0112) is None:
        pytest.skip("this Pillow does not read an orientation there, as most viewers do not")
    assert work(image) == 2.0


def test_of_several_rotations_that_a_user_set_the_first_counts() -> None:
    image = Image.fromarray(WHOLE.astype(np.uint8))
    image.getexif()[0x0112] = (3, 1)
    (frame,) = appearances(image)
    np.testing.assert_array_equal(frame[..., 0], np.rot90(WHOLE, 2))


def test_a_rotation_that_changes_nothing_is_one_frame() -> None:
    """An image that some turn and others do not is two, unless it looks the same either way."""
    file = io.BytesIO()
    grey(50).save(file, "JPEG", exif=plain_exif(kind=4))
    image = Image.open(io.BytesIO(file.getvalue()))
    assert work(image) == 2.0
    assert len(list(appearances(image))) == 1


def test_a_rotated_avif_is_judged_both_ways() -> None:
    """Pillow writes the turn of the container into the EXIF block, where others may not look."""
    pytest.importorskip("PIL.AvifImagePlugin", reason="this Pillow reads no AVIF")
    image = turned("AVIF", exif=plain_exif(), quality=100)
    frames = list(appearances(image))
    assert work(image) == len(frames) == 2
    np.testing.assert_array_equal(frames[0], np.rot90(frames[1], 2))


@pytest.mark.parametrize("strip", [1, 1_000, 300_000])
def test_a_tall_image_is_narrowed_strip_by_strip(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STRIP", strip)
    for values in (RAMP, RAMP.T):
        (frame,) = appearances(Image.fromarray(np.ascontiguousarray(values.astype(np.uint16) * 257)))
        np.testing.assert_array_equal(frame[..., 0], values)


@pytest.mark.parametrize("named", [None, b"\0", (0, 0, 0)])
def test_a_transparent_level_that_is_no_number_is_no_level(named: object) -> None:
    image = Image.fromarray(WHOLE.astype(np.uint16) * 257)
    image.info["transparency"] = named
    (frame,) = appearances(image)
    np.testing.assert_array_equal(frame[..., 0], WHOLE)
