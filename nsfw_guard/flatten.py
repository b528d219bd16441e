"""One loaded PIL picture as upright, opaque 8-bit RGB: several twins where viewers would not agree on what it shows.

What lies under an alpha channel, in the upper 8 of 16 bits or behind a colour profile is seen by somebody.
"""

from __future__ import annotations

import functools
import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nsfw_guard.errors import DecodeError

Frame = NDArray[np.uint8]

_ORIENTATION = 0x0112
# quarter turns to the left after a mirroring, by the EXIF number
_TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (1, True), 6: (3, False), 7: (3, True), 8: (1, False)}
_SHIFT = 64  # levels of 255: what usual profiles stay below, so that their pictures have no second twin


def flatten(picture: Image.Image) -> list[Frame]:
    """Every opaque twin of the frame that stands there: the plain one, or with transparency on black, on white, bare.

    Shape: each (H, W, 3) uint8, C-contiguous, its own memory; no two are equal.
    """
    picture.load()
    turns, mirrored = _turn(picture)
    seen: list[Frame] = []
    for flat in _twins(picture):
        frame: Frame = np.array(flat)
        frame = np.ascontiguousarray(np.rot90(frame[:, ::-1] if mirrored else frame, turns))
        if not any(np.array_equal(frame, other) for other in seen):
            seen.append(frame)
    return seen


def _turn(picture: Image.Image) -> tuple[int, bool]:
    if picture.format == "TIFF":  # Pillow turned it when it loaded; before 10 it keeps the tag all the same
        return 0, False
    try:
        return _TURNS.get(picture.getexif().get(_ORIENTATION, 1), (0, False))
    except Exception:  # noqa: BLE001 - EXIF is an ornament: when it is corrupt, a viewer shows the pixels as they are
        return 0, False


def _twins(picture: Image.Image) -> list[Image.Image]:
    profile = picture.info.get("icc_profile")
    if picture.mode.startswith(("I", "F")):
        picture = _narrow(picture)
    alpha = None
    if _clear(picture):
        picture = (picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA")
        alpha = picture.getchannel("A")
    flats = [picture.convert("RGB")]
    if isinstance(profile, bytes) and _shifts(profile):
        flats.append(_managed(flats[0], profile))
    if alpha is None or alpha.getextrema() == (255, 255):
        return flats
    pages = [Image.new("RGB", flats[0].size, (level, level, level)) for _ in flats for level in (0, 255)]
    for page, flat in zip(pages, [flat for flat in flats for _ in (0, 255)], strict=True):
        page.paste(flat, mask=alpha)
    return pages + flats


def _clear(picture: Image.Image) -> bool:
    if picture.mode == "P" and picture.palette is not None and picture.palette.mode.endswith("A"):
        return True
    named = picture.mode in {"1", "L", "P", "RGB"} and "transparency" in picture.info
    return named or picture.mode in {"RGBA", "RGBa", "LA", "La", "PA"}


def _narrow(picture: Image.Image) -> Image.Image:
    """Grey of more than 8 bits as 8 bits, by its range: a plain convert clips nearly all of it to white."""
    wide = np.asarray(picture).astype(np.float64)
    low, high = float(wide.min()), float(wide.max())
    if not (math.isfinite(low) and math.isfinite(high)):  # numpy's min and max carry a NaN on
        raise DecodeError("holds numbers that are not finite: save it as 8-bit PNG")
    start, span = 0.0, max(high, 255.0)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
        span = 65535.0
    elif low < 0 or (picture.mode == "F" and high > 255):
        start, span = low, high - low
    elif picture.mode == "F" and high <= 1:
        span = 1.0
    grey = Image.fromarray(((wide - start) * (255.0 / (span or 1.0))).round().astype(np.uint8))
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        return Image.merge("LA", (grey, Image.fromarray(np.where(wide == clear, 0, 255).astype(np.uint8))))
    return grey


@functools.lru_cache(maxsize=32)
def _shifts(profile: bytes) -> bool:
    """Whether a viewer that follows this colour profile shows another picture than one that does not."""
    levels = np.linspace(0, 255, 16, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3)
    try:
        shown = np.asarray(_managed(Image.fromarray(cube), profile)).astype(int)
    except Exception:  # noqa: BLE001 - junk, a profile of another kind, or no colour management here: viewers ignore it too
        return False
    return int(np.abs(shown - cube).max()) > _SHIFT


def _managed(picture: Image.Image, profile: bytes) -> Image.Image:
    from PIL import ImageCms

    given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    managed = ImageCms.profileToProfile(picture, given, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert managed is not None  # noqa: S101 - None is the answer only where the picture is changed in place
    return managed
