"""Whether a file holds all of its picture: decoders fill up what is missing with grey or black and say nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.files.container import Container
from nsfw_guard.imaging.files.formats import opened
from nsfw_guard.imaging.files.sources import whole_files_only


def check_whole(picture: Image.Image, container: Container, data: bytes) -> None:
    """Raises when a file's data end before its picture does: the decoders fill it up with grey or black in silence.

    Only where the picture ends in such a colour is looked closer, since that costs a second look at the data.
    """
    if container.lacks:
        raise DecodeError(f"half a picture: {container.lacks}. Save it anew from its original")
    width, height = picture.size
    if container.is_short is not None:
        suspicious = container.split or _is_flat(picture, (0, height - 1, width, height), 0, 0)
        half = suspicious and container.is_short()
    elif container.filled is not None:
        half = (container.split or _ends_grey(picture, width, height)) and _changes(data, container.filled())
    else:
        half = False
    if half:
        raise DecodeError("half a picture: its data end before it does. Save it anew from its original")


def _changes(data: bytes, filled: bytes) -> bool:
    """Whether more data give another picture. Where it ends in grey because it is grey there, they change nothing."""
    with opened(data) as plain, opened(filled) as other, whole_files_only():
        return not np.array_equal(np.asarray(plain), np.asarray(other))


def check_parts(picture: Image.Image, corners: Sequence[tuple[int, int]]) -> None:
    """Raises when one of the JPEGs that a page is made of ends in the grey that stands in for missing data."""
    if any(_ends_grey(picture, right, bottom) for right, bottom in corners):
        raise DecodeError("a JPEG that it is made of may be half there: save it anew from its original, without JPEG")


def _ends_grey(picture: Image.Image, right: int, bottom: int) -> bool:
    """Whether the last block before a corner is the one flat grey that stands in for missing data."""
    return _is_flat(picture, (max(0, right - 8), max(0, bottom - 8), right, bottom), 127, 129)


def _is_flat(picture: Image.Image, box: tuple[int, int, int, int], low: int, high: int) -> bool:
    extremes = picture.crop(box).getextrema()
    bands = extremes if isinstance(extremes[0], tuple) else (extremes,)
    return all(low <= least and most <= high for least, most in bands)
