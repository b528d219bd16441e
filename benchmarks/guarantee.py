"""Whether promises of calibration are kept: 500 draws of labelled images, each with thresholds of its own.

python benchmarks/guarantee.py [--pool 6000] [--draws 500]

A pool of images of the shapes world, half of them with a red disc, blurred, noisy and pale so that the model errs, is
scored once. A draw takes images of it by chance, calibrates on them as `nsfw-guard calibrate` does, and looks at the
whole pool: how many unsafe images does the threshold miss, how many harmless ones does it flag? A promise of 95% may be
broken in one draw of twenty.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from common import finish, machine, table  # first: it sets the threads

import numpy as np
from PIL import Image, ImageFilter

from nsfw_guard.backends.registry import load_model
from nsfw_guard.demo import shapes
from nsfw_guard.tools.teaching.calibrate import CalibrationResult, Wanted, calibrate
from nsfw_guard.tools.teaching.labelled import LabelledImage
from nsfw_guard.tools.teaching.scored import ScoredImage, score_images

CATEGORY = "red-disc"
SEED = 20261130
PROMISES = {
    "at most 1% missed": (Wanted(misses=0.01), 1200),
    "at most 5% missed": (Wanted(misses=0.05), 400),
    "at most 1% false alarms": (Wanted(alarms=0.01), 1200),
    "at most 5% false alarms": (Wanted(alarms=0.05), 400),
}


def hard(rng: np.random.Generator, unsafe: bool) -> Image.Image:
    """A scene with a red disc or without, spoilt until the model errs."""
    while True:
        scene = shapes.random_scene(rng, shapes=int(rng.integers(1, 3)))
        if (shapes.severity(scene) > 0) == unsafe:
            break
    image = shapes.draw(scene, side=64, rng=rng).filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 2.5))))
    pixels = np.asarray(image, np.float64)
    pale = rng.uniform(0.5, 1.0)
    pixels = pixels * pale + 128 * (1 - pale) + rng.normal(0, rng.uniform(0, 20), pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def pool_of(count: int) -> list[ScoredImage]:
    """So many images, half of them unsafe, with their scores; no two are alike."""
    rng, backend = np.random.default_rng(SEED), load_model("demo-shapes")
    images = []
    with tempfile.TemporaryDirectory() as home:
        for number in range(count):
            path = Path(home, f"{number}.png")
            unsafe = number % 2 == 0
            hard(rng, unsafe).save(path)
            images.append(LabelledImage(str(path), frozenset({CATEGORY} if unsafe else ())))
        scored = list(score_images(backend, images))
    # Draws are with replacement, and so are independent; a hash would make one image of two draws of it.
    return [ScoredImage(one.image, one.views) for one in scored]


def drawn(pool: Sequence[ScoredImage], each: int, rng: np.random.Generator, draw: int) -> list[ScoredImage]:
    """So many images of each kind, with paths of their own."""
    kinds = [[one for one in pool if bool(one.image.categories) == unsafe] for unsafe in (True, False)]
    chosen = [of_kind[at] for of_kind in kinds for at in rng.integers(0, len(of_kind), each)]
    return [
        ScoredImage(LabelledImage(f"{draw}/{at}", one.image.categories), one.views) for at, one in enumerate(chosen)
    ]


def rate(pool: Sequence[ScoredImage], result: CalibrationResult, *, unsafe: bool) -> float:
    """The share of the pool on the wrong side of the threshold."""
    block = result.calibration.thresholds["default"].block_of(CATEGORY)
    chosen = [one for one in pool if bool(one.image.categories) == unsafe]
    moved = result.calibration.moved
    high = [
        max(moved(CATEGORY, view[CATEGORY], kind=kind) for kind, view in one.views.items()) >= block for one in chosen
    ]
    return statistics.mean(flag != unsafe for flag in high)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=int, default=6000, help="images that are scored (default: 6000)")
    parser.add_argument("--draws", type=int, default=500, help="draws of each promise (default: 500)")
    args = parser.parse_args()
    print(machine() + "\n")
    pool, rng, backend = pool_of(args.pool), np.random.default_rng(SEED), load_model("demo-shapes")
    rows, broken = [], []
    allowed = 0.05 + 3 * math.sqrt(0.05 * 0.95 / args.draws)
    for name, (wanted, each) in PROMISES.items():
        unsafe, most = wanted.misses is not None, wanted.misses or wanted.alarms or 0.0
        rates, errors = [], []
        for draw in range(args.draws):
            result = calibrate(backend, drawn(pool, each, rng, draw), wanted)
            rates.append(rate(pool, result, unsafe=unsafe))
            one = result.categories[CATEGORY]
            errors.append((one.error_before, one.error_after, one.error_perfect))
        kept = statistics.mean(r > most for r in rates)
        before, after, perfect = (statistics.median(each) for each in zip(*errors, strict=True))
        rows.append([name, str(2 * each), f"{kept:.3f}", f"{statistics.median(rates):.4f}", f"{max(rates):.4f}",
                     f"{before:.3f}", f"{after:.3f}", f"{perfect:.3f}"])  # fmt: skip
        broken += [f"{name}: broken in {kept:.3f} of the draws"] if kept > allowed else []
        broken += [f"{name}: error {after:.3f} above {perfect:.3f}"] if after > perfect else []
    header = ["promise", "images", "broken", "median rate", "highest rate", "error before", "after", "perfect (p95)"]
    table(header, rows)
    finish(
        "guarantee",
        {"pool": args.pool, "draws": args.draws, "rows": [dict(zip(header, r, strict=True)) for r in rows]},
        broken,
    )


if __name__ == "__main__":
    main()
