"""Every model of the catalogue against the reference implementation, and second opinions in the shapes world.

python benchmarks/catalogue.py

The weights are random and the architectures real, at full size but for text sides and the one that would need 4.5 GB:
no model hub is asked for anything. Equal numbers on random weights mean the same arithmetic.
"""

from __future__ import annotations

import itertools
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from common import finish, machine, table  # first: it sets the threads

import numpy as np
import torch
from PIL import Image

from nsfw_guard import load, names
from nsfw_guard.backends import loaders, registry
from nsfw_guard.backends.base import Backend, Options
from nsfw_guard.backends.opinions import Cascade, Ensemble
from nsfw_guard.demo.training import policy as lessons
from nsfw_guard.guard import Guard
from nsfw_guard.images import Frames
from tests.backends.made import KINDS, make, reference
from tests.conftest import smooth

SIZES = ((512, 512), (768, 1344), (501, 333), (224, 224))
ROUNDS = 2
SMALL = {"siglip2-so400m"}  # full size would be 4.5 GB of random numbers
DRAWN = 2000


def pictures() -> list[torch.Tensor]:
    """Harmless noise with structure. Shape: (3, H, W), uint8."""
    made = [smooth(1, *size, seed=seed)[0] for seed, size in enumerate(itertools.chain(*[SIZES] * ROUNDS))]
    return [(pixels * 255).round().to(torch.uint8) for pixels in made]


@torch.inference_mode()
def against_reference(name: str, folder: Path) -> dict[str, Any]:
    """One record: how far its numbers are from the reference's, and how long both take."""
    spec = make(registry.spec(name), folder, full=name not in SMALL)
    views = "center" if spec.input.crop_mode == "center" else "cover"
    backend: Any = loaders.load_files(spec, folder, Options(views=views))
    what, told = reference(spec, folder)
    furthest, equal, ratios = 0.0, 0, []
    for pixels in pictures():
        picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        ours, mine = timed(partial(numbers, backend, pixels))
        theirs, other = timed(partial(told, picture))
        ratios.append(mine / other)
        flag = backend.read(ours)[0] >= 0.5
        if spec.kind == "checker":
            equal += bool(flag[0]) == bool(theirs)
        else:
            furthest = max(furthest, float((ours[0] - theirs).abs().max()))
            equal += bool((flag == (backend.read(theirs[None])[0] >= 0.5)).all())
    return {
        "reference": what, "pictures": len(pictures()), "furthest": furthest, "equal": equal,
        "ratio": statistics.median(ratios), "exact": spec.kind in {"timm", "transformers"}, "kind": spec.kind,
        "size": (folder / "model.safetensors").stat().st_size,
    }  # fmt: skip


def numbers(backend: Any, pixels: torch.Tensor) -> torch.Tensor:
    """The network's numbers for one picture. Shape: (3, H, W) to (1, K)."""
    made: torch.Tensor = backend.forward(backend.preprocess.prepare(Frames(pixels[None])).pixels[:, 0])[0]
    return made


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and how long it takes."""
    start = time.perf_counter()
    made = run()
    return made, time.perf_counter() - start


def opinions() -> dict[str, dict[str, float]]:
    """Each way on the same drawn pictures, far wilder than the captions: right, asked the second, time."""
    book = lessons.pages(np.random.default_rng(20261121), DRAWN)
    pixels, unsafe = book.levels.permute(0, 3, 1, 2).contiguous(), (book.severities > 0).tolist()
    ways: dict[str, Callable[[], Backend]] = {
        "demo-shapes": lambda: load("demo-shapes"),
        "demo-shapes-graded": lambda: load("demo-shapes-graded"),
        "Ensemble, max": lambda: Ensemble([load("demo-shapes"), load("demo-shapes-graded")]),
        "Ensemble, mean": lambda: Ensemble([load("demo-shapes"), load("demo-shapes-graded")], combine="mean"),
        "Ensemble, vote": lambda: Ensemble([load("demo-shapes"), load("demo-shapes-graded")], combine="vote"),
        "Cascade": lambda: Cascade(load("demo-shapes"), load("demo-shapes-graded"), band=(0.02, 0.98)),
    }
    found = {}
    for name, build in ways.items():
        backend = build()
        guard = Guard(backend, policy={"rules": {"red-disc": {"block": "default"}}})
        start = time.perf_counter()
        flags = [v.flagged for batch in pixels.split(200) for v in guard.check(batch)]
        seconds = time.perf_counter() - start
        wrong = [flag != truth for flag, truth in zip(flags, unsafe, strict=True)]
        alarms = sum(w for w, truth in zip(wrong, unsafe, strict=True) if not truth)
        asked = backend.asked / backend.seen if isinstance(backend, Cascade) else float(name.startswith("Ensemble"))
        found[name] = {
            "right": 1 - sum(wrong) / DRAWN, "alarms": alarms / unsafe.count(False),
            "missed": (sum(wrong) - alarms) / unsafe.count(True), "asked": asked, "ms": seconds / DRAWN * 1000,
        }  # fmt: skip
    return found


def main() -> None:
    """Prints both tables; 1 when a model's numbers are not the reference's."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(machine() + "\n")
    wanted = [name for name in names() if registry.spec(name).repo and registry.spec(name).kind in KINDS]
    told = {}
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            told[name] = against_reference(name, Path(folder) / name)
    columns = ("compared with", "weights, MB", "pictures", "max abs d logit", "flags equal", "time / reference")
    table(("record", *columns), [_row(name, one) for name, one in told.items()])
    ways = opinions()
    print(f"{DRAWN} drawn pictures, of which about a quarter hold no red disc but much that is near one\n")
    table(
        ("way", "right", "false alarms", "missed", "asked the second", "ms a picture"),
        [
            (n, f"{w['right']:.2%}", f"{w['alarms']:.2%}", f"{w['missed']:.2%}", f"{w['asked']:.1%}", f"{w['ms']:.2f}")
            for n, w in ways.items()
        ],
    )
    broken = [n for n, one in told.items() if one["equal"] < one["pictures"] or (one["exact"] and one["furthest"] > 0)]
    broken += [n for n, one in told.items() if one["furthest"] > 1e-3]
    finish("catalogue", {"records": told, "opinions": ways}, broken)


def _row(name: str, one: dict[str, Any]) -> tuple[str, ...]:
    furthest = "-" if one["kind"] == "checker" else f"{one['furthest']:.1e}" if one["furthest"] else "0"
    small = " (small)" if name in SMALL else ""
    return (
        name + small, one["reference"], f"{one['size'] / 1e6:.0f}", str(one["pictures"]), furthest,
        f"{one['equal']} / {one['pictures']}", f"{one['ratio']:.2f}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
