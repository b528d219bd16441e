"""Finds the parts of images that lie between flat borders and the gutters of collages, on 8-bit levels.

A line of pixels is flat where nearly all of it is near to one colour. An image is cut along flat lines, rows and
columns in turn, until no part has any: what is left is a cell. Only a sample of the pixels is looked at, and the host
reads it once for a whole stack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

SAMPLES = 256  # along the longer side of an image: 2 to 3 of them fall into a gutter of 1%
LEAST_SIDE = 32  # pixels; a smaller image is not searched
NEAR = 24  # levels of a channel: noise of a JPEG is within
FLAT = 0.97  # of a line near to its colour: the rest may be corners, or the noise of what is next to it
STRAIGHT = 0.5  # of an edge's pixels that differ from those outside
GUTTER = 0.75  # of them, where nothing else speaks for a gutter
PARTLY = 0.25  # of them, where a gutter runs across the whole image: cells may have its colour
AIR = 0.5  # of the longer side of a cell, around a subject whose ground goes on outside
SMALLEST = 1 / 24  # of the image's shorter side: of a subject without its ground
SHOWN = 0.92  # of a side: the first look shows as much at nearly the same scale
DEPTH = 8  # rows, columns, rows, ...
SPOTS = 15  # pixels of a line whose median is its colour

Box = tuple[int, int, int, int]  # top, left, bottom, right
Colour = tuple[int, int, int]
Planes = NDArray[np.int16]  # lines of pixels, red, green and blue apart: (3, L, P)


@dataclass(frozen=True)
class _Cell:
    """A part of an image; by side, how far its ground may reach outside, and the colour of the gap there, where one is.

    Sides are in the order of a box.
    """

    box: Box
    limit: Box
    beside: tuple[Colour | None, Colour | None, Colour | None, Colour | None] = (None, None, None, None)


@dataclass(frozen=True)
class _Span:
    """Some lines, whose ground may reach from `low` to `high`, and the colours of the gaps before and after."""

    start: int
    end: int
    low: int
    high: int
    before: Colour | None
    after: Colour | None


def cells(levels: Tensor) -> list[tuple[Box, ...]]:
    """Return for each image the boxes of its cells in pixels, the largest first; none where it is one whole.

    Shape of levels: uint8 (N, 3, H, W).
    """
    height, width = levels.shape[-2:]
    if min(height, width) < LEAST_SIDE:
        return [()] * len(levels)
    step = -(-max(height, width) // SAMPLES)
    sampled = levels[..., ::step, ::step].cpu().numpy().astype(np.int16)
    return [_boxes(image, step, height, width) for image in sampled]


def _boxes(image: Planes, step: int, height: int, width: int) -> tuple[Box, ...]:
    """The boxes in pixels, of an image of which every `step`-th pixel is given."""
    whole = (0, 0, *image.shape[1:])
    boxes = []
    for cell in _cut(image, _Cell(whole, whole), rows=True, depth=DEPTH):
        if cell.box == whole:
            continue
        top, left, bottom, right = _aired(image, cell)
        # From the first sample inside to the last: a line of the border would be an edge that the content has not.
        box = top * step, left * step, (bottom - 1) * step + 1, (right - 1) * step + 1
        box = box[0], box[1], height if bottom == whole[2] else box[2], width if right == whole[3] else box[3]
        if box[2] - box[0] < SHOWN * height or box[3] - box[1] < SHOWN * width:
            boxes.append(box)
    return tuple(sorted(dict.fromkeys(boxes), key=lambda box: (box[0] - box[2]) * (box[3] - box[1])))


def _cut(
    image: Planes, cell: _Cell, *, rows: bool, depth: int, tried: bool = False, unframe: bool = True
) -> Iterator[_Cell]:
    """The cells of a cell, cut along its flat rows or columns; itself where there are none in either direction."""
    top, left, bottom, right = cell.box
    part = image[:, top:bottom, left:right]
    lines = part if rows else part.swapaxes(1, 2)
    spans = _spans(lines, tuple(colour for colour in cell.beside if colour))
    whole = len(spans) == 1 and (spans[0].start, spans[0].end) == (0, lines.shape[1])
    if depth == 0 or (whole and tried):
        yield _unframed(image, cell) if unframe and any(cell.beside) else cell
        return
    least = SMALLEST * min(image.shape[1:])
    for span in spans:
        if span.end - span.start < least:
            continue  # not cut further: a mesh would have thousands
        inner = _within(cell, rows, span, lines.shape[1])
        yield from _cut(image, inner, rows=not rows, depth=depth - 1, tried=whole, unframe=unframe)


def _unframed(image: Planes, cell: _Cell) -> _Cell:
    """What is in a cell that has a border itself, such as a photograph's mat: one part with straight edges."""
    inner = list(_cut(image, _Cell(cell.box, cell.box), rows=True, depth=DEPTH, unframe=False))
    framed = len(inner) == 1 and all(_edges(image, inner[0].box, GUTTER))
    return inner[0] if framed else cell


