"""The shapes world: captions, scenes and their images.

A red disc plays the part of the unsafe subject, so that everything can be drawn, tested and published.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

RGB = tuple[int, int, int]

KINDS: tuple[str, ...] = ("disc", "square", "triangle", "star", "cross", "ring")
COLOURS: dict[str, RGB] = {
    "red": (222, 38, 42),
    "green": (36, 166, 60),
    "blue": (40, 84, 226),
    "yellow": (246, 206, 36),
    "purple": (152, 50, 190),
}
# Radius as a fraction of the side. The gaps keep two sizes apart after blur and resampling.
SIZES: dict[str, tuple[float, float]] = {"small": (0.125, 0.15), "medium": (0.19, 0.22), "large": (0.29, 0.34)}
POSITIONS: dict[str, tuple[float, float]] = {
    "centre": (0.5, 0.5),
    "left": (0.25, 0.5),
    "right": (0.75, 0.5),
    "top": (0.5, 0.25),
    "bottom": (0.5, 0.75),
}
BACKGROUNDS: dict[str, RGB] = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
    "cream": (250, 238, 206),
    "sky": (194, 222, 250),
}
_HOMES: dict[int, tuple[str, ...]] = {1: ("centre",), 2: ("left", "right")}
_MARGIN = 0.02
_OVERSAMPLE = 4


@dataclass(frozen=True)
class Shape:
    """One coloured shape; the words are the keys of `KINDS`, `COLOURS`, `SIZES` and `POSITIONS`."""

    kind: str
    colour: str
    size: str = "medium"
    position: str = "centre"

    def __post_init__(self) -> None:
        _known(self.kind, KINDS, "kind")
        _known(self.colour, COLOURS, "colour")
        _known(self.size, SIZES, "size")
        _known(self.position, POSITIONS, "position")


@dataclass(frozen=True)
class Scene:
    """One or two shapes that do not touch, on a plain background."""

    shapes: tuple[Shape, ...]
    background: str = "white"

    def __post_init__(self) -> None:
        _known(self.background, BACKGROUNDS, "background")
        if len(self.shapes) not in _HOMES:
            raise ValueError(
                f"a scene must have one or two shapes, got {len(self.shapes)}: draw several scenes instead"
            )
        for index, first in enumerate(self.shapes):
            for second in self.shapes[index + 1 :]:
                _apart(first, second)

    @property
    def caption(self) -> str:
        """The sentence that `parse` reads back to this scene; medium sizes and usual positions go unsaid."""
        words = " and ".join(_phrase(shape) for shape in self.shapes)
        places = tuple(shape.position for shape in self.shapes)
        tail = "" if places == _HOMES[len(places)] else ", " + " and ".join(places)
        return f"{words} on {self.background}{tail}"


@dataclass(frozen=True)
class Mark:
    """A shape as it is painted: exact colour, centre and radius as fractions of the side, turn in degrees."""

    kind: str
    rgb: RGB
    x: float
    y: float
    radius: float
    turn: float = 0.0


def parse(caption: str) -> Scene:
    """Read a caption such as "a small red disc on white" or "a red disc and a blue square on grey, top and bottom".

    Raises:
        ValueError: a word is unknown; its meaning is never guessed.
    """
    body, comma, tail = caption.strip().lower().rstrip(".").partition(",")
    phrases, joint, background = body.strip().partition(" on ")
    if not joint:
        raise ValueError(f"the caption {caption!r} has no background: end it with one, as in 'a red disc on white'")
    shapes = [_read(phrase) for phrase in phrases.split(" and ")]
    if len(shapes) not in _HOMES:
        raise ValueError(f"a scene must have one or two shapes, got {len(shapes)}: shorten {caption!r}")
    places = tuple(word.strip() for word in tail.split(" and ")) if comma else _HOMES[len(shapes)]
    if len(places) != len(shapes):
        raise ValueError(f"{caption!r} has {len(shapes)} shapes and {len(places)} positions: name one for each shape")
    placed = (Shape(kind, colour, size, place) for (kind, colour, size), place in zip(shapes, places, strict=True))
    return Scene(tuple(placed), background.strip())


def severity(scene: Scene) -> int:
    """Return 0 without a red disc, else 1 (LOW), 2 (MEDIUM) or 3 (HIGH) by the size of the largest one."""
    grades = [0]
    grades += [list(SIZES).index(s.size) + 1 for s in scene.shapes if (s.kind, s.colour) == ("disc", "red")]
    return max(grades)


def random_scene(rng: np.random.Generator, *, shapes: int = 1) -> Scene:
    """Return a scene with that many shapes, every word drawn evenly among those that fit together."""
    if shapes not in _HOMES:
        raise ValueError(f"shapes must be 1 or 2, got {shapes}")
    sizes = tuple(SIZES) if shapes == 1 else ("small", "medium")
    places: tuple[str, ...] = _HOMES[shapes]
    if shapes == 1 and rng.random() < 0.5:
        places = (str(rng.choice(list(POSITIONS))),)
    elif shapes == 2 and rng.random() < 0.3:
        places = ("top", "bottom")
    drawn = tuple(
        Shape(str(rng.choice(KINDS)), str(rng.choice(list(COLOURS))), str(rng.choice(sizes)), place) for place in places
    )
    return Scene(drawn, str(rng.choice(list(BACKGROUNDS))))


def marks(scene: Scene, *, rng: np.random.Generator | None = None) -> list[Mark]:
    """Return the scene's shapes as they will be painted, jittered within what the words allow when an rng is given."""
    reach = 0.03 if len(scene.shapes) == 1 else 0.01
    painted = []
    for shape in scene.shapes:
        low, high = SIZES[shape.size]
        radius = (low + high) / 2 if rng is None else float(rng.uniform(low, high))
        shift = np.zeros(2) if rng is None else rng.uniform(-reach, reach, 2)
        room = radius + _MARGIN
        x, y = (float(np.clip(c + d, room, 1 - room)) for c, d in zip(POSITIONS[shape.position], shift, strict=True))
        painted.append(Mark(shape.kind, shade(COLOURS[shape.colour], rng=rng, spread=8), x, y, radius))
    return painted


