"""Pieces of pages that are one file: they load nothing, run nothing, and hold text of anybody's safely."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence

from nsfw_guard.errors import printable

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
  background: #f4f5f7; color: #1e2128 }
h1, h2, li, p { overflow-wrap: anywhere }
section { background: #fff; border-radius: .5rem; padding: 1rem 1.2rem; margin: 1rem 0; overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #e6e8ec; white-space: nowrap }
th { color: #6c727e; font-weight: 600 }
small, .muted { color: #6c727e }
.sheet { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)) }
.charts { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)) }
figure { margin: 0; overflow-wrap: anywhere } img { max-width: 100%; border: 1px solid #dee0e5 } rect { fill: #4a6fa5 }
line { stroke: #be342c; stroke-dasharray: 3 3 }
.cover input { display: none } .cover img { filter: blur(18px); cursor: pointer }
.cover span { display: block; overflow: hidden } .cover input:checked + span img { filter: none }
"""
BAR, HEIGHT = 28, 120  # of a histogram, in pixels


def page(title: str, body: str) -> str:
    """Return a whole page; the title is text, the body HTML."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{text(title)}</title>\n'
        f"<style>{STYLE}</style></head><body>\n<h1>{text(title)}</h1>\n{body}\n</body></html>\n"
    )


def text(plain: str) -> str:
    """Return text as HTML, also where it is no text that a file could hold."""
    return html.escape(printable(plain))


def markdown_text(plain: str) -> str:
    """Return text of anybody's for a page in Markdown: one line, in which no letter has a meaning of its own."""
    return re.sub(r"([\\`*_\[\]<>|#!{}&~])", r"\\\1", " ".join(printable(plain).split()))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of texts."""
    head = "".join(f"<th>{text(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def bullets(lines: Sequence[str]) -> str:
    """Return a list of texts."""
    return "<ul>" + "".join(f"<li>{text(line)}</li>" for line in lines) + "</ul>"


def histogram(bins: Sequence[int], marks: Mapping[str, float] | None = None) -> str:
    """Return the counts of equal bins from 0 to 1 as bars, with lines where the marks are.

    On a scale of square roots, since most images are in one bin.
    """
    most, count = max(*bins, 1), len(bins)
    shapes = []
    for i, one in enumerate(bins):
        tall = round(HEIGHT * (one / most) ** 0.5)
        shapes.append(
            f'<rect x="{i * BAR}" y="{HEIGHT - tall + 14}" width="{BAR - 4}" height="{tall}"></rect>'
            f'<text x="{i * BAR}" y="{HEIGHT - tall + 10}" font-size="10">{one or ""}</text>'
            f'<text x="{i * BAR}" y="{HEIGHT + 28}" font-size="9" fill="#6c727e">{i / count:.2f}</text>'
        )
    for name, at in (marks or {}).items():
        x = round(at * count * BAR)
        shapes.append(
            f'<line x1="{x}" y1="14" x2="{x}" y2="{HEIGHT + 14}"></line>'
            f'<text x="{x + 3}" y="22" font-size="10" fill="#be342c">{text(name)}</text>'
        )
    bars = "".join(shapes)
    return f'<svg width="{count * BAR}" height="{HEIGHT + 34}" role="img" aria-label="histogram">{bars}</svg>'