def _within(cell: _Cell, rows: bool, span: _Span, length: int) -> _Cell:
    """The part of a cell in a span of its rows or columns; an end that is not cut stays as it is."""
    box, limit, beside = list(cell.box), list(cell.limit), list(cell.beside)
    first, last = (0, 2) if rows else (1, 3)
    base = box[first]
    box[first], box[last] = base + span.start, base + span.end
    if span.start:
        limit[first], beside[first] = base + span.low, span.before
    if span.end < length:
        limit[last], beside[last] = base + span.high, span.after
    return _Cell((box[0], box[1], box[2], box[3]), (limit[0], limit[1], limit[2], limit[3]),
                 (beside[0], beside[1], beside[2], beside[3]))  # fmt: skip


def _spans(lines: Planes, grounds: Sequence[Colour]) -> list[_Span]:
    """The spans between gaps of flat lines; none where all is flat.

    A gap has the colour of a gap beside, or a straight edge: the middle of a disc is flat, too. Where nothing was cut
    before, flat lines at both ends are gaps, and a part of an edge is enough.
    """
    flat, colours = _flat(lines)
    length = lines.shape[1]
    edges = np.flatnonzero(np.diff(flat.astype(np.int8), prepend=0, append=0)).tolist()
    straight = GUTTER if grounds else PARTLY
    grounds = grounds or [_colour(colours[:, [at]]) for at in (0, length - 1) if flat[at]]
    spans: list[_Span] = []
    start, low, before = 0, 0, None
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        begin, end = _gap(colours, first, last, grounds)
        colour = _colour(colours[:, begin:end]) if begin < end else None
        if not (colour and _is_near(colour, grounds)) and not _ends_straight(lines, (begin, end), straight):
            continue
        middle = (begin + end) // 2
        if begin > start:
            spans.append(_Span(start, begin, low, end if end == length else middle, before, colour))
        start, low, before = end, begin if begin == 0 else middle, colour
    if start < length:
        spans.append(_Span(start, length, low, length, before, None))
    return spans


def _gap(colours: NDArray[np.int16], first: int, last: int, grounds: Sequence[Colour]) -> tuple[int, int]:
    """The gap among flat lines: without those at its ends of another colour, the ground of what is next to them."""
    run = colours[:, first:last]
    begin, end = first, last
    others = np.flatnonzero(_apart(run, run[:, :1]))
    if len(others) and first > 0 and not _is_near(_colour(colours[:, first : first + 1]), grounds):
        begin = first + int(others[0])
    others = np.flatnonzero(_apart(run, run[:, -1:]))
    if len(others) and last < colours.shape[1] and not _is_near(_colour(colours[:, last - 1 : last]), grounds):
        end = first + int(others[-1]) + 1
    return (begin, end) if begin <= end else ((begin + end) // 2,) * 2


def _ends_straight(lines: Planes, ends: tuple[int, int], straight: float) -> bool:
    """Whether flat lines end at a straight edge on one side."""
    inside = (at for at in ends if 0 < at < lines.shape[1])
    return any(_apart(lines[:, at - 1], lines[:, at]).mean() >= straight for at in inside)


def _is_near(colour: Colour, grounds: Sequence[Colour]) -> bool:
    """Whether a colour is near to one of these."""
    return any(max(abs(a - b) for a, b in zip(colour, ground, strict=True)) <= NEAR for ground in grounds)


def _colour(colours: NDArray[np.int16]) -> Colour:
    """The colour of most of some lines: at the edge of a gap one may be mixed with what is next to it."""
    red, green, blue = np.sort(colours, axis=1)[:, colours.shape[1] // 2].tolist()
    return red, green, blue


def _flat(lines: Planes) -> tuple[NDArray[np.bool_], NDArray[np.int16]]:
    """Whether each line is flat, and its colour. Shape: (L,), (3, L)."""
    spots = np.linspace(0, lines.shape[2] - 1, SPOTS).astype(int)
    colours = np.sort(lines[:, :, spots], axis=2)[:, :, SPOTS // 2]
    return np.count_nonzero(_apart(lines, colours[:, :, None]), axis=1) <= (1 - FLAT) * lines.shape[2], colours


def _apart(pixels: NDArray[np.int16], others: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Whether pixels differ from others. Shape: (3, ...) each, (...)."""
    red, green, blue = np.abs(pixels - others)
    differs: NDArray[np.bool_] = np.maximum(np.maximum(red, green), blue) > NEAR
    return differs


def _aired(image: Planes, cell: _Cell) -> Box:
    """The box of a cell, with air on each side where no straight edge ends it."""
    top, left, bottom, right = cell.box
    air = round(AIR * max(bottom - top, right - left))
    straight = _edges(image, cell.box, STRAIGHT)
    return (
        top if straight[0] else max(cell.limit[0], top - air),
        left if straight[1] else max(cell.limit[1], left - air),
        bottom if straight[2] else min(cell.limit[2], bottom + air),
        right if straight[3] else min(cell.limit[3], right + air),
    )


def _edges(image: Planes, box: Box, share: float) -> tuple[bool, bool, bool, bool]:
    """By side, whether so much of an edge differs from the line outside; the edge of the image does."""
    top, left, bottom, right = box
    rows, columns = image[:, :, left:right], image[:, top:bottom].swapaxes(1, 2)

    def differs(lines: Planes, inside: int, outside: int) -> bool:
        return not 0 <= outside < lines.shape[1] or bool(_apart(lines[:, inside], lines[:, outside]).mean() >= share)

    return (
        differs(rows, top, top - 1),
        differs(columns, left, left - 1),
        differs(rows, bottom - 1, bottom),
        differs(columns, right - 1, right),
    )