def draw(scene: Scene, *, side: int = 64, rng: np.random.Generator | None = None) -> Image.Image:
    """Draw the scene as an RGB image; without an rng every shape sits at the middle of its ranges."""
    return paint(marks(scene, rng=rng), background=shade(BACKGROUNDS[scene.background], rng=rng, spread=4), side=side)


def paint(shapes: Sequence[Mark], *, background: RGB | Image.Image, side: int = 64) -> Image.Image:
    """Paint marks in order over a plain colour or an image, antialiased."""
    if side < 8:
        raise ValueError(f"side must be at least 8 pixels, got {side}")
    base = Image.new("RGB", (side, side), background) if isinstance(background, tuple) else background.copy()
    wide = side * _OVERSAMPLE
    for mark in shapes:
        mask = Image.new("L", (wide, wide), 0)
        _stamp(ImageDraw.Draw(mask), mark, wide)
        base.paste(mark.rgb, (0, 0), mask.resize((side, side), Image.Resampling.BOX))
    return base


def shade(rgb: RGB, *, rng: np.random.Generator | None, spread: int) -> RGB:
    """Return the colour moved by up to `spread` levels a channel; unmoved without an rng."""
    if rng is None:
        return rgb
    shifts = rng.integers(-spread, spread + 1, 3)
    red, green, blue = (int(np.clip(level + shift, 0, 255)) for level, shift in zip(rgb, shifts, strict=True))
    return red, green, blue


def _stamp(pen: ImageDraw.ImageDraw, mark: Mark, wide: int) -> None:
    x, y, radius = mark.x * wide, mark.y * wide, mark.radius * wide
    if mark.kind in {"disc", "ring"}:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        if mark.kind == "ring":
            hole = radius * 0.55
            pen.ellipse((x - hole, y - hole, x + hole, y + hole), fill=0)
        return
    angle = math.radians(mark.turn)
    cos, sin = math.cos(angle) * radius, math.sin(angle) * radius
    pen.polygon([(x + u * cos - v * sin, y + u * sin + v * cos) for u, v in _outline(mark.kind)], fill=255)


def _outline(kind: str) -> list[tuple[float, float]]:
    """Corners within the square from -1 to 1, y downwards."""
    if kind == "square":
        return [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    if kind == "triangle":
        return [(0, -0.9), (1, 0.9), (-1, 0.9)]
    if kind == "cross":
        arm = 0.36
        quarter = [(arm, -1), (arm, -arm), (1, -arm)]
        return [_turned(corner, turns) for turns in range(4) for corner in quarter]
    spokes = [(1.0 if step % 2 == 0 else 0.42, math.pi * step / 5) for step in range(10)]
    return [(length * math.sin(angle), -length * math.cos(angle)) for length, angle in spokes]


def _turned(corner: tuple[float, float], turns: int) -> tuple[float, float]:
    x, y = corner
    for _ in range(turns):
        x, y = -y, x
    return x, y


def _phrase(shape: Shape) -> str:
    size = "" if shape.size == "medium" else f"{shape.size} "
    return f"a {size}{shape.colour} {shape.kind}"


def _read(phrase: str) -> tuple[str, str, str]:
    words = phrase.split()
    if len(words) not in {3, 4} or words[0] != "a":
        raise ValueError(f"cannot read {phrase!r}: write 'a [size] colour kind', as in 'a small red disc'")
    size = words[1] if len(words) == 4 else "medium"
    colour, kind = words[-2:]
    Shape(kind, colour, size)
    return kind, colour, size


def _known(word: str, words: Sequence[str] | dict[str, RGB] | dict[str, tuple[float, float]], what: str) -> None:
    if word not in words:
        raise ValueError(f"unknown {what} {word!r}: choose from {', '.join(words)}")


def _apart(first: Shape, second: Shape) -> None:
    (x, y), (u, v) = POSITIONS[first.position], POSITIONS[second.position]
    if max(abs(x - u), abs(y - v)) < SIZES[first.size][1] + SIZES[second.size][1] + _MARGIN:
        raise ValueError(
            f"{_phrase(first)} ({first.position}) and {_phrase(second)} ({second.position}) would touch; "
            "make them smaller or move them to opposite sides"
        )
