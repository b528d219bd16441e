"""Says on a covered image that it is covered, and why: nobody should have to ask what a black image means."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from nsfw_guard.verdict import Outcome, Verdict

INK, GROUND = 235, 0
MAX_LABEL_SHARE = 0.1  # of the image, that a label may take at the most
SMALLEST, LARGEST = 14, 40  # pixels of its height
DRAWN_AT = 32  # the size of a font that scales


def describe(verdict: Verdict) -> str:
    """Gives a verdict as a line for an image's metadata: outcome, reason, model and policy."""
    where = f" ({verdict.model}, {verdict.policy})" if verdict.model else ""
    return f"{verdict.outcome.name.lower()}: {verdict.reason}{where}"


def labelled(cover: Image.Image, verdict: Verdict) -> Image.Image:
    """Draws the label into the lower left corner of a cover; one that is too small for it is given back as it is.

    Args:
        cover: RGB.
        verdict: why the image is covered.
    """
    category = "could not be checked" if verdict.outcome is Outcome.ERROR else verdict.category
    for text in (f"covered: {category}", "covered"):
        label = _drawn(text, cover.size)
        if label is not None:
            out = cover.copy()
            out.paste(label, (0, cover.height - label.height))
            return out
    return cover


def _drawn(text: str, size: tuple[int, int]) -> Image.Image | None:
    """The label, as large as fits an image of this size; None where it could not be read."""
    width, height = size
    words = _words(text)
    tall = min(LARGEST, max(SMALLEST, round(min(size) * 0.06)))
    wide = round(words.width * tall / words.height)
    if wide > width:
        wide, tall = width, round(tall * width / wide)
    if tall < SMALLEST or wide * tall > MAX_LABEL_SHARE * width * height:
        return None
    return words.resize((wide, tall), Image.Resampling.LANCZOS)


def _words(text: str) -> Image.Image:
    """Light words on a dark ground with a margin."""
    try:
        font = ImageFont.load_default(DRAWN_AT)
    except (TypeError, OSError):  # Pillow before 10.1, or without FreeType, has one size
        font = ImageFont.load_default()
    left, top, right, bottom = font.getbbox(text)
    margin = max(2, (bottom - top) // 3)
    size = (int(right - left) + 2 * int(margin), int(bottom - top) + 2 * int(margin))
    canvas = Image.new("L", size, GROUND)
    ImageDraw.Draw(canvas).text((margin - left, margin - top), text, fill=INK, font=font)
    return canvas.convert("RGB")
