"""Small copies of images for sheets and reports."""

from __future__ import annotations

import base64
import io

from PIL import Image, ImageFilter

from nsfw_guard.verdict import Outcome

OUTCOME_COLOURS = {
    Outcome.ALLOW: (38, 132, 74),
    Outcome.REVIEW: (184, 122, 18),
    Outcome.BLOCK: (190, 52, 44),
    Outcome.ERROR: (92, 60, 150),
}


def thumbnail(image: Image.Image, side: int, *, blurred: bool = False) -> Image.Image:
    """Return a copy that fits into a square of this side; blurred, it shows no more than a few patches of colour."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.BICUBIC)
    return small.filter(ImageFilter.GaussianBlur(side / 12)) if blurred else small


def data_url(image: Image.Image) -> str:
    """Return an image as a PNG inside a URL, for a page that is one file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
