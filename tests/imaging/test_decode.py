"""Every way a picture can hide something or break its reader, with files made here."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import subprocess
import sys
import time
import warnings
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

import nsfw_guard.imaging.decode as module
from nsfw_guard.errors import ConfigError, DecodeError
from nsfw_guard.imaging.decode import Decoded, decode
from nsfw_guard.imaging.files.formats import FORMATS, pillow_is_old
from nsfw_guard.imaging.limits import Limits
from tests.attacks.files import exif

RED, BLUE = (255, 0, 0), (0, 0, 255)


def saved(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
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


# ---- what comes out


@pytest.mark.parametrize("kind", [k for k in ("PNG", "WEBP", "BMP", "TIFF", "GIF") if k in FORMATS])
def test_lossless_formats_give_the_exact_pixels(kind: str) -> None:
    pixels = noise(9, 7, 3) if kind != "GIF" else np.repeat(noise(9, 7, 1), 3, axis=2)
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = Image.fromarray(pixels) if kind != "GIF" else Image.fromarray(pixels[:, :, 0])
    np.testing.assert_array_equal(one(saved(picture, kind, **options)), pixels)


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


def test_every_kind_of_source_is_one(tmp_path: Path) -> None:
    picture = Image.fromarray(noise(5, 4, 3))
    data, path = saved(picture), tmp_path / "a.png"
    path.write_bytes(data)
    expected = np.asarray(picture)
    for source in (str(path), path, data, bytearray(data), memoryview(data), io.BytesIO(data), picture, expected):
        np.testing.assert_array_equal(one(source), expected)
    with open(path, "rb", buffering=0) as raw:
        np.testing.assert_array_equal(one(raw), expected)


def test_bytes_after_the_end_change_nothing() -> None:
    picture = Image.fromarray(noise(8, 8, 3))
    for kind in FORMATS:
        data = saved(picture, kind)
        np.testing.assert_array_equal(decode(data + b"PK\x03\x04" + b"tail" * 50).frames[0], decode(data).frames[0])


# ---- modes


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "RGBA", "RGBa", "LA", "La", "PA"]
)
def test_each_mode_is_its_rgb_twin(mode: str) -> None:
    rgb = Image.fromarray(noise(6, 5, 3))
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        picture = ImageCms.profileToProfile(rgb, *profiles, outputMode="LAB")
        assert picture is not None
    elif mode == "La":
        picture = rgb.convert("LA").convert("La")
    elif mode == "RGBa":
        picture = rgb.convert("RGBA").convert("RGBa")
    else:
        picture = rgb.convert("P").convert("PA") if mode == "PA" else rgb.convert(mode)
    frame = one(picture)
    loose = {"La": "LA", "RGBa": "RGBA"}.get(mode, mode)
    np.testing.assert_array_equal(frame, np.asarray(picture.convert(loose).convert("RGB")))
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
    picture = Image.frombytes("I;16B" if dtype == ">u2" else "I;16", (16, 16), wide.tobytes())
    if kind == "PNG":
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
        np.testing.assert_array_equal(one(png(16, 16, rows, depth=16, colour=0)), GREY_RGB)
    else:
        np.testing.assert_array_equal(one(saved(picture, "TIFF") if kind == "TIFF" else picture), GREY_RGB)


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
    picture = Image.fromarray(np.array([values], dtype=np.int32))
    assert picture.mode == "I"
    assert decode(picture).frames[0][0, :, 0].tolist() == expected


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
    picture = Image.fromarray(values)
    for source in (picture, saved(picture, "TIFF"), values):
        with pytest.raises(DecodeError, match=r"finite|NaN"):
            decode(source)


# ---- what an alpha channel hides


def drawn(mode: str, ground: tuple[int, ...], mark: tuple[int, ...]) -> Image.Image:
    picture = Image.new(mode, (8, 8), ground)
    picture.paste(mark, (2, 2, 4, 4))
    return picture


def test_opaque_alpha_is_one_frame() -> None:
    assert len(decode(flat((1, 2, 3, 255), mode="RGBA")).frames) == 1


def test_a_drawing_in_the_alpha_alone_is_seen() -> None:
    frames = decode(saved(drawn("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)))).frames
    assert len(frames) == 2  # on black and bare are both plain black
    black, white = frames
    assert black.max() == 0
    assert white[0, 0].tolist() == [255] * 3
    assert white[2, 2].tolist() == [0] * 3


@pytest.mark.parametrize("kind", [k for k in ("PNG", "WEBP", "TIFF") if k in FORMATS])
def test_a_drawing_in_the_hidden_rgb_alone_is_seen(kind: str) -> None:
    picture = drawn("RGBA", (9, 9, 9, 0), (*RED, 0))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    black, white, hidden = decode(saved(picture, kind, **options)).frames
    assert (black.max(), white.min()) == (0, 255)
    assert hidden[2, 2].tolist() == [*RED]
    assert hidden[0, 0].tolist() == [9, 9, 9]


def test_half_alpha_is_exact() -> None:
    black, white, hidden = (f[0, 0].tolist() for f in decode(flat((200, 100, 0, 128), mode="RGBA")).frames)
    assert black == [100, 50, 0]
    assert white == [227, 177, 127]
    assert hidden == [200, 100, 0]


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBa"])
def test_every_alpha_mode_gives_three(mode: str) -> None:
    grey = Image.merge("LA", (Image.fromarray(noise(8, 8)), Image.fromarray(noise(8, 8, seed=1))))
    picture = {
        "LA": lambda: grey,
        "La": lambda: grey.convert("La"),
        "PA": lambda: Image.fromarray(noise(8, 8, 4)).convert("PA"),
        "RGBa": lambda: Image.fromarray(noise(8, 8, 4)).convert("RGBa"),
    }[mode]()
    if mode == "PA":
        picture.putalpha(Image.fromarray(noise(8, 8, seed=2)))
    assert picture.mode == mode
    assert len(decode(picture).frames) == 3


def palette(transparency: int | bytes) -> bytes:
    picture = Image.new("P", (4, 2), 0)
    picture.putpalette([*RED, *BLUE])
    picture.paste(1, (0, 0, 2, 2))
    return saved(picture, transparency=transparency)


@pytest.mark.parametrize("transparency", [0, b"\x00\xff", b"\x00"])
def test_transparency_of_a_palette(transparency: int | bytes) -> None:
    black, white, hidden = decode(palette(transparency)).frames
    assert [f[0, 3].tolist() for f in (black, white, hidden)] == [[0, 0, 0], [255, 255, 255], [*RED]]
    assert [f[0, 0].tolist() for f in (black, white, hidden)] == [[*BLUE]] * 3


def test_a_palette_with_alpha_of_its_own() -> None:
    picture = drawn("RGBA", (*BLUE, 255), (*RED, 0)).quantize(4, method=Image.Quantize.FASTOCTREE)
    assert picture.mode == "P"
    assert shows(decode(picture), BLUE)
    assert len(decode(picture).frames) >= 2


@pytest.mark.parametrize(
    ("picture", "named", "hidden"),
    [
        (flat((7,), mode="L"), 7, [7, 7, 7]),
        (flat(RED), RED, [*RED]),
    ],
)
def test_a_transparent_colour(picture: Image.Image, named: Any, hidden: list[int]) -> None:
    assert [f[0, 0].tolist() for f in decode(saved(picture, transparency=named)).frames] == [[0] * 3, [255] * 3, hidden]


def test_a_transparent_level_of_16_bits() -> None:
    data = png(2, 1, b"\0" + struct.pack(">HH", 257 * 7, 0), depth=16, colour=0, extra=chunk(b"tRNS", b"\x07\x07"))
    assert [f[0, 0, 0].tolist() for f in decode(data).frames] == [0, 255, 7]


# ---- frames


def moving(frames: list[Image.Image], kind: str) -> bytes:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "AVIF" else {}
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    return mended(data, len(frames)) if kind == "MPO" else data


def mended(mpo: bytes, count: int) -> bytes:
    """Pillow writes wrong sizes from the third picture of an MPO on."""
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


# Pillow before 10 writes MPO files of several pictures that it cannot read itself.
MPO = ("MPO",) if int(PIL.__version__.split(".")[0]) >= 10 else ()
ANIMATED = [k for k in ("GIF", "WEBP", "PNG", "TIFF", "MPO", "AVIF") if k in (*FORMATS, *MPO)]


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("kind", ANIMATED)
def test_a_frame_is_seen_wherever_it_is(kind: str, at: int) -> None:
    decoded = decode(animation(kind, at=at))
    assert len(decoded.frames) == 6
    assert decoded.partial == ""
    assert shows(decoded, RED, tolerance=12)
    assert [bool(shows(Decoded((f,)), RED, tolerance=12)) for f in decoded.frames].index(True) == at


@pytest.mark.parametrize("kind", ANIMATED)
def test_more_frames_than_are_looked_at(kind: str) -> None:
    for at in (0, 19):
        data = animation(kind, count=20, at=at)
        with pytest.raises(DecodeError, match=r"over 4 (frames|pages): .*limits\.frames"):
            decode(data, limits=Limits(frames=4))
        decoded = decode(data, limits=Limits(frames=4, unseen="review"))
        assert decoded.partial == "4 of 20 frames"
        assert len(decoded.frames) == 4
        assert shows(decoded, RED, tolerance=12)


FEW = Limits(frames=5, unseen="review")


def test_frames_are_sampled_evenly() -> None:
    frames = [Image.new("L", (3, 3), i) for i in range(101)]
    decoded = decode(saved(frames[0], "TIFF", save_all=True, append_images=frames[1:]), limits=FEW)
    assert [int(f[0, 0, 0]) for f in decoded.frames] == [0, 25, 50, 75, 100]
    for count in range(2, 34):
        exact = decode(saved(frames[0], "TIFF", save_all=True, append_images=frames[1:count]), limits=Limits(frames=33))
        assert [int(f[0, 0, 0]) for f in exact.frames] == list(range(count))


@pytest.mark.parametrize("at", [1, 200, 255])
def test_every_frame_up_to_the_limit_is_looked_at(at: int) -> None:
    frames = [Image.new("L", (8, 8), i % 200) for i in range(256)]
    frames[at] = Image.new("L", (8, 8), 255)
    decoded = decode(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert decoded.partial == ""
    assert shows(decoded, (255, 255, 255))


def test_a_gif_of_3000_frames_is_refused_or_partial_and_quick() -> None:
    frames = [Image.new("L", (8, 8), i % 250) for i in range(3000)]
    frames[-1] = Image.new("L", (8, 8), 255)
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    started = time.perf_counter()
    with pytest.raises(DecodeError, match="over 256 frames"):
        decode(data)
    decoded = decode(data, limits=Limits(unseen="review", seconds=60))
    assert time.perf_counter() - started < 8
    assert decoded.partial == "256 of 3000 frames"
    assert shows(decoded, (255, 255, 255))


def test_frames_that_repeat_are_looked_at_once() -> None:
    data = moving([flat(RED), flat(BLUE), flat(RED), flat(BLUE)], "PNG")
    assert [f[0, 0].tolist() for f in decode(data).frames] == [list(RED), list(BLUE)]


def test_the_default_image_of_an_apng_is_seen() -> None:
    rest = [flat((0, i, 9)) for i in range(3)]
    data = saved(flat(RED), save_all=True, append_images=rest, default_image=True)
    assert shows(decode(data), RED)
    assert len(decode(data).frames) == 4


def test_an_apng_that_counts_fewer_frames_than_it_has_is_refused() -> None:
    data = animation("PNG", count=3, at=2)
    for said in (1, 2):
        at = data.index(b"acTL")
        control = chunk(b"acTL", struct.pack(">II", said, 0))
        lying = data[: at - 4] + control + data[at + 16 :]
        for source in (lying, Image.open(io.BytesIO(lying))):
            with pytest.raises(DecodeError, match=f"3 frames where its header counts {said}"):
                decode(source)
            decoded = decode(source, limits=Limits(unseen="review"))
            assert decoded.partial == f"{said} of 3 frames"


def test_pages_may_differ_in_size_and_mode() -> None:
    pages = [flat(BLUE, (4, 4)), flat((5,), (10, 2), "L"), drawn("RGBA", (0, 0, 0, 255), (*RED, 0))]
    decoded = decode(saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    assert [f.shape[:2] for f in decoded.frames] == [(4, 4), (2, 10), (8, 8), (8, 8), (8, 8)]
    assert shows(decoded, RED)


def test_a_later_page_beyond_the_limits_is_refused() -> None:
    for size in ((300, 2), (60, 60)):
        data = saved(flat(BLUE, (4, 4)), "TIFF", save_all=True, append_images=[flat(BLUE, size)])
        with pytest.raises(DecodeError, match=r"limits\.(aspect|pixels)"):
            decode(data, limits=Limits(pixels=3000))


def test_a_later_gif_frame_that_widens_the_canvas_is_checked() -> None:
    head = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\0\0\0\xff\xff\xff"
    small = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\x00"
    wide = b"\x2c\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x44\x01\x00"
    with pytest.raises(DecodeError):
        decode(head + small + wide + small + b";")


# ---- EXIF and colour profiles


def arrow() -> Image.Image:
    picture = Image.new("RGB", (6, 4), (10, 20, 30))
    picture.putpixel((0, 0), RED)
    picture.putpixel((5, 0), BLUE)
    return picture


BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("kind", [k for k in ("PNG", "WEBP", "TIFF") if k in FORMATS])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = arrow().transpose(BACK[orientation]) if orientation in BACK else arrow()
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(stored, kind, exif=exif, **options)
    np.testing.assert_array_equal(one(data), np.asarray(arrow()))
    np.testing.assert_array_equal(one(Image.open(io.BytesIO(data))), np.asarray(arrow()))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_as_pillow_turns_it(orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(noise(16, 24, 3)), "JPEG", exif=exif)
    np.testing.assert_array_equal(one(data), np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0junk",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0",  # 99
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0\0\0\0\0",  # a text
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x02\0\0\0\x06\0\x06\0\0\0\0\0",  # two of them
        b"\xff" * 200,
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_corrupt_exif_leaves_the_pixels_as_they_are(kind: str, exif: bytes) -> None:
    picture = Image.fromarray(noise(8, 12, 3))
    np.testing.assert_array_equal(one(saved(picture, kind, exif=exif)), one(saved(picture, kind)))


def profile(*, swapped: bool) -> bytes:
    raw = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    if swapped:
        tags = {
            bytes(raw[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(struct.unpack(">I", raw[128:132])[0])
        }
        red, blue = tags[b"rXYZ"] + 4, tags[b"bXYZ"] + 4
        raw[red : red + 8], raw[blue : blue + 8] = raw[blue : blue + 8], raw[red : red + 8]
    return bytes(raw)


@pytest.mark.parametrize("icc", [b"", b"junk", b"\0" * 200, profile(swapped=False)])
def test_a_usual_or_broken_profile_changes_nothing(icc: bytes) -> None:
    picture = Image.fromarray(noise(8, 8, 3))
    np.testing.assert_array_equal(one(saved(picture, icc_profile=icc)), np.asarray(picture))


def test_what_a_strange_profile_shows_is_looked_at_too() -> None:
    data = saved(flat(BLUE), icc_profile=profile(swapped=True))
    plain, managed = decode(data).frames
    assert plain[0, 0].tolist() == [*BLUE]
    assert np.abs(managed[0, 0].astype(int) - RED).max() <= 4
    faint = decode(saved(flat((*BLUE, 128), mode="RGBA"), icc_profile=profile(swapped=True)))
    assert len(faint.frames) == 6


# ---- PIL pictures and arrays of the caller


@pytest.mark.parametrize("at", [0, 3, 5])
@pytest.mark.parametrize("kind", ANIMATED)
def test_the_callers_picture_is_left_as_it_was(kind: str, at: int) -> None:
    picture = Image.open(io.BytesIO(animation(kind)))
    picture.seek(at)
    picture.load()
    picture.info["mine"] = "kept"
    before = (picture.mode, picture.size, picture.tobytes())
    decoded = decode(picture)
    assert len(decoded.frames) == 6
    assert shows(decoded, RED, tolerance=12)
    assert (picture.mode, picture.size, picture.tobytes()) == before
    assert picture.tell() == at
    assert picture.info["mine"] == "kept"


@pytest.mark.parametrize("kind", [*ANIMATED, "JPEG", "BMP"])
def test_what_the_caller_drew_on_a_frame_is_seen_and_kept(kind: str) -> None:
    frames = [Image.new("L", (8, 6), 60 * i) for i in range(3)]
    picture = Image.open(io.BytesIO(moving(frames, kind) if kind in ANIMATED else saved(frames[0], kind)))
    picture.load()
    mark = 255 if picture.mode in {"L", "P"} else (255,) * len(picture.getbands())
    picture.paste(mark, (0, 0, 8, 6))
    before = picture.tobytes()
    decoded = decode(picture)
    assert len(decoded.frames) >= (3 if kind in ANIMATED else 1)
    assert picture.tobytes() == before
    shown = np.asarray(picture.convert("RGB"))
    assert any(np.array_equal(f, shown) for f in decoded.frames)


@pytest.mark.parametrize("at", [0, 3, 5])
@pytest.mark.parametrize("kind", ANIMATED)
def test_a_picture_whose_file_cannot_be_read_again_is_walked_and_left_as_it_was(kind: str, at: int) -> None:
    data = animation(kind, at=2)
    picture = Image.open(io.BytesIO(data))
    picture.seek(at)
    picture.load()
    picture.info["mine"] = "kept"
    before = (picture.mode, picture.size, picture.tobytes())
    decoded = decode(picture, limits=Limits(bytes=len(data) - 1))
    assert picture.info["mine"] == "kept"
    assert len(decoded.frames) == 6
    assert shows(decoded, RED, tolerance=12)
    assert (picture.mode, picture.size, picture.tobytes(), picture.tell()) == (*before, at)


@pytest.mark.parametrize("kind", ANIMATED)
def test_the_second_of_two_frames_behind_a_picture_is_seen(kind: str) -> None:
    assert shows(decode(Image.open(io.BytesIO(animation(kind, count=2, at=1)))), RED, tolerance=12)


def test_several_frames_of_an_unknown_format_are_refused() -> None:
    picture = Image.open(io.BytesIO(animation("GIF")))
    picture.format = "FLI"
    with pytest.raises(DecodeError, match="FLI of several frames is not walked"):
        decode(picture)


def test_a_picture_of_a_format_that_no_file_may_have_is_judged_by_its_pixels() -> None:
    pixels = noise(5, 4, 3)
    np.testing.assert_array_equal(one(Image.open(io.BytesIO(saved(Image.fromarray(pixels), "PPM")))), pixels)


def test_a_picture_that_stands_at_the_end_of_many_frames() -> None:
    picture = Image.open(io.BytesIO(animation("GIF", count=40, at=17)))
    picture.seek(17)
    decoded = decode(picture, limits=Limits(frames=2, unseen="review"))
    assert decoded.partial == "2 of 40 frames"
    assert shows(decoded, RED)
    assert picture.tell() == 17


def test_limits_hold_for_a_lazy_picture_before_it_is_loaded() -> None:
    picture = Image.open(io.BytesIO(png(5000, 5000, b"\0")))
    with pytest.raises(DecodeError, match=r"limits\.pixels"):
        decode(picture, limits=Limits(pixels=1000))


def test_a_closed_picture_is_refused() -> None:
    picture = Image.open(io.BytesIO(saved(flat(RED))))
    picture.close()
    with pytest.raises(DecodeError):
        decode(picture)


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
def test_arrays_of_every_kind(array: np.ndarray) -> None:
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
        (np.zeros((2, 4, 4, 3), np.uint8), "give"),
        (np.zeros((3, 4, 4), np.uint8)[:, :, :2], "give"),
        (np.zeros(5, np.uint8), "give"),
        (np.zeros((), np.uint8), "give"),
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


# ---- what is no picture


@pytest.mark.parametrize("kind", [k for k in ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "BMP") if k in FORMATS])
def test_a_cut_file_never_passes_with_pixels_missing(kind: str) -> None:
    picture = Image.fromarray(noise(40, 40, 3))
    data = saved(picture, kind)
    whole = decode(data).frames[0]
    for percent in range(0, 100, 5):
        try:
            decoded = decode(data[: len(data) * percent // 100])
        except DecodeError:
            continue
        assert percent == 95, f"{percent} % passed"
        np.testing.assert_array_equal(decoded.frames[0], whole)


@pytest.mark.skipif(not MPO, reason="this Pillow writes MPO files that it cannot read")
@pytest.mark.parametrize("half", [0, 1, 2])
@pytest.mark.parametrize("opened", [io.BytesIO, lambda data: Image.open(io.BytesIO(data))])
def test_each_picture_of_an_mpo_is_there_whole(opened: Any, half: int) -> None:
    frames = [Image.fromarray(noise(64, 64, 3, seed=i)) for i in range(3)]
    data = moving(frames, "MPO")
    assert len(decode(opened(data)).frames) == 3
    starts = [at for at in range(len(data)) if data[at : at + 3] == b"\xff\xd8\xff"]
    start, end = starts[half], [*starts[1:], len(data)][half]
    middle = (start + end) // 2
    lacking = data[:middle] + b"\xff\xd9" + bytes(end - middle - 2) + data[end:]
    assert len(lacking) == len(data)
    with pytest.raises(DecodeError, match="half a picture"):
        decode(opened(lacking))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_a_cut_animation_gives_whole_frames_or_nothing(kind: str) -> None:
    frames = [Image.fromarray(noise(24, 24, seed=i)) for i in range(4)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    whole = [f.tobytes() for f in decode(data).frames]
    for percent in range(0, 100, 5):
        try:
            decoded = decode(data[: len(data) * percent // 100])
        except DecodeError:
            continue
        assert [f.tobytes() for f in decoded.frames] == whole[: len(decoded.frames)]


@pytest.mark.parametrize(
    "source",
    [
        b"",
        bytearray(),
        b"\0",
        b"not a picture",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"P6 2 2 255\n" + b"\0" * 12,  # a real PPM, but not on the list
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"GIF89a",
        b"II*\0\x08\0\0\0",
        png(0, 5),
        png(5, 0),
        b"BM" + b"\0" * 60,
        b"GIF89a\0\0\0\0\x80\0\0\0\0\0\xff\xff\xff\x2c\0\0\0\0\0\0\0\0\0\x02\x02\x44\x01\0;",
        None,
        7,
        [],
        io.StringIO("text"),
        io.BytesIO(),
        "",
        "no such file",
        "nul\0byte",
    ],
)
def test_what_is_no_picture_is_refused(source: Any) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(source)
    assert str(caught.value)


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "EPS", "PCX", "JPEG2000", "PDF", "ICNS", "SGI", "DDS"])
def test_formats_that_are_not_listed_are_refused(kind: str) -> None:
    with pytest.raises(DecodeError, match="save it as"):
        decode(saved(flat(RED, (16, 16)), kind))


@pytest.mark.parametrize(
    ("width", "height", "limit"),
    [
        (60_000, 60_000, "pixels|bomb"),
        (13_300, 13_300, "pixels"),
        (2**31 - 1, 2**31 - 1, "pixels|bomb"),
        (7000, 7000, "pixels"),
        (1, 60_000, "aspect"),
        (2, 40_000, "aspect"),
        (40_000, 2, "aspect"),
        (101, 1, "aspect"),
    ],
)
def test_bombs_are_refused_from_the_header(width: int, height: int, limit: str) -> None:
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(DecodeError, match=limit):
            decode(png(width, height))
    assert time.perf_counter() - started < 0.5


def test_a_picture_at_the_limits_passes() -> None:
    one(saved(flat(RED, (100, 1))))
    one(saved(flat(RED, (20, 10))), limits=Limits(pixels=200, total_pixels=500))
    with pytest.raises(DecodeError, match=r"limits\.total_pixels"):
        decode(saved(flat(RED, (20, 10))), limits=Limits(total_pixels=499))
    with pytest.raises(DecodeError):
        decode(saved(flat(RED, (21, 10))), limits=Limits(pixels=200))


def least(source: Any) -> int:
    """The smallest total with which a picture is decoded: the work that is booked for it."""
    low, high = 0, 1 << 20
    while high - low > 1:
        middle = (low + high) // 2
        try:
            decode(source(), limits=Limits(total_pixels=middle))
            high = middle
        except DecodeError as error:
            assert "limits.total_pixels" in str(error)  # noqa: PT017
            low = middle
    return high


# Half a look to two looks for decoding, and one for looking: measured by benchmarks/files.py.
LOOKS = {"JPEG": 1.55, "PNG": 2.5, "WEBP": 3.0, "AVIF": 3.0, "BMP": 2.0, "GIF": 2.0, "TIFF": 2.0}


@pytest.mark.parametrize("kind", [k for k in LOOKS if k in FORMATS])
def test_the_work_on_a_picture_is_booked_by_its_format(kind: str) -> None:
    data = saved(flat(BLUE, (40, 30)), kind)
    assert least(lambda: data) == 1200 * LOOKS[kind]
    assert least(lambda: Image.open(io.BytesIO(data))) == 1200 * LOOKS[kind]


def test_the_passes_of_a_progressive_jpeg_are_booked() -> None:
    data = saved(flat(BLUE, (40, 30)), "JPEG", progressive=True)
    assert data.count(b"\xff\xda") == 10
    assert least(lambda: data) == 1200 * (1.5 + 10 / 20)


@pytest.mark.skipif(not MPO, reason="this Pillow writes MPO files that it cannot read")
@pytest.mark.parametrize(("progressive", "looks"), [(False, 1.55), (True, 2.0)])
def test_the_frames_of_an_mpo_are_booked_as_jpegs(progressive: bool, looks: float) -> None:
    frames = [flat(BLUE, (160, 125)), flat(RED, (160, 125))]  # each over the least that a frame costs
    data = mended(saved(frames[0], "MPO", save_all=True, append_images=frames[1:], progressive=progressive), 2)
    assert least(lambda: data) == 2 * 20_000 * looks


def test_too_many_frames_are_refused_before_the_first_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = moving([flat((i, 0, 0), (160, 125)) for i in range(40)], "TIFF")
    tiny = moving([flat((i, 0, 0)) for i in range(40)], "TIFF")
    looked_at: list[Any] = []
    appearances = module.appearances
    monkeypatch.setattr(
        module, "appearances", lambda *args, **more: looked_at.append(args) or appearances(*args, **more)
    )
    with pytest.raises(DecodeError, match=r"limits\.total_pixels"):
        decode(data, limits=Limits(total_pixels=40 * 160 * 125 - 1))
    with pytest.raises(DecodeError, match=r"limits\.total_pixels"):
        decode(tiny, limits=Limits(total_pixels=40 * 16_384 - 1))  # what tiny frames cost at the least
    assert looked_at == []


def test_a_picture_beside_the_picture_that_is_over_a_limit_is_refused() -> None:
    data = saved(flat(BLUE, (20, 20)), "JPEG", exif=b"Exif\0\0" + exif(saved(flat(BLUE, (60, 50)), "JPEG")))
    assert len(decode(data).frames) == 2
    with pytest.raises(DecodeError, match=r"thumbnail: 60x50 is over 2999 pixels"):
        decode(data, limits=Limits(pixels=2999))


def test_an_animation_over_the_total_is_refused() -> None:
    data = animation("GIF", count=20)
    with pytest.raises(DecodeError, match=r"limits\.total_pixels"):
        decode(data, limits=Limits(total_pixels=20 * 8 * 6 - 1))


def test_pages_over_the_total_are_refused() -> None:
    pages = [flat(BLUE, (200, 200))] * 2
    data = saved(flat(BLUE, (4, 4)), "TIFF", save_all=True, append_images=pages)
    assert len(decode(data, limits=Limits(total_pixels=160_032)).frames) == 2  # the last two are equal
    with pytest.raises(DecodeError, match=r"limits\.total_pixels"):
        decode(data, limits=Limits(total_pixels=160_031))


@pytest.mark.parametrize(("count", "why"), [(20_000, "over 256 frames"), (500_000, "over 256 frames")])
def test_a_gif_of_nothing_but_frames_costs_little(count: int, why: str) -> None:
    head = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\0\0\0\xff\xff\xff"
    frame = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\x00"
    started = time.perf_counter()
    with pytest.raises(DecodeError, match=why):
        decode(head + frame * count + b";")
    assert time.perf_counter() - started < 1


def test_a_tiff_that_points_at_itself_ends() -> None:
    data = bytearray(saved(flat(RED, (2, 2)), "TIFF"))
    start = struct.unpack("<I", data[4:8])[0]
    entries = struct.unpack("<H", data[start : start + 2])[0]
    data[start + 2 + 12 * entries : start + 6 + 12 * entries] = struct.pack("<I", start)
    with suppress(DecodeError):
        assert shows(decode(bytes(data)), RED)


def test_text_and_profile_bombs_are_refused() -> None:
    bomb = zlib.compress(b"\0" * 100_000_000, 9)
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "b" * 10)
    assert one(saved(flat(RED), pnginfo=info)).shape == (6, 8, 3)
    rows = (b"\0" + bytes(RED)) * 1
    for extra in (chunk(b"zTXt", b"a\0\0" + bomb), chunk(b"iCCP", b"a\0\0" + bomb)):
        with suppress(DecodeError):
            assert one(png(1, 1, rows, extra=extra))[0, 0].tolist() == [*RED]


class Endless(io.RawIOBase):
    """A file without end, which counts what was taken."""

    taken = 0

    def read(self, size: int = -1) -> bytes:
        assert size > 0
        self.taken += min(size, 4096)
        return b"\0" * min(size, 4096)


def test_files_are_read_up_to_the_limit_only(tmp_path: Path) -> None:
    endless, limits = Endless(), Limits(bytes=10_000)
    with pytest.raises(DecodeError, match=r"limits\.bytes"):
        decode(endless, limits=limits)
    assert endless.taken == 10_001
    path = tmp_path / "big.png"
    path.write_bytes(b"\0" * 10_001)
    for source in (path, path.read_bytes(), bytearray(10_001), memoryview(bytes(20_000))[::2]):
        with pytest.raises(DecodeError):
            decode(source, limits=limits)


class Broken(io.RawIOBase):
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def read(self, size: int = -1) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    "answer", [OSError("gone"), ValueError("closed"), RuntimeError(), MemoryError(), None, "text", 7]
)
def test_a_file_object_that_fails(answer: Any) -> None:
    with pytest.raises(DecodeError):
        decode(Broken(answer))


def test_paths_that_are_no_files_are_refused_and_not_told(tmp_path: Path) -> None:
    secret = tmp_path / "secret-folder"
    secret.mkdir()
    (secret / "empty.png").touch()
    paths = [secret, secret / "missing.png", secret / "empty.png", secret / "a" / "b.png"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(secret / "pipe.png")
        paths.append(secret / "pipe.png")
    for path in [*paths, Path(os.devnull)]:
        with pytest.raises(DecodeError) as caught:
            decode(path)
        assert str(tmp_path) not in str(caught.value)
        assert caught.value.__cause__ is None or str(tmp_path) not in str(caught.value.__cause__)


def test_messages_hold_no_control_characters(tmp_path: Path) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(tmp_path / "line\nbreak\x1b[31m.png")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "error",
    [
        Image.DecompressionBombError("x"),
        SyntaxError("x"),
        MemoryError(),
        ZeroDivisionError(),
        RecursionError(),
        OSError("/home/x"),
    ],
)
def test_whatever_pillow_raises_is_a_decode_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(module.Image, "open", fail)
    with pytest.raises(DecodeError, match="save it anew"):
        decode(b"data")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"II*\0", b"MM\0*", b"BM", b"RIFF"]),
    st.binary(max_size=300),
)
def test_random_bytes_are_decoded_or_refused(start: bytes, data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(DecodeError):
            assert decode(start + data).frames


MUTANTS = {kind: animation(kind, count=2, at=1) for kind in ANIMATED} | {
    "JPEG": saved(arrow(), "JPEG"),
    "BMP": saved(arrow(), "BMP"),
}


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(MUTANTS)),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_mutated_files_are_decoded_or_refused(kind: str, edits: list[tuple[float, int]]) -> None:
    data = bytearray(MUTANTS[kind])
    for where, value in edits:
        data[int(where * len(data))] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            decoded = decode(bytes(data), limits=Limits(pixels=1_000_000))
        except DecodeError:
            return
    assert all(f.dtype == np.uint8 and f.ndim == 3 and f.shape[2] == 3 and f.flags.c_contiguous for f in decoded.frames)


# ---- settings


@pytest.mark.parametrize(
    "options",
    [
        {"pixels": 0},
        {"pixels": -1},
        {"pixels": 1.5},
        {"pixels": True},
        {"pixels": "9"},
        {"total_pixels": None},
        {"frames": 1},
        {"aspect": 0.5},
        {"aspect": float("nan")},
        {"aspect": float("inf")},
        {"bytes": 0},
        {"seconds": 0},
        {"process": 1},
        {"memory": 0},
    ],
)
def test_limits_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"limits\.{next(iter(options))} .*(give|say)"):
        Limits(**options)


@pytest.mark.parametrize(
    ("version", "old"), [("9.5.0", True), ("12.3.0", True), ("13.0.0", False), ("14.1", False), ("?", True)]
)
def test_an_old_pillow_is_known(version: str, old: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL, "__version__", version)
    assert pillow_is_old() is old


def test_an_old_pillow_warns_once_and_for_files_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL, "__version__", "12.3.0")
    monkeypatch.setattr(module, "_warned", [])
    data = saved(flat(RED))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decode(flat(RED))
        decode(np.zeros((2, 2, 3), np.uint8))
        assert not caught
        decode(data)
        decode(io.BytesIO(data))
    assert [w.category for w in caught] == [RuntimeWarning]
    assert "pillow>=13.0.0" in str(caught[0].message)
    assert caught[0].filename == __file__


def test_no_torch_is_needed() -> None:
    code = "import sys, nsfw_guard.imaging.decode, nsfw_guard.listeners.audit; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
