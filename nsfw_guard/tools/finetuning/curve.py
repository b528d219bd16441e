"""The course of a run as one image."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from nsfw_guard.imaging.placeholder import font_of

WIDTH, HEIGHT, LEFT, TOP, GAP = 900, 420, 70, 60, 30
GROUND, PAPER, INK, MUTED = (244, 245, 247), (255, 255, 255), (30, 33, 40), (108, 114, 126)
COLOURS = ((74, 111, 165), (176, 58, 46), (46, 125, 80))
Line = tuple[str, Sequence[tuple[float, float]]]


def draw(title: str, axis: str, lines: Sequence[Line], *, mark: float | None = None) -> Image.Image:
    """Return lines on one scale, which begins at 0 on both axes.

    Args:
        title: what is shown.
        axis: what the horizontal axis counts.
        lines: each a name and its points.
        mark: a place on the horizontal axis to point out, such as the epoch that was kept.
    """
    image = Image.new("RGB", (WIDTH, HEIGHT), GROUND)
    pen = ImageDraw.Draw(image)
    points = [point for _, line in lines for point in line]
    right, high = max([x for x, _ in points] or [1]) or 1, max([y for _, y in points] or [1]) or 1
    box = (LEFT, TOP, WIDTH - GAP, HEIGHT - 2 * GAP)
    pen.rectangle(box, fill=PAPER)
    pen.text((LEFT, 14), title, fill=INK, font=font_of(20))

    def at(x: float, y: float) -> tuple[float, float]:
        return box[0] + x / right * (box[2] - box[0]), box[3] - y / (high * 1.05) * (box[3] - box[1])

    for step in range(5):
        level = high * step / 4
        pen.line((box[0], at(0, level)[1], box[2], at(0, level)[1]), fill=GROUND)
        pen.text((10, at(0, level)[1] - 8), f"{level:.3g}", fill=MUTED, font=font_of(13))
        pen.text((at(right * step / 4, 0)[0] - 8, box[3] + 8), f"{right * step / 4:.3g}", fill=MUTED, font=font_of(13))
    pen.text((box[2] - 8 * len(axis), HEIGHT - 26), axis, fill=MUTED, font=font_of(14))
    if mark is not None:
        pen.line((at(mark, 0)[0], box[1], at(mark, 0)[0], box[3]), fill=MUTED)
    place = box[0] + 12
    for (name, line), colour in zip(lines, COLOURS, strict=False):
        places = [at(x, y) for x, y in line]
        if len(places) > 1:
            pen.line(places, fill=colour, width=3, joint="curve")
        for x, y in places:
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour)
        pen.text((place, box[1] + 8), name, fill=colour, font=font_of(15))
        place += 30 + int(pen.textlength(name, font=font_of(15)))
    return image
