"""Converts a loaded PIL image to upright, opaque 8-bit RGB: several twins where viewers would show it differently.

Some viewer shows what lies under an alpha channel, in the upper 8 of 16 bits or behind a colour profile, so each
of these is judged.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.files.colour import converted_appearances, count_readings, differs
from nsfw_guard.imaging.files.tiffs import Directory, directories

Frame = NDArray[np.uint8]

_ORIENTATION = 0x0112
UPRIGHT = (0, False)
# quarter turns to the left after a mirroring, by the EXIF number
_TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (1, True), 6: (3, False), 7: (3, True), 8: (1, False)}
ON_A_GROUND, MANAGED = 2.0, 1.5  # measured, against one look at a plain image
_PHOTOMETRIC = 0x0106
_STRIP = 4_000_000  # pixels that are held as wide numbers at a time


def appearances(
    image: Image.Image, profiles: Sequence[bytes] = (), *, seen: set[bytes] | None = None
) -> Iterator[Frame]:
    """Yield every opaque twin of the current frame: the plain one, or with transparency on black, on white and bare.

    They are made one by one, since large ones do not all fit into memory. No two are equal.

    Args:
        image: any PIL image.
        profiles: colours that its file declares beside the profile that the image carries itself.
        seen: hashes of earlier frames, which are not yielded again; those of this image are added.

    Shape: each (H, W, 3) uint8, C-contiguous, its own memory.
    """
    image.load()
    ways = _turns(image)
    several = work(image, profiles) > 1
    seen = set() if seen is None and several else seen
    for flat in _twins(image, profiles):
        plain: Frame = np.array(flat)
        for turns, mirrored in ways:
            frame = np.ascontiguousarray(np.rot90(plain[:, ::-1] if mirrored else plain, turns))
            if seen is None or _is_new(frame, seen):
                yield frame


def _is_new(frame: Frame, seen: set[bytes]) -> bool:
    digest = hashlib.sha256(repr(frame.shape).encode())
    digest.update(frame.data.cast("B"))
    before = len(seen)
    seen.add(digest.digest())
    return len(seen) > before


def work(image: Image.Image, profiles: Sequence[bytes] = ()) -> float:
    """Return the work on the twins of an image, as a multiple of its pixels: 1 where it has no other twin."""
    of_each = 3 * ON_A_GROUND if _clear(image) else 1.0
    of_each *= _count_narrowed(image)
    managed = sum(count_readings(profile) for profile in declared(image, profiles))
    return (of_each + managed * (MANAGED + of_each)) * len(_turns(image))


def clear_rgba(image: Image.Image) -> Image.Image:
    """Return an image as RGBA, without colour management, transparent wherever any rule makes it so."""
    plain = _narrow(image) if image.mode.startswith(("I", "F")) else image
    return (plain.convert("LA") if plain.mode == "La" else plain).convert("RGBA")


def declared(image: Image.Image, profiles: Sequence[bytes]) -> list[bytes]:
    """Return the profile embedded in an image, and those that its file declares beside it."""
    embedded = image.info.get("icc_profile")
    return [*([embedded] if isinstance(embedded, bytes) else []), *profiles]


def _turns(image: Image.Image) -> list[tuple[int, bool]]:
    """The ways in which viewers turn an image: quarter turns to the left, after a mirroring. More where they differ.

    All of them follow one plain entry of the EXIF block; one that stands elsewhere, or is written oddly, only some.
    """
    if image.format == "TIFF":  # Pillow turned it when it loaded; before 10 it keeps the tag all the same
        return [UPRIGHT]
    first = _first_directory(image)  # refuses what would take Pillow minutes to read
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
        turn = _TURNS.get(orientation[0] if isinstance(orientation, tuple) else orientation, UPRIGHT)
    except Exception:  # noqa: BLE001 - EXIF is an ornament: when it is corrupt, a viewer shows the pixels as they are
        return [UPRIGHT]
    return [turn] if turn == UPRIGHT or _is_agreed(image, first) else [turn, UPRIGHT]


def _first_directory(image: Image.Image) -> Directory | None:
    """The first directory of an image's EXIF block.

    Raises:
        DecodeError: it is longer than any in use, or its entries lie over each other.
    """
    block = image.info.get("exif")
    if not isinstance(block, bytes):
        return None
    return next(directories(block[6:] if block.startswith(b"Exif\0\0") else block, most=1), None)


def _is_agreed(image: Image.Image, first: Directory | None) -> bool:
    """Whether the orientation stands where every viewer reads it: one short number in the first EXIF directory."""
    if image.format == "AVIF" or not isinstance(image.info.get("exif"), bytes):
        return image.format is None  # set by its user, on an image that is no file
    value = first.entries.get(_ORIENTATION) if first else None
    return value is not None and value.kind == 3 and len(value.data) == 2


def _twins(image: Image.Image, profiles: Sequence[bytes]) -> Iterator[Image.Image]:
    profiles = declared(image, profiles)
    for shown in _narrowed(image) if image.mode.startswith(("I", "F")) else (image,):
        yield from _on_grounds(shown, profiles)


def _on_grounds(image: Image.Image, profiles: Sequence[bytes]) -> Iterator[Image.Image]:
    """An image of 8 bits, on black and on white where it is clear, and bare."""
    alpha = None
    if _clear(image):
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        alpha = image.getchannel("A")
        alpha = None if alpha.getextrema() == (255, 255) else alpha
    for flat in _colours(image, profiles):
        if alpha is not None:
            for level in (0, 255):
                page = Image.new("RGB", flat.size, (level, level, level))
                page.paste(flat, mask=alpha)
                yield page
        yield flat


def _colours(image: Image.Image, profiles: Sequence[bytes]) -> Iterator[Image.Image]:
    """The image by its numbers, and as colour-managed viewers show it, where that is another image."""
    plain = image.convert("RGB")
    yield plain
    kept: list[Image.Image] = []
    native = image if image.mode in {"L", "CMYK", "LAB"} else plain
    for profile in profiles:
        for shown in converted_appearances(native, profile):
            if differs(shown, plain) and all(differs(shown, other) for other in kept):
                kept.append(shown)
                yield shown


def _clear(image: Image.Image) -> bool:
    if image.mode == "P" and image.palette is not None and image.palette.mode.endswith("A"):
        return True
    named = image.mode in {"1", "L", "P", "RGB"} and "transparency" in image.info
    return named or image.mode in {"RGBA", "RGBa", "LA", "La", "PA"}


def _narrow(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits as 8 bits, by its range."""
    return next(_narrowed(image))


