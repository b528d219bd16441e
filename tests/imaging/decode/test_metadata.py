"""EXIF orientation and colour profiles."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from nsfw_guard.imaging.decode import decode
from nsfw_guard.imaging.files.formats import FORMATS
from tests.imaging.decode.files import BLUE, RED, arrow, flat, noise, one, saved

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
    image = Image.fromarray(noise(8, 12, 3))
    np.testing.assert_array_equal(one(saved(image, kind, exif=exif)), one(saved(image, kind)))


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
    image = Image.fromarray(noise(8, 8, 3))
    np.testing.assert_array_equal(one(saved(image, icc_profile=icc)), np.asarray(image))


def test_what_a_strange_profile_shows_is_judged_too() -> None:
    data = saved(flat(BLUE), icc_profile=profile(swapped=True))
    plain, managed = decode(data).frames
    assert plain[0, 0].tolist() == [*BLUE]
    assert np.abs(managed[0, 0].astype(int) - RED).max() <= 4
    faint = decode(saved(flat((*BLUE, 128), mode="RGBA"), icc_profile=profile(swapped=True)))
    assert len(faint.frames) == 6
