"""The preprocessing and postprocessing of NudeNet 3.4.2: OpenCV's arithmetic, bit for bit, without OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CANDIDATE, KEPT, OVERLAP = 0.2, 0.25, 0.45  # a box is a candidate from, kept above, and suppressed above this overlap
ONE = 1 << 11  # a whole weight in OpenCV's fixed-point resize

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Box:
    """A box in pixels of the image, with the index of its class."""

    label: int
    score: float
    left: float
    top: float
    width: float
    height: float


def letterbox(levels: Tensor, side: int) -> Tensor:
    """Return images at the upper left of a black square, resized as cv2.resize does. Shape: uint8 (N, 3, H, W).

    The square is never built: for a long strip it would be a hundred times as large as the image.
    """
    height, width = levels.shape[-2:]
    above, below, upper, lower = _taps(max(height, width), side, False)
    before, after, left, right = _taps(max(height, width), side, True)

    def across(row: Tensor) -> Tensor:
        """Lines of the square, resized along their length; those below the image are black."""
        lines = levels.index_select(2, row.clamp(max=height - 1).to(levels.device))
        ends = []
        for column, weight in ((before, left), (after, right)):
            picked = lines.index_select(3, column.clamp(max=width - 1).to(levels.device)).int()
            ends.append(picked * (weight * (column < width)).to(levels.device))
        return (ends[0] + ends[1]) * (row < height).to(levels.device)[:, None]

    parts = []
    for row, weight in ((above, upper), (below, lower)):
        parts.append((weight.to(levels.device)[:, None] * (across(row) >> 4)) >> 16)
    return ((parts[0] + parts[1] + 2) >> 2).clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=64)
def _taps(length: int, side: int, across: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The two source lines of each line, and their weights. OpenCV clamps the weights of columns but not of rows."""
    at = ((torch.arange(side, dtype=torch.float64) + 0.5) * (1.0 / (side / length)) - 0.5).float()
    low = at.floor()
    share = at - low
    if across:
        share[(low < 0) | (low >= length - 1)] = 0.0
    first, second = (line.long().clamp(0, length - 1) for line in (low, low + 1))
    return first, second, ((1 - share) * ONE).round().int(), (share * ONE).round().int()


def boxes(numbers: Floats, height: int, width: int, side: int) -> list[Box]:
    """Return the boxes that NudeNet reports for one image, the surest first. Shape: (4 + classes, places).

    As in NudeNet, a box keeps its width where its left edge is clipped, so that it reaches further to the right.
    """
    classes = numbers[4:]
    wanted = classes.max(0) >= CANDIDATE
    label, score = classes.argmax(0)[wanted], classes.max(0)[wanted]
    x, y, w, h = numbers[:4, wanted]
    longest, square = np.float32(max(height, width)), np.float32(side)
    left, top = ((at - size / 2) * longest / square for at, size in ((x, w), (y, h)))
    left, top = left.clip(0, width), top.clip(0, height)
    across = np.minimum(w * longest / square, width - left)
    down = np.minimum(h * longest / square, height - top)
    rectangles = np.stack([left, top, across, down], 1).astype(np.float64)
    return [Box(int(label[i]), float(score[i]), *map(float, rectangles[i])) for i in _apart(rectangles, score)]


def _apart(rectangles: NDArray[np.float64], score: Floats) -> Iterator[int]:
    """The indices of boxes, the surest first, that no surer box of any class overlaps too much."""
    order = [int(i) for i in np.argsort(-score, kind="stable") if score[i] > KEPT]
    while order:
        best = order.pop(0)
        yield best
        order = [i for i in order if _overlap(rectangles[best], rectangles[i]) <= np.float32(OVERLAP)]


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> Any:
    """Intersection over union, rounded where OpenCV rounds it."""
    areas = one[2] * one[3] + other[2] * other[3]
    if areas <= np.finfo(np.float64).eps:
        return np.float32(1)
    sides = np.minimum(one[:2] + one[2:], other[:2] + other[2:]) - np.maximum(one[:2], other[:2])
    shared = sides[0] * sides[1] if (sides > 0).all() else 0.0
    return np.float32(1) - np.float32(1.0 - shared / (areas - shared))
