"""Reads the shapes in an image from its pixels, without a model, so that it can check the models.

It tolerates the blur and the small colour shifts of an autoencoder or a JPEG.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nsfw_guard.demo.shapes import BACKGROUNDS, COLOURS, RGB, SIZES, Scene

Array = NDArray[np.float32]

UNKNOWN = "unknown"
_SIDE = 64
_GRID = 24
_CONTRAST = 45.0  # levels away from the background before a pixel belongs to a shape
_SPECK = 12  # pixels; the smallest shape covers about seventy
_LIKENESS = 0.62
_OFF_CENTRE = 0.085
_TIPS = {"star": 0.951}  # a star's tips reach less far than its radius


@dataclass(frozen=True)
class Found:
    """One shape seen in an image; a word is "unknown" where the pixels fit none. The box is in image fractions."""

    kind: str
    colour: str
    size: str
    position: str
    box: tuple[float, float, float, float]


def find(image: Image.Image) -> list[Found]:
    """Return the shapes in an image on a plain background, left to right."""
    pixels = _pixels(image)
    ground = _ground(pixels)
    away = np.linalg.norm(pixels - ground, axis=2).astype(np.float32)
    labels = _components(away > _CONTRAST)
    seen = []
    for label in np.unique(labels[labels > 0]):
        if (labels == label).sum() >= _SPECK:
            seen.append(_describe(pixels, ground, away, labels, int(label)))
    return sorted(seen, key=lambda shape: shape.box)


def background(image: Image.Image) -> str:
    """Return the word for the colour along the image's border, or "unknown"."""
    return _nearest(_ground(_pixels(image)), BACKGROUNDS, reach=45.0)


def matches(image: Image.Image, scene: Scene) -> bool:
    """Return whether the image shows exactly the scene: each shape's kind, colour, size and position, and the
    background.
    """
    asked = Counter((shape.kind, shape.colour, shape.size, shape.position) for shape in scene.shapes)
    seen = Counter((drawn.kind, drawn.colour, drawn.size, drawn.position) for drawn in find(image))
    return seen == asked and background(image) == scene.background


def _pixels(image: Image.Image) -> Array:
    small = image.convert("RGB")
    if small.size != (_SIDE, _SIDE):
        small = small.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return np.asarray(small, dtype=np.float32)


def _ground(pixels: Array) -> Array:
    rim = np.ones(pixels.shape[:2], dtype=bool)
    rim[1:-1, 1:-1] = False
    return np.asarray(np.median(pixels[rim], axis=0), dtype=np.float32)


def _components(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number the four-connected regions: every pixel takes the highest number it can reach."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        wide = np.pad(labels, 1)
        around = np.maximum.reduce([wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:], labels])
        spread = np.where(mask, around, 0)
        if np.array_equal(spread, labels):
            return labels
        labels = spread


def _describe(pixels: Array, ground: Array, away: Array, labels: NDArray[np.int64], label: int) -> Found:
    inside = labels == label
    core = inside & (away >= 0.75 * np.quantile(away[inside], 0.9))
    tint = np.median(pixels[core], axis=0)
    toward = tint - ground
    cover = np.clip((pixels - ground) @ toward / max(float(toward @ toward), 1.0), 0, 1)
    cover = np.where(inside | _rim(inside) & (labels == 0), cover, 0).astype(np.float32)
    left, right = _extent(cover.max(axis=0))
    top, bottom = _extent(cover.max(axis=1))
    kind = _kind(_sample(cover, left, top, right, bottom))
    radius = max(right - left, bottom - top) / 2 / _SIDE / _TIPS.get(kind, 1.0)
    colour = _nearest(tint, COLOURS, reach=85.0)
    box = (left / _SIDE, top / _SIDE, right / _SIDE, bottom / _SIDE)
    return Found(kind, colour, _size(radius), _position(box), box)


def _rim(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    wide = np.pad(inside, 1)
    return wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]


