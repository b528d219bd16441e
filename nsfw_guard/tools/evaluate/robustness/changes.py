"""Changes of one image by itself: turned, compressed, blurred, bordered, written on. The same each time."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from nsfw_guard.imaging.placeholder import font_of

Change = Callable[[Image.Image, np.random.Generator], Image.Image]

NOISE = 25.0  # levels of 255, of one standard deviation
BLUR = 1 / 40  # of the shorter side
CONTRAST = 0.3
CELLS = 24  # of a mosaic, along the shorter side
SMALLER = 4
TURN = 15  # degrees
BORDERS = (0.1, 0.3, 0.6)  # of the side of the result, both edges together
LEAST_SIDE = 8


def dominant(image: Image.Image) -> tuple[int, int, int]:
    """Return the colour that most of an image is near to.

    Example:
        ```python
        dominant(Image.new("RGB", (8, 8), (250, 250, 250)))  # (250, 250, 250)
        ```
    """
    small = image.resize((32, 32), Image.Resampling.BOX).quantize(8)
    palette = small.getpalette() or [0, 0, 0]
    counts: list[tuple[int, int]] = small.getcolors() or [(1, 0)]  # type: ignore[assignment]  # of one channel
    at = 3 * max(counts)[1]
    return palette[at], palette[at + 1], palette[at + 2]


def _transposed(image: Image.Image, _: np.random.Generator, *, way: Image.Transpose) -> Image.Image:
    return image.transpose(way)


def _turned(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return image.rotate(TURN, Image.Resampling.BICUBIC, expand=True, fillcolor=dominant(image))


def _compressed(image: Image.Image, _: np.random.Generator, *, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    with Image.open(io.BytesIO(file.getvalue())) as again:
        return again.convert("RGB")


def _noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    levels = np.asarray(image, np.float64)
    return Image.fromarray(np.clip(levels + rng.normal(0, NOISE, levels.shape), 0, 255).round().astype(np.uint8))


def _blurred(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(min(image.size) * BLUR))


def _pale(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(CONTRAST)


def _smaller(image: Image.Image, _: np.random.Generator) -> Image.Image:
    size = tuple(max(LEAST_SIDE, side // SMALLER) for side in image.size)
    return image.resize((size[0], size[1]), Image.Resampling.BICUBIC)


def _mosaic(image: Image.Image, _: np.random.Generator) -> Image.Image:
    scale = CELLS / min(image.size)
    cells = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(cells, Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)


def _bordered(image: Image.Image, _: np.random.Generator, *, share: float, colour: str) -> Image.Image:
    """The whole image with a border around it; the result has the image's aspect."""
    size = round(image.width / (1 - share)), round(image.height / (1 - share))
    ground = Image.new("RGB", size, dominant(image) if colour == "dominant" else colour)
    ground.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return ground


def _grey(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return ImageOps.grayscale(image).convert("RGB")


def _written_on(image: Image.Image, _: np.random.Generator) -> Image.Image:
    """Three lines of white text with a dark edge, over the middle."""
    changed = image.copy()
    pen = ImageDraw.Draw(changed)
    size = max(8, min(image.size) // 7)
    for line, at in (("WHEN YOU", 0.2), ("SEE IT", 0.5), ("LIKE AND SHARE", 0.8)):
        place = image.width / 2, image.height * at
        pen.text(place, line, "white", font_of(size), anchor="mm", stroke_width=size // 10 + 1, stroke_fill="black")
    return changed


def _with_sticker(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A yellow face of a third of the side, anywhere."""
    changed = image.copy()
    pen = ImageDraw.Draw(changed)
    side = min(image.size) / 3
    left, top = rng.uniform(0, image.width - side), rng.uniform(0, image.height - side)
    pen.ellipse((left, top, left + side, top + side), (250, 210, 40), (40, 30, 0), max(1, round(side / 30)))
    for x in (0.33, 0.67):
        eye = left + side * x, top + side * 0.38
        pen.ellipse((eye[0] - side / 12, eye[1] - side / 12, eye[0] + side / 12, eye[1] + side / 12), (40, 30, 0))
    mouth = left + side * 0.25, top + side * 0.3, left + side * 0.75, top + side * 0.8
    pen.arc(mouth, 20, 160, (40, 30, 0), max(1, round(side / 20)))
    return changed


CHANGES: Mapping[str, Change] = {
    "flipped left to right": partial(_transposed, way=Image.Transpose.FLIP_LEFT_RIGHT),
    "flipped upside down": partial(_transposed, way=Image.Transpose.FLIP_TOP_BOTTOM),
    "rotated by 90": partial(_transposed, way=Image.Transpose.ROTATE_90),
    "rotated by 180": partial(_transposed, way=Image.Transpose.ROTATE_180),
    "rotated by 270": partial(_transposed, way=Image.Transpose.ROTATE_270),
    f"rotated by {TURN}": _turned,
    "JPEG quality 30": partial(_compressed, quality=30),
    "JPEG quality 10": partial(_compressed, quality=10),
    "noise": _noisy,
    "blur": _blurred,
    "low contrast": _pale,
    "a quarter of the size": _smaller,
    "mosaic": _mosaic,
    **{
        f"border {share:.0%} {colour}": partial(_bordered, share=share, colour=colour)
        for share in BORDERS
        for colour in ("white", "black", "dominant")
    },
    "greyscale": _grey,
    "text over it": _written_on,
    "a sticker on it": _with_sticker,
}
