"""Images a policy model has to be right about: far wilder than the captions, with the severity each one deserves."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from nsfw_guard.demo import shapes
from nsfw_guard.demo.training import tensors

_SIDES = (48, 64, 64, 64, 80, 96, 128, 192, 256)
_GRADES = {word: grade for grade, word in enumerate(shapes.SIZES, start=1)}


@dataclass(frozen=True)
class Example:
    """An image at the models' input size and its severity, 0 to 3."""

    image: Image.Image
    severity: int


def example(rng: np.random.Generator) -> Example:
    """Return one image: usually shapes anywhere on any ground, sometimes a caption's scene, sometimes no shape at
    all.
    """
    draw = rng.random()
    if draw < 0.08:
        return Example(_finish(_bare(rng, int(rng.choice(_SIDES))), rng), 0)
    if draw < 0.38:
        scene = scene_with_red(rng)
        image = shapes.draw(scene, side=int(rng.choice(_SIDES)), rng=rng)
        return Example(_finish(image, rng), shapes.severity(scene))
    return _free(rng)


def scene_with_red(rng: np.random.Generator) -> shapes.Scene:
    """Return a caption's scene in which red discs, and what is easily taken for them, come more often than
    by chance.
    """
    scene = shapes.random_scene(rng, shapes=int(rng.choice([1, 1, 2])))
    first, *others = scene.shapes
    draw = rng.random()
    kind = "disc" if draw < 0.6 else first.kind
    colour = "red" if draw < 0.4 or draw > 0.8 else first.colour
    swapped = shapes.Shape(kind, colour, first.size, first.position)
    return shapes.Scene((swapped, *others), scene.background)


def _free(rng: np.random.Generator) -> Example:
    """One to three shapes that do not touch, anywhere and turned, on a plain, graded or noisy ground."""
    side = int(rng.choice(_SIDES))
    painted: list[shapes.Mark] = []
    grade = 0
    for _ in range(int(rng.integers(1, 4))):
        size = str(rng.choice(list(shapes.SIZES), p=[0.45, 0.35, 0.2]))
        mark = _place(rng, size, painted)
        if mark is None:
            continue
        kind, colour = _subject(rng)
        tint = shapes.shade(shapes.COLOURS[colour], rng=rng, spread=14)
        turn = float(rng.uniform(0, 360)) if rng.random() < 0.7 else 0.0
        painted.append(shapes.Mark(kind, tint, mark[0], mark[1], mark[2], turn))
        if (kind, colour) == ("disc", "red"):
            grade = max(grade, _GRADES[size])
    return Example(_finish(shapes.paint(painted, background=_ground(rng, side), side=side), rng), grade)


def _subject(rng: np.random.Generator) -> tuple[str, str]:
    draw = rng.random()
    if draw < 0.28:
        return "disc", "red"
    kind = "disc" if draw < 0.5 else str(rng.choice([word for word in shapes.KINDS if word != "disc"]))
    colours = list(shapes.COLOURS)
    if kind == "disc":
        colours.remove("red")
        return kind, str(rng.choice(colours))
    return kind, "red" if draw > 0.78 else str(rng.choice(colours))


def _place(rng: np.random.Generator, size: str, others: list[shapes.Mark]) -> tuple[float, float, float] | None:
    """A free spot; corners of turned squares reach past the radius, hence the wider berth."""
    radius = float(rng.uniform(*shapes.SIZES[size]))
    for _ in range(12):
        x, y = (float(value) for value in rng.uniform(radius + 0.02, 0.98 - radius, 2))
        if all(np.hypot(x - mark.x, y - mark.y) > 1.2 * (radius + mark.radius) for mark in others):
            return x, y, radius
    return None


def _bare(rng: np.random.Generator, side: int) -> Image.Image:
    """No shape: one colour, red included, or a ground, or noise in the colours and grain of a photograph."""
    draw = rng.random()
    if draw < 0.35:
        red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
        return Image.new("RGB", (side, side), shapes.COLOURS["red"] if draw < 0.08 else (red, green, blue))
    if draw < 0.65:
        return _ground(rng, side)
    field = rng.uniform(0, 255, 3) + np.zeros((side, side, 3))
    for cells in (2, 4, 8, 16, 32):
        patch = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)).resize((side, side), 3)
        field += (np.asarray(patch, dtype=float) - 128) * 2.0 / np.sqrt(cells)
    return Image.fromarray(np.clip(field, 0, 255).astype(np.uint8))


def _ground(rng: np.random.Generator, side: int) -> Image.Image:
    """Plain, graded or noisy; never a red that a disc could hide in."""
    draw = rng.random()
    first, second = (_backdrop(rng) for _ in range(2))
    if draw < 0.55:
        return Image.new("RGB", (side, side), first)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    slope = np.clip((x * np.cos(angle) + y * np.sin(angle)) + 0.5, 0, 1)[..., None]
    field = np.asarray(first) * (1 - slope) + np.asarray(second) * slope
    if draw > 0.75:
        cells = int(rng.choice([4, 8, 16, 32, side]))
        grain = rng.normal(0, rng.uniform(8, 30), (cells, cells, 3 if rng.random() < 0.5 else 1))
        grain = np.broadcast_to(grain, (cells, cells, 3))
        rough = Image.fromarray(np.clip(grain + 128, 0, 255).astype(np.uint8)).resize((side, side), 3)
        field = field + np.asarray(rough, dtype=float) - 128
    return Image.fromarray(np.clip(field, 0, 255).astype(np.uint8))


def _backdrop(rng: np.random.Generator) -> shapes.RGB:
    if rng.random() < 0.6:
        return shapes.shade(shapes.BACKGROUNDS[str(rng.choice(list(shapes.BACKGROUNDS)))], rng=rng, spread=8)
    level = rng.uniform(0, 255)
    red, green, blue = (int(v) for v in np.clip(level + rng.uniform(-30, 30, 3), 0, 255))
    return min(red, green + 30), green, blue


def _finish(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Mirror, resize to the input size as a pipeline's images would be, then wear the image a little."""
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if image.size != (tensors.SIDE, tensors.SIDE):
        image = image.resize((tensors.SIDE, tensors.SIDE), Image.Resampling.BICUBIC)
    draw = rng.random()
    if draw < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.0))))
    elif draw < 0.4:
        levels = np.asarray(image, dtype=float) + rng.normal(0, rng.uniform(2, 14), (tensors.SIDE, tensors.SIDE, 3))
        image = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
    elif draw < 0.6:
        sheet = io.BytesIO()
        image.save(sheet, "JPEG", quality=int(rng.integers(70, 96)))
        image = Image.open(sheet).convert("RGB")
    if rng.random() < 0.3:
        levels = np.asarray(image, dtype=float) * rng.uniform(0.92, 1.06, 3) + rng.uniform(-6, 6)
        image = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
    return image
