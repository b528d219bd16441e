"""Varied harmless images of many sizes: drawn ones, and the samples of scikit-image with pieces of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

SAMPLES = ("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "coffee.png", "coins.png",
           "color.png", "grass.png", "gravel.png", "horse.png", "hubble_deep_field.jpg", "ihc.png", "logo.png",
           "moon.png", "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png")  # fmt: skip


def varied(count: int, seed: int = 0) -> list[np.ndarray]:
    """At least so many images, uint8 (H, W, 3): half from the samples, the rest drawn."""
    rng = np.random.default_rng(seed)
    real = list(samples())
    pieces = []
    while len(real) + len(pieces) < count // 2:
        pieces.append(_piece(real[int(rng.integers(len(real)))], rng))
    drawn = [_DRAWN[i % len(_DRAWN)](rng) for i in range(count - len(real) - len(pieces))]
    return [np.array(image, order="C") for image in (*real, *pieces, *drawn)]


def samples() -> list[np.ndarray]:
    """The samples that come with scikit-image."""
    data = pytest.importorskip("skimage.data", reason="pip install scikit-image: its harmless images are looked at")
    paths = [Path(data.__file__).parent / name for name in SAMPLES]
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths if path.is_file()]


def _piece(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A rectangle of an image, sometimes mirrored or with its channels in another order."""
    height, width = (int(rng.integers(20, side + 1)) for side in image.shape[:2])
    top, left = int(rng.integers(image.shape[0] - height + 1)), int(rng.integers(image.shape[1] - width + 1))
    piece = image[top : top + height, left : left + width]
    return piece[:, :: int(rng.choice([-1, 1])), rng.permutation(3) if rng.random() < 0.3 else slice(None)]


def _size(rng: np.random.Generator) -> tuple[int, int]:
    if rng.random() < 0.15:
        return (224, 224) if rng.random() < 0.5 else (299, 299)
    height, width = (int(np.exp(rng.uniform(0, np.log(900)))) for _ in range(2))
    # A guard refuses sides beyond 100:1.
    return max(1, height, -(-width // 90)), max(1, width, -(-height // 90))


def _noise(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (*_size(rng), 3), dtype=np.uint8)


def _smooth(rng: np.random.Generator) -> np.ndarray:
    height, width = _size(rng)
    few = Image.fromarray(rng.integers(0, 256, (int(rng.integers(2, 9)), int(rng.integers(2, 9)), 3), dtype=np.uint8))
    return np.asarray(few.resize((width, height), Image.Resampling.BICUBIC))


def _plain(rng: np.random.Generator) -> np.ndarray:
    return np.full((*_size(rng), 3), rng.integers(0, 256, 3), dtype=np.uint8)


def _stripes(rng: np.random.Generator) -> np.ndarray:
    height, width = _size(rng)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x * a + y * b) for a, b in rng.uniform(-1, 1, (3, 2))]
    return ((np.stack(waves, -1) + 1) * 127.5).astype(np.uint8)


def _shapes(rng: np.random.Generator) -> np.ndarray:
    height, width = (max(side, 16) for side in _size(rng))
    image = Image.new("RGB", (width, height), tuple(map(int, rng.integers(0, 256, 3))))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(2, 12))):
        xs, ys = np.sort(rng.integers(0, width, 2)), np.sort(rng.integers(0, height, 2))
        draw = (pen.ellipse, pen.rectangle, pen.line)[int(rng.integers(3))]
        draw((int(xs[0]), int(ys[0]), int(xs[1]), int(ys[1])), fill=tuple(map(int, rng.integers(0, 256, 3))))
    return np.asarray(image)


_DRAWN = (_noise, _smooth, _plain, _stripes, _shapes)
