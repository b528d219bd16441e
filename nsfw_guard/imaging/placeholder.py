"""The placeholder for an image that is held back."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from nsfw_guard.imaging.decode import decode
from nsfw_guard.verdict import Outcome, Verdict

GROUND, INK, MUTED, SIGN = (32, 35, 42), (236, 238, 242), (150, 156, 168), (214, 84, 72)
MIN_FONT_SIZE = 5  # pixels; below that letters cannot be read
TITLES = {Outcome.BLOCK: "blocked", Outcome.REVIEW: "held for review", Outcome.ERROR: "could not be checked"}


def draw(height: int, width: int, verdict: Verdict) -> Tensor:
    """Draw the placeholder for a verdict. Shape: (3, height, width) in [0, 1]."""
    side = min(height, width)
    image = Image.new("RGB", (width, height), GROUND)
    pen = ImageDraw.Draw(image)
    radius, middle = side * 0.13, (width / 2, height * 0.34)
    stroke = max(1, round(side * 0.03))
    pen.ellipse([c + s * radius for s in (-1, 1) for c in middle], outline=SIGN, width=stroke)
    slant = radius * 0.68
    pen.line([middle[0] - slant, middle[1] + slant, middle[0] + slant, middle[1] - slant], fill=SIGN, width=stroke)
    lines = [(TITLES.get(verdict.outcome, "replaced"), INK)]
    lines += [(line, MUTED) for line in textwrap.wrap(verdict.reason, 34)[:3]]
    top = height / 2 + side * 0.04
    for text, colour in lines:
        top += _line(pen, text, top, (width, side), colour)
    return _unit(image)


def fit(path: str | Path, height: int, width: int) -> Tensor:
    """Return an image file in this size. Shape: (3, height, width) in [0, 1]."""
    image = Image.fromarray(decode(path).frames[0])
    return _unit(image.resize((width, height), Image.Resampling.BICUBIC))


def _line(pen: ImageDraw.ImageDraw, text: str, top: float, space: tuple[int, int], colour: tuple[int, ...]) -> float:
    """Write one centred line and return its height, or 0 where its letters would be too small to read."""
    width, side = space
    size = side * 0.062
    if size < MIN_FONT_SIZE:
        return 0.0
    if isinstance(font_of(size), ImageFont.ImageFont):  # the old font knows Latin letters only
        text = text.encode("latin-1", "replace").decode("latin-1")
    while size >= MIN_FONT_SIZE and pen.textlength(text, font=font_of(size)) > width * 0.94:
        size *= 0.88
    if size < MIN_FONT_SIZE or pen.textlength(text, font=font_of(size)) > width:
        return 0.0
    font = font_of(size)
    pen.text(((width - pen.textlength(text, font=font)) / 2, top), text, fill=colour, font=font)
    return size * 1.45


def font_of(size: float) -> Any:
    """Return Pillow's own font in about this many pixels."""
    try:
        return ImageFont.load_default(size)
    except TypeError:  # before Pillow 10.1 there is one size
        return ImageFont.load_default()


def _unit(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
