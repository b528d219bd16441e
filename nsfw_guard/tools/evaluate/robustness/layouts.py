"""Changes that put an image among harmless ones: collages and strips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from PIL import Image, ImageOps

CELL = 512  # the longer side of a cell, at most
GUTTER = 1 / 32  # of the shorter side of a cell
POOL = 64  # harmless images that are held to fill cells with

Layout = Callable[[Image.Image, Sequence[Image.Image], np.random.Generator], Image.Image]


def small(image: Image.Image) -> Image.Image:
    """Return a copy that is no larger than a cell may be."""
    copy = image.copy()
    copy.thumbnail((CELL, CELL), Image.Resampling.BICUBIC)
    return copy


def _placed(
    image: Image.Image, others: Sequence[Image.Image], rng: np.random.Generator, *, columns: int, rows: int
) -> Image.Image:
    """The image in one of the cells, each of its size; harmless ones, cropped to that size, in the others."""
    cell = small(image)
    gap = max(1, round(min(cell.size) * GUTTER))
    size = columns * cell.width + (columns - 1) * gap, rows * cell.height + (rows - 1) * gap
    ground, at = Image.new("RGB", size, "white"), int(rng.integers(columns * rows))
    for i in range(columns * rows):
        other = cell if i == at else ImageOps.fit(others[int(rng.integers(len(others)))], cell.size)
        ground.paste(other, (i % columns * (cell.width + gap), i // columns * (cell.height + gap)))
    return ground


LAYOUTS: Mapping[str, Layout] = {
    **{f"collage {n} x {n}": partial(_placed, columns=n, rows=n) for n in (2, 3, 4)},
    "strip 4:1": partial(_placed, columns=4, rows=1),
    "strip 1:4": partial(_placed, columns=1, rows=4),
}
