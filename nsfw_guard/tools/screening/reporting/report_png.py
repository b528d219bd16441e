"""The report of a scan as one image, for people without a browser at hand. Images on it are blurred unless shown."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from nsfw_guard.errors import printable
from nsfw_guard.imaging.placeholder import font_of
from nsfw_guard.imaging.thumbnails import OUTCOME_COLOURS, thumbnail
from nsfw_guard.tools.screening.reporting.findings import Findings, Shown
from nsfw_guard.tools.screening.reporting.looker import Looker
from nsfw_guard.tools.sheets import SIDE
from nsfw_guard.verdict import Outcome

COLUMNS, ROWS, GAP, TEXT, BARS = 6, 2, 14, 26, 110
WIDTH = COLUMNS * (SIDE + GAP) + GAP
GROUND, PAPER, INK, MUTED, BAR = (244, 245, 247), (255, 255, 255), (30, 33, 40), (108, 114, 126), (74, 111, 165)


def draw(findings: Findings, model: str, look: Looker | None, *, blurred: bool) -> Image.Image:
    """Return the report as an image.

    Args:
        findings: what the scan has found.
        model: who judged.
        look: what reads images again; None leaves them out.
        blurred: so that they show no more than patches of colour.
    """
    groups = [group.shown for group in findings.groups]
    sections = [
        ("The highest scores", findings.highest), ("Nearest to the threshold", findings.nearest),
        ("A random sample", findings.sample), (f"Near-duplicates ({findings.grouped} images)", groups),
    ]  # fmt: skip
    chosen = [(title, shown[: COLUMNS * ROWS]) for title, shown in sections if shown and look is not None]
    heights = [46 + -(-len(shown) // COLUMNS) * (SIDE + TEXT + GAP) for _, shown in chosen]
    image = Image.new("RGB", (WIDTH, 110 + BARS + 60 + sum(heights)), GROUND)
    pen = ImageDraw.Draw(image)
    _head(pen, findings, model)
    _bars(pen, findings, 110)
    top = 110 + BARS + 50
    for (title, shown), height in zip(chosen, heights, strict=True):
        pen.text((GAP, top), title, fill=INK, font=font_of(18))
        if look is not None:
            _images(image, pen, look, shown, top + 34, blurred)
        top += height
    return image


def _head(pen: ImageDraw.ImageDraw, findings: Findings, model: str) -> None:
    total = sum(findings.outcomes.values())
    pen.text((GAP, GAP), f"{total} images, judged by {printable(model)}", fill=INK, font=font_of(24))
    left = GAP
    for outcome in Outcome:
        words = f"{findings.outcomes[outcome.name.lower()]} {outcome.name}"
        pen.text((left, 58), words, fill=OUTCOME_COLOURS[outcome], font=font_of(18))
        left += 40 + int(pen.textlength(words, font=font_of(18)))


def _bars(pen: ImageDraw.ImageDraw, findings: Findings, top: int) -> None:
    """The scores on a scale of square roots, with the two thresholds that are used most."""
    wide, most = (WIDTH - 2 * GAP) / len(findings.bins), max(*findings.bins, 1)
    pen.rectangle((GAP, top, WIDTH - GAP, top + BARS), fill=PAPER)
    for i, count in enumerate(findings.bins):
        tall = round((BARS - 10) * (count / most) ** 0.5)
        left = GAP + i * wide
        pen.rectangle((left + 2, top + BARS - tall, left + wide - 2, top + BARS), fill=BAR)
    for at, _ in findings.thresholds.most_common(2):
        x = GAP + at * (WIDTH - 2 * GAP)
        pen.line((x, top, x, top + BARS), fill=OUTCOME_COLOURS[Outcome.BLOCK], width=2)
        pen.text((x + 4, top + 2), f"{at:g}", fill=OUTCOME_COLOURS[Outcome.BLOCK], font=font_of(12))
    pen.text((GAP, top + BARS + 6), "scores of the category that decided, from 0 to 1", fill=MUTED, font=font_of(12))


def _images(
    image: Image.Image, pen: ImageDraw.ImageDraw, look: Looker, shown: Sequence[Shown], top: int, blurred: bool
) -> None:
    for i, one in enumerate(shown):
        left, above = GAP + (i % COLUMNS) * (SIDE + GAP), top + (i // COLUMNS) * (SIDE + TEXT + GAP)
        pen.rectangle((left, above, left + SIDE, above + SIDE), fill=PAPER)
        small = look.thumbnail(one)
        if small is not None:
            small = thumbnail(small, SIDE, blurred=True) if blurred else small
            image.paste(small, (left + (SIDE - small.width) // 2, above + (SIDE - small.height) // 2))
        name = one.outcome.upper()
        colour = OUTCOME_COLOURS[Outcome[name]] if name in Outcome.__members__ else INK
        pen.text((left, above + SIDE + 4), printable(f"{one.score:.3f} {name}"), fill=colour, font=font_of(14))