def _extent(profile: Array) -> tuple[float, float]:
    """Where a profile first and last crosses one half, to a fraction of a pixel."""
    filled = np.flatnonzero(profile > 0.5)
    if len(filled) == 0:
        return 0.0, 1.0
    first, last = int(filled[0]), int(filled[-1])
    before = float(profile[first - 1]) if first > 0 else 0.0
    after = float(profile[last + 1]) if last + 1 < len(profile) else 0.0
    return first - before, last + 1 + after


def _sample(cover: Array, left: float, top: float, right: float, bottom: float) -> Array:
    """The box stretched to a small square grid, bilinearly."""
    steps = (np.arange(_GRID) + 0.5) / _GRID
    across = np.clip(left + steps * (right - left) - 0.5, 0, _SIDE - 1.001)
    down = np.clip(top + steps * (bottom - top) - 0.5, 0, _SIDE - 1.001)
    x, y = across.astype(int), down.astype(int)
    u, v = (across - x)[None, :], (down - y)[:, None]
    upper = cover[np.ix_(y, x)] * (1 - u) + cover[np.ix_(y, x + 1)] * u
    lower = cover[np.ix_(y + 1, x)] * (1 - u) + cover[np.ix_(y + 1, x + 1)] * u
    return np.asarray(upper * (1 - v) + lower * v, dtype=np.float32)


def _kind(seen: Array) -> str:
    """The kind whose ideal outline overlaps best (intersection over union), or "unknown"."""
    scores = {
        kind: float(np.minimum(seen, ideal).sum() / np.maximum(seen, ideal).sum()) for kind, ideal in _ideals().items()
    }
    best = max(scores, key=lambda kind: scores[kind])
    return best if scores[best] >= _LIKENESS else UNKNOWN


@cache
def _ideals() -> Mapping[str, Array]:
    """Each kind by its inequalities, averaged over the cells of the grid."""
    fine = (np.arange(_GRID * 4) + 0.5) / (_GRID * 2) - 1
    x, y = np.meshgrid(fine, fine)
    reach = np.hypot(x, y)
    masks = {
        "disc": reach <= 1,
        "ring": (reach <= 1) & (reach >= 0.55),
        "square": reach >= 0,
        "triangle": np.abs(x) <= (y + 1) / 2,
        "cross": np.minimum(np.abs(x), np.abs(y)) <= 0.36,
        "star": _star(x, y),
    }
    cells = (_GRID, 4, _GRID, 4)
    return {kind: mask.reshape(cells).mean(axis=(1, 3)).astype(np.float32) for kind, mask in masks.items()}


def _star(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A five-pointed star that fills its box: the edge lies between a tip and the notch a tenth of a turn on."""
    across, down = x * 0.951, (y + 1) * 0.9045 - 1
    turn = 2 * np.pi / 10
    angle = np.abs((np.arctan2(across, -down) + turn) % (2 * turn) - turn)
    notch = 0.42
    edge = notch * np.sin(turn) / (notch * np.sin(turn - angle) + np.sin(angle))
    return np.asarray(np.hypot(across, down) <= edge)


def _size(radius: float) -> str:
    middles = {word: (low + high) / 2 for word, (low, high) in SIZES.items()}
    word = "small" if radius < 0.17 else "medium" if radius < 0.255 else "large"
    return word if abs(radius - middles[word]) < 0.06 else UNKNOWN


def _position(box: tuple[float, float, float, float]) -> str:
    across, down = (box[0] + box[2]) / 2 - 0.5, (box[1] + box[3]) / 2 - 0.5
    if max(abs(across), abs(down)) < _OFF_CENTRE:
        return "centre"
    if abs(across) > abs(down):
        return "left" if across < 0 else "right"
    return "top" if down < 0 else "bottom"


def _nearest(colour: Array, words: Mapping[str, RGB], *, reach: float) -> str:
    distances = {word: float(np.linalg.norm(np.asarray(rgb) - colour)) for word, rgb in words.items()}
    word = min(distances, key=lambda name: distances[name])
    return word if distances[word] <= reach else UNKNOWN
