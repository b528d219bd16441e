"""The frames of a GIF or an APNG put together by the rules of their formats, as browsers and players show them.

Pillow puts them together too, and not always alike: it lets "unspecified" disposals inherit the one before, never goes
back to the frame before the last, and fills with a colour what a player leaves clear. Both readings are judged.
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
    """What becomes of a frame before the next one is drawn."""

    KEEP = enum.auto()
    CLEAR = enum.auto()
    RESTORE = enum.auto()


@dataclass(frozen=True)
class Piece:
    """What one frame draws: a file that holds nothing else, and where it goes.

    Args:
        file: makes the file; only when the frame is drawn, since all of them would not fit.
        left, top, width, height: its place on the canvas.
        disposal: what becomes of it.
        over: what is clear in it leaves what was there; else it is cleared.
    """

    file: Callable[[], bytes]
    left: int
    top: int
    width: int
    height: int
    disposal: Disposal
    over: bool


def is_plain(pieces: Sequence[Piece], size: tuple[int, int]) -> bool:
    """Return whether every reader puts these frames together alike: each is kept, and the first covers everything."""
    if not pieces:
        return True
    first = pieces[0]
    covers = (first.left, first.top) == (0, 0) and first.width >= size[0] and first.height >= size[1]
    return covers and all(piece.disposal is Disposal.KEEP for piece in pieces[:-1])


def compose(
    pieces: Sequence[Piece], size: tuple[int, int], opened: Callable[[bytes], Image.Image]
) -> Iterator[Image.Image]:
    """Gives each frame as a player shows it: RGBA, or RGB where nothing of it is clear.

    Args:
        pieces: in the order in which they are drawn.
        size: of the canvas; what lies beyond it is not seen.
        opened: opens a file.
    """
    canvas: Canvas = np.zeros((size[1], size[0], 4), np.uint8)
    for index, piece in enumerate(pieces):
        restores = piece.disposal is Disposal.RESTORE and index > 0  # a first frame has nothing to go back to
        before = canvas.copy() if restores else canvas
        with opened(piece.file()) as picture:
            drawn = np.asarray(clear_rgba(picture))
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
    """One over the other, by their alpha."""
    alpha = drawn[..., 3:]
    if ((alpha == 0) | (alpha == 255)).all():  # as in every GIF
        return np.where(alpha == 255, drawn, below)
    a, b = drawn.astype(np.float32) / 255, below.astype(np.float32) / 255
    whole = a[..., 3:] + b[..., 3:] * (1 - a[..., 3:])
    colour = a[..., :3] * a[..., 3:] + b[..., :3] * b[..., 3:] * (1 - a[..., 3:])
    out = np.concatenate([np.divide(colour, whole, out=np.zeros_like(colour), where=whole > 0), whole], -1)
    blended: Canvas = (out * 255).round().astype(np.uint8)
    return blended
