"""Curves and reliability diagrams as inline SVG: they scale with the page, and load and run nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nsfw_guard.tools.evaluate.labelled.curves import Bin
from nsfw_guard.tools.pages import text

SIDE, LEFT, TOP, BOTTOM = 260, 44, 14, 40  # of the plotted square, and the room around it
WIDTH, HEIGHT = LEFT + SIDE + 14, TOP + SIDE + BOTTOM
MUTED, GRID, LINE, SECOND = "#6c727e", "#e6e8ec", "#2f5d9b", "#be342c"
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)

Points = Sequence[tuple[float, float]]


def line_chart(title: str, x_name: str, y_name: str, points: Points, marks: Mapping[str, tuple[float, float]]) -> str:
    """Return a curve in the unit square, with marked points on it.

    Args:
        title: above the curve.
        x_name, y_name: of the axes.
        points: of the curve, in order.
        marks: points with a name, such as those of thresholds.
    """
    shapes = [_path(points, LINE)]
    for name, at in marks.items():
        x, y = _place(at)
        anchor = "end" if at[0] > 0.6 else "start"
        shapes.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" style="fill:{SECOND}"></circle>'
            f'<text x="{x + (-7 if anchor == "end" else 7):.1f}" y="{y + 14:.1f}" font-size="11" '
            f'text-anchor="{anchor}" fill="{SECOND}">{text(name)}</text>'
        )
    return _chart(title, x_name, y_name, shapes)


def reliability_chart(title: str, bins: Sequence[Bin]) -> str:
    """Return how often images of each bin of scores have the category, with its interval; the diagonal is ideal."""
    shapes = [_path([(0.0, 0.0), (1.0, 1.0)], MUTED, dashed=True)]
    shapes.append(_path([(one.mean, one.unsafe.share) for one in bins], LINE))
    for one in bins:
        low, high = one.unsafe.interval
        x, y = _place((one.mean, one.unsafe.share))
        shapes.append(_path([(one.mean, low), (one.mean, high)], SECOND))
        shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" style="fill:{LINE}"></circle>')
    return _chart(title, "score", "share with the category", shapes)


def _chart(title: str, x_name: str, y_name: str, shapes: Sequence[str]) -> str:
    """A unit square with axes, and what is drawn in it."""
    parts = []
    for tick in TICKS:
        x, y = _place((tick, tick))
        parts += [_path(line, GRID, width=1) for line in ([(tick, 0.0), (tick, 1.0)], [(0.0, tick), (1.0, tick)])]
        parts.append(f'<text x="{x:.0f}" y="{TOP + SIDE + 14}" {_small("middle")}>{tick:g}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.0f}" {_small("end")}>{tick:g}</text>')
    middle = TOP + SIDE / 2
    parts.append(f'<text x="{LEFT + SIDE / 2:.0f}" y="{TOP + SIDE + 32}" {_small("middle")}>{text(x_name)}</text>')
    turned = f'transform="rotate(-90 11 {middle:.0f})"'
    parts.append(f'<text x="11" y="{middle:.0f}" {_small("middle")} {turned}>{text(y_name)}</text>')
    drawn = "".join([*parts, *shapes])
    return (
        f"<figure><figcaption><b>{text(title)}</b></figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(title)}" '
        f'style="width:100%;max-width:{WIDTH}px;height:auto">{drawn}</svg></figure>'
    )


def _place(at: tuple[float, float]) -> tuple[float, float]:
    return LEFT + SIDE * at[0], TOP + SIDE * (1 - at[1])


def _path(points: Points, colour: str, *, width: int = 2, dashed: bool = False) -> str:
    """A line through points. Its style is inline, since pages style lines of histograms."""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(_place, points))
    dash = "4 4" if dashed else "none"
    style = f"fill:none;stroke:{colour};stroke-width:{width};stroke-dasharray:{dash}"
    return f'<polyline points="{places}" style="{style}"></polyline>'


def _small(anchor: str) -> str:
    return f'font-size="11" text-anchor="{anchor}" fill="{MUTED}"'
