"""PDQ, a published perceptual hash: 256 bits that stay nearly the same when an image is resized or compressed.

The steps are those of the paper and of the published code: luma, two passes of a box filter (Jarosz) down to 64x64,
the lowest 16x16 frequencies of a cosine transform, and one bit for each that is above their median. Both the filter
and the transform are linear in each direction, so that an image takes two matrix products.
"""

from __future__ import annotations

import functools
import string
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsfw_guard.errors import ConfigError, ImageError

BITS = 256
MATCH = 31  # bits; the distance up to which the authors call two images the same
LEAST_QUALITY = 50  # below it the authors advise against comparing
VARIANTS = ("original", "rotate90", "rotate180", "rotate270", "flip_x", "flip_y", "flip_plus1", "flip_minus1")
_SIDE, _KEPT = 64, 16
_BLOCK = 1 << 16  # pixels that are filtered at a time
_LEAST = 5  # smaller sides have no hash, as in the published code
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Pdq:
    """The PDQ hash of an image: 64 hexadecimal digits, and how much there was to see, from 0 to 100.

    The authors advise against comparing hashes with a quality below 50: a flat image has hardly any bit that is not
    noise.

    Example:
        ```python
        from nsfw_guard.imaging.pdq import distance, pdq

        distance(pdq(pixels), pdq(pixels[::2, ::2])) <= 31
        ```
    """

    hex: str
    quality: int = 100

    def __post_init__(self) -> None:
        if not isinstance(self.hex, str) or len(self.hex) != BITS // 4 or not set(self.hex) <= set("0123456789abcdef"):
            raise ConfigError(f"a PDQ hash has 64 small hexadecimal digits, got {_short(self.hex)}: use Pdq.parse")
        if not isinstance(self.quality, int) or isinstance(self.quality, bool) or not 0 <= self.quality <= 100:
            raise ConfigError(f"the quality of a PDQ hash is a whole number from 0 to 100, got {self.quality!r}")

    def __str__(self) -> str:
        return f"{self.hex},{self.quality}"

    @classmethod
    def parse(cls, text: str) -> Pdq:
        """Read a hash from text: 64 hexadecimal digits in either case, or such digits, a comma and the quality.

        Example:
            ```python
            Pdq.parse("f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22,100")
            ```
        """
        if not isinstance(text, str):
            raise ConfigError(
                f"a PDQ hash is a text of 64 hexadecimal digits, got {type(text).__name__}: pass its text"
            )
        digits, comma, quality = (part.strip() for part in text.strip().partition(","))
        if len(digits) != BITS // 4:
            raise ConfigError(f"a PDQ hash has 64 hexadecimal digits, got {len(digits)}: copy it whole")
        if wrong := sorted(set(digits) - set(string.hexdigits)):
            raise ConfigError(f"a PDQ hash has only hexadecimal digits, got {''.join(wrong)!r} in it: copy it again")
        if comma and not (quality.isdecimal() and quality.isascii() and len(quality) <= 3):
            raise ConfigError(
                f"after the comma stands the quality, 0 to 100, got {_short(quality)}: omit it, or correct it"
            )
        return cls(digits.lower(), int(quality) if comma else 100)


def pdq(pixels: NDArray[np.uint8]) -> Pdq:
    """Return the hash of an image. Shape: uint8 (H, W, 3) RGB, or (H, W) grey.

    A side below 5 pixels gives 64 zeros and quality 0, as in the published code.
    """
    small, waves = _reduced(pixels)
    return _hashed(waves, _quality(small))


def pdq_variants(pixels: NDArray[np.uint8]) -> dict[str, Pdq]:
    """Return the hashes of an image in all eight positions (`VARIANTS`), from one transform.

    They are those of the published code, which turns the transform and not the image: hashes of images that were
    really turned differ from them by some bits, since the filter's window is not symmetric.
    """
    small, waves = _reduced(pixels)
    quality = _quality(small)
    odd = np.where(np.arange(_KEPT) % 2, 1.0, -1.0)
    rows, columns = waves * odd[:, None], waves * odd[None, :]
    both = rows * odd[None, :]
    turned = (waves, columns.T, both, rows.T, rows, columns, waves.T, both.T)
    return {name: _hashed(each, quality) for name, each in zip(VARIANTS, turned, strict=True)}


