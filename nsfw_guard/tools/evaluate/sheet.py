"""The images that a model scores highest, side by side."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw

from nsfw_guard.errors import printable
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.imaging.placeholder import font_of
from nsfw_guard.imaging.thumbnails import OUTCOME_COLOURS
from nsfw_guard.tools.evaluate.summary import Alarm, ModelSummary
from nsfw_guard.tools.sheets import SIDE, small_copy_of

log = logging.getLogger(__name__)

Shown = Literal["shown", "blurred", "none"]

TILE, GAP, COLUMNS, TEXT, HEAD = SIDE, 14, 5, 44, 66
GROUND, PAPER, INK, MUTED = (244, 245, 247), (255, 255, 255), (30, 33, 40), (108, 114, 126)
MAX_SHOWN = 200  # images on a sheet; report.json lists all that were asked for
_MAX_NAME = 30  # letters of a file's name under its image


def thumbnails(alarms: Sequence[Alarm], *, blurred: bool, limits: Limits | None = None) -> list[Image.Image]:
    """Return a small copy of the first frame of each image; a blank one where the file has gone since."""
    small = []
    for alarm in alarms[:MAX_SHOWN]:
        one = small_copy_of(alarm.path, blurred=blurred, limits=limits or Limits())
        if one is None:
            log.warning("%s is not shown: it cannot be decoded any more", printable(alarm.path))
        small.append(one or Image.new("RGB", (TILE, TILE), GROUND))
    return small


def draw(model: ModelSummary, small: Sequence[Image.Image]) -> Image.Image:
    """Return the sheet of a model."""
    rows = max(1, -(-len(small) // COLUMNS))
    cell = TILE + 2 * GAP, TILE + TEXT + 2 * GAP
    size = COLUMNS * (cell[0] + GAP) + GAP, HEAD + rows * (cell[1] + GAP)
    sheet = Image.new("RGB", size, GROUND)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, GAP), f"{printable(model.name)}: the {len(small)} highest scores", fill=INK, font=font_of(22))
    for i, (alarm, image) in enumerate(zip(model.worst, small, strict=False)):
        left, top = GAP + (i % COLUMNS) * (cell[0] + GAP), HEAD + (i // COLUMNS) * (cell[1] + GAP)
        pen.rounded_rectangle((left, top, left + cell[0], top + cell[1]), radius=8, fill=PAPER)
        at = left + GAP + (TILE - image.width) // 2, top + GAP + (TILE - image.height) // 2
        sheet.paste(image, at)
        below = top + GAP + TILE + 8
        pen.text((left + GAP, below), short(alarm.path), fill=MUTED, font=font_of(11))
        text = f"{alarm.score:.3f} {alarm.outcome.name}"
        pen.text((left + GAP, below + 18), text, fill=OUTCOME_COLOURS[alarm.outcome], font=font_of(14))
    return sheet


def short(path: str) -> str:
    """Return the name of a file for people, cut in its middle where it is long."""
    name = printable(Path(path).name)
    half = _MAX_NAME // 2 - 2
    return name if len(name) <= _MAX_NAME else f"{name[:half]}...{name[-half:]}"
