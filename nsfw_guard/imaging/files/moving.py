"""Composes the frames of a GIF or APNG by the rules of their formats, as browsers and players do.

Pillow composes some differently: it lets "unspecified" disposals inherit the one before, never goes back beyond the
last frame, and fills areas with a colour that players leave clear. Both results are judged.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nsfw_guard.imaging.appearances import clear_rgba

Canvas = NDArray[np.uint8]


class Disposal(enum.Enum):
    """How a frame is removed before the next one is drawn."""

    KEEP = enum.auto()
    CLEAR = enum.auto()
    RESTORE = enum.auto()


@dataclass(frozen=True)
class Piece:
    """One frame: a file with nothing else in it, and its place on the canvas.

    Args:
        file: makes the file when the frame is drawn, since all of them would not fit into memory.
        left, top, width, height: its place on the canvas.
        disposal: how it is removed.
        over: whether its clear pixels keep those below; else they clear them.
    """

    file: Callable[[], bytes]
    left: int
    top: int
    width: int
    height: int
    disposal: Disposal
    over: bool


def is_plain(pieces: Sequence[Piece], size: tuple[int, int]) -> bool:
    """Return whether all readers compose these frames alike: each is kept, and the first covers the whole canvas."""
    if not pieces:
        return True
    first = pieces[0]
    covers = (first.left, first.top) == (0, 0) and first.width >= size[0] and first.height >= size[1]
    return covers and all(piece.disposal is Disposal.KEEP for piece in pieces[:-1])


def compose(
    pieces: Sequence[Piece], size: tuple[int, int], opened: Callable[[bytes], Image.Image]
) -> Iterator[Image.Image]:
    """Yield each frame as a player shows it: RGBA, or RGB where nothing of it is clear.

    Args:
        pieces: in the order in which they are drawn.
        size: size of the canvas; pixels beyond it are not shown.
        opened: opens a file.
    """
    canvas: Canvas = np.zeros((size[1], size[0], 4), np.uint8)
    for index, piece in enumerate(pieces):
        restores = piece.disposal is Disposal.RESTORE and index > 0  # a first frame has nothing to go back to
        before = canvas.copy() if restores else canvas
        with opened(piece.file()) as image:
            drawn = np.asarray(clear_rgba(image))
        place = canvas[piece.top : piece.top + piece.height, piece.left : piece.left + piece.width]
        drawn = drawn[: place.shape[0], : place.shape[1]]
        place[:] = _over(drawn, place) if piece.over else drawn
        yield _shown(canvas)
        if restores:
            canvas = before
        elif piece.disposal is not Disposal.KEEP:
            place[:] = 0


def _shown(canvas: Canvas) -> Image.Image:
    image = Image.fromarray(canvas.copy())
    return image.convert("RGB") if canvas[..., 3].min() == 255 else image


def _over(drawn: Canvas, below: Canvas) -> Canvas:
    """One composed over the other by their alpha."""
    alpha = drawn[..., 3:]
    if ((alpha == 0) | (alpha == 255)).all():  # as in every GIF
        return np.where(alpha == 255, drawn, below)
    a, b = drawn.astype(np.float32) / 255, below.astype(np.float32) / 255
    whole = a[..., 3:] + b[..., 3:] * (1 - a[..., 3:])
    colour = a[..., :3] * a[..., 3:] + b[..., :3] * b[..., 3:] * (1 - a[..., 3:])
    out = np.concatenate([np.divide(colour, whole, out=np.zeros_like(colour), where=whole > 0), whole], -1)
    blended: Canvas = (out * 255).round().astype(np.uint8)
    return blended