def distance(a: Pdq, b: Pdq) -> int:
    """Return the number of bits in which two hashes differ, 0 to 256; up to 31 are taken as the same image."""
    return (int(a.hex, 16) ^ int(b.hex, 16)).bit_count()


def _reduced(pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The image in 64x64 luma, and its lowest frequencies but for the constant ones."""
    _check(pixels)
    height, width = pixels.shape[:2]
    if min(height, width) < _LEAST:
        return np.zeros((_SIDE, _SIDE)), np.zeros((_KEPT, _KEPT))
    rows, step = np.zeros((_SIDE, width), np.float32), max(1, _BLOCK // width)
    for top in range(0, height, step):  # in strips that stay in the processor's cache: half the time
        rows += _filter(height)[:, top : top + step] @ _luma(pixels[top : top + step])
    small = rows.astype(np.float64) @ _filter(width).T.astype(np.float64)
    return small, _cosines() @ small @ _cosines().T


def _check(pixels: NDArray[np.uint8]) -> None:
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        given = pixels.dtype if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise ImageError(f"PDQ reads a NumPy array of uint8, got {given}: decode the image, or scale and round it")
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)) or 0 in pixels.shape:
        raise ImageError(f"PDQ reads (H, W, 3) or (H, W), at least one pixel, got {pixels.shape}: convert it to RGB")


def _luma(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    if pixels.ndim == 2:
        return pixels.astype(np.float32)
    luma: NDArray[np.float32] = pixels[..., 0] * _LUMA[0]
    luma += pixels[..., 1] * _LUMA[1]
    luma += pixels[..., 2] * _LUMA[2]
    return luma


@functools.lru_cache(maxsize=32)
def _filter(length: int) -> NDArray[np.float32]:
    """Two box filters and the choice of 64 of their values, as one matrix. Shape: (64, length).

    A window of n pixels has one more to the right than to the left where n is even; at the ends it has only those
    pixels that are there.
    """
    window = (length + 2 * _SIDE - 1) // (2 * _SIDE)
    right = (window + 2) // 2
    places = np.arange(length)
    first, last = np.maximum(places - (window - right), 0), np.minimum(places + right, length)
    matrix = np.zeros((_SIDE, length + 1))
    for row, place in zip(matrix, ((np.arange(_SIDE) + 0.5) * length / _SIDE).astype(int), strict=True):
        inner = slice(first[place], last[place])
        share = 1.0 / (last[inner] - first[inner]) / (last[place] - first[place])
        np.add.at(row, first[inner], share)
        np.add.at(row, last[inner], -share)
    summed: NDArray[np.float32] = np.cumsum(matrix, axis=1)[:, :-1].astype(np.float32)
    return summed


@functools.lru_cache(maxsize=1)
def _cosines() -> NDArray[np.float64]:
    """The rows 1 to 16 of the cosine transform of 64 values."""
    row, column = np.arange(1, _KEPT + 1)[:, None], np.arange(_SIDE)[None, :]
    return np.asarray(np.sqrt(2 / _SIDE) * np.cos(np.pi / 2 / _SIDE * row * (2 * column + 1)))


def _quality(small: NDArray[Any]) -> int:
    """The sum of the steps between neighbours, in whole percent so that small ones count as none."""
    steps = (np.abs(np.diff(small.astype(np.float32), axis=axis)) * 100 / 255 for axis in (0, 1))
    return min(100, sum(int(step.astype(np.int64).sum()) for step in steps) // 90)


def _hashed(waves: NDArray[Any], quality: int) -> Pdq:
    """One bit per frequency above the lower median; the last one is written first."""
    flat = waves.ravel()
    bits = flat > np.partition(flat, BITS // 2 - 1)[BITS // 2 - 1]
    return Pdq(np.packbits(bits[::-1]).tobytes().hex(), quality)


def _short(value: object) -> str:
    return repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:80]}..."
