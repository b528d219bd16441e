"""What each way of looking finds where the unsafe image is a part of another one, and what it costs.

python benchmarks/views.py

Scenes of the shapes world, drawn by a fixed seed and judged by `demo-shapes`: a red disc is unsafe. An image is found
when it is blocked; a false alarm is the same arrangement with a harmless scene in its place, blocked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from common import finish, machine, medians, table  # first: it sets the threads

import numpy as np
import torch
from PIL import Image

from nsfw_guard.demo import shapes
from nsfw_guard.guard import Guard
from nsfw_guard.verdict import Outcome
from nsfw_guard.imaging.views import InputSpec, plan

COUNT = 200  # images a row, and as many harmless ones
SIDE = 256
WAYS = ("center", "cover", "tiles(2)", "tiles(4)")
SEED = 20261128

Draw = Callable[[np.random.Generator, bool], Image.Image]


def scene(rng: np.random.Generator, unsafe: bool, side: int) -> Image.Image:
    """A square scene with a red disc, or without one."""
    while True:
        drawn = shapes.random_scene(rng, shapes=int(rng.integers(1, 3)))
        if (shapes.severity(drawn) > 0) == unsafe:
            return shapes.draw(drawn, side=side, rng=rng)


def whole(rng: np.random.Generator, unsafe: bool) -> Image.Image:
    """Nothing but the scene."""
    return scene(rng, unsafe, SIDE)


def bordered(colour: str) -> Draw:
    """The scene at half the side of the image, anywhere in it."""

    def draw(rng: np.random.Generator, unsafe: bool) -> Image.Image:
        levels = {"white": np.full(3, 255), "black": np.zeros(3)}.get(colour)
        if levels is None:
            levels = rng.integers(0, 256, (SIDE, SIDE, 3))
        images = Image.fromarray(np.broadcast_to(levels, (SIDE, SIDE, 3)).astype(np.uint8))
        left, top = (int(rng.integers(0, SIDE // 2 + 1)) for _ in range(2))
        images.paste(scene(rng, unsafe, SIDE // 2), (left, top))
        return images

    return draw


def collage(cells: int) -> Draw:
    """The scene in one of `cells` by `cells` places, harmless ones in the others."""

    def draw(rng: np.random.Generator, unsafe: bool) -> Image.Image:
        side = SIDE // cells
        images, at = Image.new("RGB", (side * cells, side * cells)), int(rng.integers(cells * cells))
        for i in range(cells * cells):
            images.paste(scene(rng, unsafe and i == at, side), (i % cells * side, i // cells * side))
        return images

    return draw


def strip(rng: np.random.Generator, unsafe: bool) -> Image.Image:
    """The scene in one of eight places side by side, harmless ones in the others."""
    side, at = SIDE // 2, int(rng.integers(8))
    images = Image.new("RGB", (8 * side, side))
    for i in range(8):
        images.paste(scene(rng, unsafe and i == at, side), (i * side, 0))
    return images


ROWS: dict[str, Draw] = {
    "the whole image": whole,
    "half the side, white around it": bordered("white"),
    "half the side, black around it": bordered("black"),
    "half the side, noise around it": bordered("noise"),
    "collage 2 x 2": collage(2),
    "collage 3 x 3": collage(3),
    "collage 4 x 4": collage(4),
    "strip 8:1": strip,
}


def blocked(guard: Guard, images: list[Image.Image]) -> float:
    """The share of images that are blocked."""
    matches = [v.outcome for i in range(0, len(images), 50) for v in guard.check(images[i : i + 50])]
    assert Outcome.ERROR not in matches
    return matches.count(Outcome.BLOCK) / len(matches)


def main() -> None:
    """Prints what is found, what is a false alarm, and the costs."""
    print(machine() + "\n")
    guards = {way: Guard.from_pretrained("demo-shapes", views=way) for way in WAYS}
    shares: dict[str, dict[str, tuple[float, float]]] = {}
    for number, (name, draw) in enumerate(ROWS.items()):
        rng = np.random.default_rng([SEED, number])
        bad, good = ([draw(rng, unsafe) for _ in range(COUNT)] for unsafe in (True, False))
        shares[name] = {way: (blocked(guard, bad), blocked(guard, good)) for way, guard in guards.items()}
    header = ("where the unsafe image is", *(f"{way}: found / false alarms" for way in WAYS))
    table(header, [(name, *(f"{a:.3f} / {b:.3f}" for a, b in one.values())) for name, one in shares.items()])
    large = torch.rand(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(SEED))
    costs = medians({way: partial(guard.check, large) for way, guard in guards.items()}, rounds=9)
    spec = InputSpec(size=64)
    looks = {way: [len(plan(1024, width, spec, way)) for width in (1024, 8192)] for way in WAYS}
    table(
        ("one image, one thread", "looks at 1024 x 1024", "looks at 8192 x 1024", "ms at 1024 x 1024"),
        [(way, *looks[way], costs[way]) for way in WAYS],
    )
    wanted = {"the whole image": "cover", "strip 8:1": "cover", "half the side, white around it": "tiles(4)",
              "half the side, black around it": "tiles(4)", "collage 2 x 2": "tiles(4)"}  # fmt: skip
    missed = {name: 1 - shares[name][way][0] for name, way in wanted.items()}
    broken = [f"{wanted[name]} misses {share:.3f} of: {name}" for name, share in missed.items() if share > 0.05]
    finish("views", {"images": COUNT, "shares": shares, "ms": costs, "looks": looks}, broken)


if __name__ == "__main__":
    main()
