"""What a bank of examples blocks: new images of a shape that the model never learned, and ordinary ones by mistake.

python benchmarks/examples.py [--ordinary 1600]

Ordinary images are scenes of the shapes world. For each of four shapes that are not in it, five examples in any colour,
size and place are added to a bank, and removed again. OpenNSFW is a real network that has seen neither (fetch it first:
nsfw-guard fetch open-nsfw); the embedding of the small model of the shapes world holds little but what it was trained
to tell apart, and is shown beside it.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import time
from collections.abc import Sequence

from common import finish, machine, table  # first: it sets the threads

import numpy as np
import torch
from PIL import Image, ImageDraw

from nsfw_guard.backends.examples.bank import Bank
from nsfw_guard.backends.registry import load_model
from nsfw_guard.backends.wrappers.banked import Banked
from nsfw_guard.backends.wrappers.cached import Cached
from nsfw_guard.demo import shapes
from nsfw_guard.errors import WeightsMissingError
from nsfw_guard.guard import Guard
from nsfw_guard.tools.examples import Decision, add_images
from nsfw_guard.tools.similarity.build import embed
from nsfw_guard.verdict import Verdict

SIDE, WIDE = 128, 512
EXAMPLES, NEW, TESTED = 5, 200, 1000
BUDGET = 0.005
LEAST_BLOCKED, MOST_FALSE = 0.9, 0.01
SEED = 20261130
REAL = "open-nsfw"


def novel(kind: str, rng: np.random.Generator) -> Image.Image:
    """A shape that the shapes world does not have, in any of its colours, sizes and places."""
    background = shapes.shade(list(shapes.BACKGROUNDS.values())[rng.integers(5)], rng=rng, spread=4)
    colour = shapes.shade(list(shapes.COLOURS.values())[rng.integers(5)], rng=rng, spread=8)
    radius = rng.uniform(*list(shapes.SIZES.values())[rng.integers(3)]) * WIDE
    place = list(shapes.POSITIONS.values())[rng.integers(5)]
    x, y = (WIDE * part + rng.uniform(-16, 16) for part in place)
    mask = Image.new("L", (WIDE, WIDE))
    stamp(ImageDraw.Draw(mask), kind, x, y, radius)
    image = Image.new("RGB", (SIDE, SIDE), background)
    image.paste(colour, (0, 0), mask.resize((SIDE, SIDE), Image.Resampling.BOX))
    return image


def stamp(pen: ImageDraw.ImageDraw, kind: str, x: float, y: float, r: float) -> None:
    """Draws one of the new shapes."""
    if kind == "crescent":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
        pen.ellipse((x - 0.4 * r, y - 1.1 * r, x + 1.6 * r, y + 0.9 * r), fill=0)
    elif kind == "heart":
        pen.ellipse((x - r, y - r, x, y), fill=255)
        pen.ellipse((x, y - r, x + r, y), fill=255)
        pen.polygon([(x - 0.93 * r, y - 0.3 * r), (x + 0.93 * r, y - 0.3 * r), (x, y + r)], fill=255)
    elif kind == "stripes":
        for step in range(-2, 3):
            pen.rectangle((x - r, y + (0.4 * step - 0.1) * r, x + r, y + (0.4 * step + 0.1) * r), fill=255)
    else:
        for step in range(-1, 2):
            pen.rectangle((x + (0.7 * step - 0.15) * r, y - r, x + (0.7 * step + 0.15) * r, y + r), fill=255)


def scenes(count: int, rng: np.random.Generator) -> list[Image.Image]:
    """Scenes of the shapes world."""
    return [
        shapes.draw(shapes.random_scene(rng, shapes=int(rng.integers(1, 3))), side=SIDE, rng=rng) for _ in range(count)
    ]


def by_example(verdicts: Sequence[Verdict]) -> float:
    """The share that an example has blocked."""
    return statistics.mean("blocked by example" in verdict.reason for verdict in verdicts)


def seconds(guard: Guard, image: Image.Image) -> float:
    """The median time of one image."""
    times = []
    for _ in range(9):
        start = time.perf_counter()
        guard.check([image])
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(model: str, ordinary: int) -> list[dict[str, object]]:
    """A row for each shape."""
    backend = load_model(model)
    plain = Guard(Cached(backend, size=1 << 14))  # the same images are judged with four banks
    rng = np.random.default_rng(SEED)
    sample, tested = embed(plain, scenes(ordinary, rng)), scenes(TESTED, rng)
    empty = Bank(ordinary=sample, budget=BUDGET, model=plain.spec.name, revision=plain.spec.version)
    rows = []
    for kind in ("crescent", "heart", "stripes", "bars"):
        decision = Decision(kind="block", reason="a new shape", label=kind)
        bank, added = add_images(empty, plain, [novel(kind, rng) for _ in range(EXAMPLES)], decision)
        guard, new = Guard(Banked(plain.backend, bank)), [novel(kind, rng) for _ in range(NEW)]
        without = Guard(Banked(plain.backend, bank.without([example.id for example in added])))
        radius = guard.backend.matcher().radii["block", kind]  # type: ignore[attr-defined]
        large = tested[0].resize((1024, 1024))
        rows.append({
            "model": model, "shape": kind, "blocked": by_example(guard.check(new)),
            "ordinary blocked": by_example(guard.check(tested)), "removed again": by_example(without.check(new)),
            "neighbours": radius.neighbours, "ms plain": 1000 * seconds(Guard(backend), large),
            "ms with bank": 1000 * seconds(Guard(Banked(backend, bank)), large),
        })  # fmt: skip
    return rows


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ordinary", type=int, default=1600, help="ordinary images of the bank (default: 1600)")
    ordinary = parser.parse_args().ordinary
    print(f"{machine()}\n{EXAMPLES} examples, budget {BUDGET:g}, {NEW} new images, {TESTED} ordinary ones\n")
    start = datetime.datetime.now()
    torch.manual_seed(SEED)
    try:
        rows = measure(REAL, ordinary)
    except WeightsMissingError as error:
        raise SystemExit(f"{error}") from error
    rows += measure("demo-shapes", ordinary)
    table(list(rows[0]), [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows])
    broken = []
    for row in rows[:4]:
        if not float(str(row["blocked"])) >= LEAST_BLOCKED:
            broken.append(f"{row['shape']}: only {row['blocked']:.3f} blocked")
        if not float(str(row["ordinary blocked"])) <= MOST_FALSE:
            broken.append(f"{row['shape']}: {row['ordinary blocked']:.4f} of ordinary images blocked")
    broken += [f"{row['shape']}: {row['removed again']} still blocked" for row in rows if row["removed again"]]
    spent = (datetime.datetime.now() - start).total_seconds()
    finish("examples", {"ordinary": ordinary, "seconds": round(spent), "rows": rows}, broken)


if __name__ == "__main__":
    main()
