"""The contact sheet: generated and released images side by side, as one PNG and one self-contained HTML file."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from nsfw_guard.demo.run import NOTICE, Shown
from nsfw_guard.imaging.placeholder import font_of
from nsfw_guard.imaging.thumbnails import OUTCOME_COLOURS, data_url

TILE, GAP, COLUMNS, TEXT, HEAD = 150, 14, 3, 58, 74
GROUND, PAPER, INK, MUTED = (244, 245, 247), (255, 255, 255), (30, 33, 40), (108, 114, 126)


def write(shown: Sequence[Shown], folder: Path, *, notice: str = NOTICE) -> tuple[Path, Path]:
    """Write sheet.png and sheet.html into a folder, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    png, page = folder / "sheet.png", folder / "sheet.html"
    draw(shown, notice=notice).save(png, optimize=True)
    page.write_text(to_html(shown, notice=notice), encoding="utf-8")
    return png, page


def draw(shown: Sequence[Shown], *, notice: str = NOTICE) -> Image.Image:
    """Return the sheet as an image."""
    rows = -(-len(shown) // COLUMNS)
    cell = (2 * TILE + 3 * GAP, TILE + TEXT + 2 * GAP)
    sheet = Image.new("RGB", (COLUMNS * (cell[0] + GAP) + GAP, HEAD + rows * (cell[1] + GAP)), GROUND)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, GAP), "Generated and released", fill=INK, font=font_of(24))
    pen.text((GAP, GAP + 34), notice, fill=MUTED, font=font_of(13))
    for i, one in enumerate(shown):
        left, top = GAP + (i % COLUMNS) * (cell[0] + GAP), HEAD + (i // COLUMNS) * (cell[1] + GAP)
        pen.rounded_rectangle((left, top, left + cell[0], top + cell[1]), radius=8, fill=PAPER)
        _cell(sheet, pen, one, left + GAP, top + GAP)
    return sheet


def _cell(sheet: Image.Image, pen: ImageDraw.ImageDraw, one: Shown, left: int, top: int) -> None:
    for side, image in enumerate((one.drawn, one.released)):
        at = (left + side * (TILE + GAP), top)
        sheet.paste(image.resize((TILE, TILE), Image.Resampling.BICUBIC), at)
        pen.rectangle((at[0], at[1], at[0] + TILE - 1, at[1] + TILE - 1), outline=(222, 224, 229))
    pen.text((left, top + TILE + 8), one.prompt, fill=INK, font=font_of(14))
    verdict, below = one.verdict, top + TILE + 32
    name = verdict.outcome.name
    width = int(pen.textlength(name, font=font_of(12))) + 14
    pen.rounded_rectangle((left, below, left + width, below + 20), radius=10, fill=OUTCOME_COLOURS[verdict.outcome])
    pen.text((left + 7, below + 2), name, fill=PAPER, font=font_of(12))
    pen.text((left + width + 8, below + 2), verdict.reason, fill=MUTED, font=font_of(12))


def to_html(shown: Sequence[Shown], *, notice: str = NOTICE) -> str:
    """Return the sheet as a self-contained page."""
    cells = "\n".join(_figure(one) for one in shown)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>nsfw_guard demonstration</title><style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; background: #f4f5f7; color: #1e2128 }}
main {{ display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)) }}
figure {{ margin: 0; padding: .9rem; background: #fff; border-radius: .5rem }}
img {{ width: 48%; image-rendering: auto; border: 1px solid #dee0e5 }}
b {{ color: #fff; border-radius: 1rem; padding: .1rem .5rem; font-size: .8rem }}
small, p {{ color: #6c727e }}
</style></head><body><h1>Generated and released</h1><p>{html.escape(notice)}</p><main>
{cells}
</main></body></html>
"""


def _figure(one: Shown) -> str:
    red, green, blue = OUTCOME_COLOURS[one.verdict.outcome]
    prompt, reason = html.escape(one.prompt), html.escape(one.verdict.reason)
    return (
        f'<figure><img alt="generated: {prompt}" src="{_inline(one.drawn)}"> '
        f'<img alt="released: {prompt}" src="{_inline(one.released)}">'
        f'<figcaption>{prompt}<br><b style="background: rgb({red},{green},{blue})">{one.verdict.outcome.name}</b> '
        f"<small>{reason}</small></figcaption></figure>"
    )


def _inline(image: Image.Image) -> str:
    return data_url(image.resize((TILE, TILE), Image.Resampling.BICUBIC))