def _narrowed(image: Image.Image) -> Iterator[Image.Image]:
    """Grey of more than 8 bits as 8 bits: by its range, then as other viewers cut it, and inverted where it says so.

    One outlier makes all other levels of a range look the same, but a viewer that clips shows them. A plain convert
    clips 16 bits to white.
    """
    wide = np.asarray(image)
    low, high = float(wide.min()), float(wide.max())
    if not (math.isfinite(low) and math.isfinite(high)):  # numpy's min and max carry a NaN on
        raise DecodeError("the image contains NaN or infinity: save it as 8-bit PNG")
    levels = _cut_at(image)
    ranges = [_range(image, low, high), *((0.0, most) for most in levels if low < 0 or high > most)]
    clear = image.info.get("transparency")
    inverted = _is_inverted(image)
    for start, span in dict.fromkeys(ranges):
        grey = _levels(wide, start, span)
        for shown in (grey, 255 - grey) if inverted else (grey,):
            grey8 = Image.fromarray(shown)
            if isinstance(clear, int):
                mask = Image.fromarray(np.where(wide == clear, 0, 255).astype(np.uint8))
                grey8 = Image.merge("LA", (grey8, mask))
            yield grey8


def _count_narrowed(image: Image.Image) -> float:
    """How many readings of grey of more than 8 bits there may be; 1 for all else."""
    return (1.0 + len(_cut_at(image))) * (2.0 if _is_inverted(image) else 1.0)


def _cut_at(image: Image.Image) -> list[float]:
    """Where viewers cut off that do not go by the range; 16 bits are read by all of theirs."""
    return [] if _is_wide_png(image) else {"I": [255.0], "F": [255.0, 1.0]}.get(image.mode, [])


def _is_wide_png(image: Image.Image) -> bool:
    """Whether older Pillow opened a PNG of 16 bits."""
    return image.mode == "I" and image.format == "PNG"


def _is_inverted(image: Image.Image) -> bool:
    """Whether a TIFF of wide grey says that zero is white, which Pillow turns in 8 bits only."""
    return image.mode.startswith(("I", "F")) and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0


def _range(image: Image.Image, low: float, high: float) -> tuple[float, float]:
    """Where black is, and how far from it white."""
    if image.mode.startswith("I;16") or _is_wide_png(image):
        return 0.0, 65535.0
    if low < 0 or (image.mode == "F" and high > 255):
        return low, high - low
    return 0.0, 1.0 if image.mode == "F" and high <= 1 else max(high, 255.0)


def _levels(wide: NDArray[Any], start: float, span: float) -> NDArray[np.uint8]:
    grey = np.empty(wide.shape, np.uint8)
    rows = max(1, _STRIP // max(1, wide.shape[1]))
    for top in range(0, wide.shape[0], rows):
        strip = wide[top : top + rows].astype(np.float64)
        grey[top : top + rows] = ((strip - start) * (255.0 / (span or 1.0))).clip(0, 255).round().astype(np.uint8)
    return grey
