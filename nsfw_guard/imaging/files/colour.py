"""Images as colour-managed viewers show them: colour profiles, and declared colours made into profiles."""

from __future__ import annotations

import functools
import io
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from nsfw_guard.errors import DecodeError

MIN_DIFFERENCE = 8  # levels of 255: two appearances that differ by more are judged separately
SRGB_TOLERANCE = 4  # levels: a profile that moves no colour further counts as sRGB
TABLES = (b"A2B0", b"A2B1", b"A2B2", b"A2B3", b"D2B0", b"D2B1", b"D2B2", b"D2B3")
CLASSES = {b"scnr", b"mntr", b"prtr", b"spac"}  # of profiles for images: input, display, output, colour space
LARGEST_PROFILE, MOST_TAGS = 4 << 20, 100  # LittleCMS reads no more tags, others might
D50 = (0.9642, 1.0, 0.8249)
D65 = (0.3127, 0.3290)
SRGB = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
# ITU-T H.273: white point, then red, green and blue, by the number of the primaries.
PRIMARIES = {
    1: SRGB, 4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08), 5: (*D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07), 7: (*D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    8: (0.310, 0.316, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049), 9: (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06), 12: (*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    22: (*D65, 0.63, 0.34, 0.295, 0.605, 0.155, 0.077),
}  # fmt: skip


def converted_appearances(image: Image.Image, profile: bytes) -> Iterator[Image.Image]:
    """Yield an opaque image in RGB as viewers that follow a profile show it, once for each way of reading it.

    A profile may hold curves and several tables, and viewers differ in which they follow. None follows a profile that
    cannot be read or is made for another kind of image.
    """
    for reading, intent in _readings(profile) if count_readings(profile) else ():
        shown = _shown(image, reading, intent)
        if shown is not None:
            yield shown


def count_readings(profile: bytes) -> int:
    """Return the number of ways to read a profile; 0 for one that changes nothing or cannot be read."""
    is_profile = profile[36:40] == b"acsp"
    tags = int.from_bytes(profile[128:132], "big") if is_profile else 0
    if len(profile) > LARGEST_PROFILE or tags > MOST_TAGS:
        raise DecodeError("its colour profile is too large: save the image without it, or as sRGB")
    is_usual = profile[12:16] in CLASSES or profile[16:20] == b"Lab "  # of LAB images they are called abstract
    if is_profile and not (is_usual and len(_tags(profile)) == tags and _is_readable(profile)):
        raise DecodeError("viewers do not agree on its colour profile: save the image without it, or as sRGB")
    return len(_readings(profile))


def differs(one: Image.Image, other: Image.Image) -> bool:
    """Return whether two RGB images of one size differ by more than a few levels anywhere."""
    width, height = one.size
    rows = max(1, 4_000_000 // width)  # strips, so that no large copies are held
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        a, b = (np.asarray(image.crop(box)).astype(np.int16) for image in (one, other))
        if int(np.abs(a - b).max()) > MIN_DIFFERENCE:
            return True
    return False


@functools.lru_cache(maxsize=8)  # each key is a whole profile
def _readings(profile: bytes) -> tuple[tuple[bytes, int], ...]:
    """The ways of reading a profile: each table's intent, and the curves alone; none for a usual one."""
    tags = _tags(profile)
    tables = [tag for tag in TABLES if tag in tags]
    if _transform(profile, 0) is None:
        return ()
    if not tables:
        return () if _is_usual(profile) else ((profile, 0),)
    named = [i for i in (1, 2) if {b"A2B%d" % i, b"D2B%d" % i} & set(tags)]
    readings = [(profile, intent) for intent in (0, *named)]
    if any(tag.startswith(b"D2B") for tag in tables):
        plain = _without(profile, [tag for tag in tables if tag.startswith(b"D2B")])
        readings += [(plain, intent) for _, intent in readings]
    if {b"rTRC", b"kTRC"} & set(tags):
        readings.append((_without(profile, tables), 0))
    return tuple(readings)


def _tags(profile: bytes) -> dict[bytes, int]:
    """The tags of a profile, with the place of each entry."""
    count = int.from_bytes(profile[128:132], "big") if len(profile) >= 132 else 0
    places = range(132, 132 + 12 * min(count, 200), 12)
    return {profile[at : at + 4]: at for at in places if at + 12 <= len(profile)}


def _without(profile: bytes, tags: Sequence[bytes]) -> bytes:
    """The same profile with some tags renamed to unknown names."""
    out, places = bytearray(profile), _tags(profile)
    for tag in tags:
        out[places[tag] : places[tag] + 4] = b"x" + tag[1:].lower()
    return bytes(out)


def _is_usual(profile: bytes) -> bool:
    """Whether curves and primaries are those of sRGB: every level of each channel, and of grey, stays where it is."""
    ramp = np.arange(256, dtype=np.uint8)
    rows = np.zeros((8, 256, 3), np.uint8)
    for row in range(1, 8):  # each channel, each pair, and grey
        rows[row] = np.stack([ramp if row >> channel & 1 else 0 * ramp for channel in range(3)], -1)
    shown = _shown(Image.fromarray(rows), profile, 0)
    return shown is not None and int(np.abs(np.asarray(shown).astype(int) - rows).max()) <= SRGB_TOLERANCE


def _shown(image: Image.Image, profile: bytes, intent: int) -> Image.Image | None:
    transform = _transform(profile, intent)
    if transform is None:
        return None
    mode = transform.input_mode
    if mode in {"CMYK", "LAB"} and image.mode != mode:
        return None  # no viewer can look up such values
    fitting = image if image.mode == mode else image.convert(mode)
    shown: Image.Image = transform.apply(fitting)
    return shown


@functools.lru_cache(maxsize=8)
def _is_readable(profile: bytes) -> bool:
    """Whether colour management accepts a profile; true where Pillow has no colour management."""
    try:
        from PIL import ImageCms
    except ImportError:
        return True
    try:
        return bool(ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space)
    except Exception:  # noqa: BLE001 - junk that calls itself a profile
        return False


@functools.lru_cache(maxsize=8)
def _transform(profile: bytes, intent: int) -> Any:
    """The way from a profile's colours to sRGB, or None where there is none."""
    try:
        from PIL import ImageCms

        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = str(given.profile.xcolor_space).strip()
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB", "LAB": "LAB"}.get(space)
        if mode is None:
            return None
        target = ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(given, target, mode, "RGB", renderingIntent=ImageCms.Intent(intent))
    except Exception:  # noqa: BLE001 - junk, another kind of profile, or no colour management here: viewers ignore it too
        return None


def gamma_profile(exponent: float, points: Sequence[float]) -> Iterator[bytes]:
    """Return a declared gamma (0 for none) and the places of white and primaries (none for sRGB's) as a profile."""
    if exponent and not 0.01 <= exponent <= 10:
        return
    curve = _srgb_curve if not exponent else lambda level: level ** (1 / exponent)
    yield from _profile(points or SRGB, curve)


def cicp_profile(*, primaries: int, transfer: int) -> Iterator[bytes]:
    """Yield colours declared by the numbers of ITU-T H.273 as a profile. Brighter than white is shown as white."""
    curve = {
        1: _film_curve, 6: _film_curve, 14: _film_curve, 15: _film_curve, 4: lambda v: v**2.2, 5: lambda v: v**2.8,
        8: lambda v: v, 13: _srgb_curve, 16: _pq_curve, 17: lambda v: v**2.6, 18: _hlg_curve,
    }.get(transfer, _srgb_curve)  # fmt: skip
    yield from _profile(PRIMARIES.get(primaries, SRGB), curve)


def _srgb_curve(level: float) -> float:
    return level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4


def _film_curve(level: float) -> float:
    return float(level**2.4)  # a display of the standard: the camera's own curve is not undone


def _pq_curve(level: float) -> float:
    """SMPTE ST 2084, with the usual white of 203 candelas as 1."""
    power = level ** (1 / 78.84375)
    light = max(power - 0.8359375, 0.0) / (18.8515625 - 18.6875 * power)
    return float(min(light ** (1 / 0.1593017578125) * 10_000 / 203, 1.0))


def _hlg_curve(level: float) -> float:
    """ARIB STD-B67, with the usual white at three quarters as 1."""
    light = level**2 / 3 if level <= 0.5 else (math.exp((level - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return min(light / 0.265, 1.0)


def _profile(points: Sequence[float], curve: Callable[[float], float]) -> Iterator[bytes]:
    """A profile (ICC version 2) of these primaries and this curve; nothing for places that make no colours."""
    columns = _colorants(points)
    if columns is None:
        return
    levels = [min(max(round(curve(i / 1023) * 65535), 0), 65535) for i in range(1024)]
    table = b"curv" + bytes(4) + struct.pack(">L1024H", 1024, *levels)
    tags = {b"wtpt": _xyz(D50), b"rTRC": table, b"gTRC": table, b"bTRC": table, b"desc": _description()}
    tags |= {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
    body, index, at = b"", b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        index += name + struct.pack(">LL", at + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">L4sL4s4s4s", at + len(body), b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head = (head + bytes(12) + b"acsp").ljust(68, b"\0") + struct.pack(">3l", *(round(v * 65536) for v in D50))
    yield head.ljust(128, b"\0") + struct.pack(">L", len(tags)) + index + body


def _description() -> bytes:
    return b"desc" + bytes(4) + struct.pack(">L", 9) + b"declared\0" + bytes(78)


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3l", *(round(v * 65536) for v in values))


def _colorants(points: Sequence[float]) -> list[tuple[float, ...]] | None:
    """Red, green and blue in CIE XYZ at D50, from white and primaries as x and y."""
    pairs = [(points[i], points[i + 1]) for i in range(0, 8, 2)]
    if any(not (0 < y <= 1 and 0 <= x <= 1) for x, y in pairs):
        return None
    white, *colours = [np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in pairs]
    matrix = np.stack(colours, 1)
    if abs(np.linalg.det(matrix)) < 1e-6:
        return None
    scaled = matrix * np.linalg.solve(matrix, white)
    cone = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])  # Bradford
    ratio = np.diag((cone @ np.array(D50)) / (cone @ white))
    adapted = np.linalg.solve(cone, ratio @ cone @ scaled)
    if not np.isfinite(adapted).all() or np.abs(adapted).max() > 100:
        return None
    return [tuple(column) for column in adapted.T]
