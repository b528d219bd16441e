"""Checks that a file is complete: decoders fill missing data with grey or black without an error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.files.container import Container
from nsfw_guard.imaging.files.formats import opened
from nsfw_guard.imaging.files.sources import whole_files_only


def check_whole(image: Image.Image, container: Container, data: bytes) -> None:
    """Raise an error when the data of a file end before its image does.

    It is checked closely only where the image ends in grey or black, since that means decoding the data again.
    """
    if container.lacks:
        raise DecodeError(f"the image is incomplete ({container.lacks}): save it again from its original")
    width, height = image.size
    if container.is_short is not None:
        suspicious = container.split or _is_flat(image, (0, height - 1, width, height), 0, 0)
        half = suspicious and container.is_short()
    elif container.filled is not None:
        half = (container.split or _ends_grey(image, width, height)) and _changes(data, container.filled())
    else:
        half = False
    if half:
        raise DecodeError("the image is incomplete (its data end too early): save it again from its original")


def _changes(data: bytes, filled: bytes) -> bool:
    """Whether more data change the image. They do not where it ends in grey because it is grey there."""
    with opened(data) as plain, opened(filled) as other, whole_files_only():
        return not np.array_equal(np.asarray(plain), np.asarray(other))


def check_parts(image: Image.Image, corners: Sequence[tuple[int, int]]) -> None:
    """Raise an error when one of the JPEGs in a page ends in the grey that replaces missing data."""
    if any(_ends_grey(image, right, bottom) for right, bottom in corners):
        raise DecodeError("a JPEG inside the TIFF may be incomplete: save it again from its original, without JPEG")


def _ends_grey(image: Image.Image, right: int, bottom: int) -> bool:
    """Whether the last block before a corner is the flat grey that replaces missing data."""
    return _is_flat(image, (max(0, right - 8), max(0, bottom - 8), right, bottom), 127, 129)


def _is_flat(image: Image.Image, box: tuple[int, int, int, int], low: int, high: int) -> bool:
    extremes = image.crop(box).getextrema()
    bands = extremes if isinstance(extremes[0], tuple) else (extremes,)
    return all(low <= least and most <= high for least, most in bands)
