"""Every model of the catalogue against the reference implementation, and second opinions in the shapes world.

python benchmarks/catalogue.py

The weights are random and the architectures real, at full size but for text sides, judges and the one that would need
4.5 GB: no model hub is asked for anything. Equal numbers on random weights mean the same arithmetic. NudeNet's small
model is the real one. A judge's reference reads its model again for each image, so that its time says nothing.
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

from nsfw_guard import load_model, list_models
from nsfw_guard.backends import loaders, registry
from nsfw_guard.backends.base import Backend, Options
from nsfw_guard.backends.build import judge
from nsfw_guard.backends.wrappers.cascade import Cascade
from nsfw_guard.backends.wrappers.ensemble import Ensemble
from nsfw_guard.demo.training import policy as lessons
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from tests.backends import tiny_judges
from tests.backends.make_models import make, reference
from tests.images import smooth

SIZES = ((512, 512), (768, 1344), (501, 333), (224, 224))
ROUNDS = 2
SMALL = {"siglip2-so400m"} | {name for name in list_models() if registry.spec(name).kind == "judge"}  # else many GB
DRAWN = 2000


def images() -> list[torch.Tensor]:
    """Harmless noise with structure. Shape: (3, H, W), uint8."""
    result = [smooth(1, *size, seed=seed)[0] for seed, size in enumerate(itertools.chain(*[SIZES] * ROUNDS))]
    return [(pixels * 255).round().to(torch.uint8) for pixels in result]


@torch.inference_mode()
def against_reference(name: str, folder: Path) -> dict[str, Any]:
    """One record: how far its numbers are from the reference's, and how long both take."""
    kind = registry.spec(name).kind
    build = {"judge": of_judge, "nudenet": of_boxes}.get(kind, of_network)
    what, mine, theirs, threshold = build(name, folder)
    furthest, equal, ratios = 0.0, 0, []
    for pixels in images():
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        ours, first = timed(partial(mine, pixels))
        other, second = timed(partial(theirs, image))
        ratios.append(first / second)
        equal += threshold(ours).tolist() == (other >= 0.5 if kind == "checker" else threshold(other)).tolist()
        furthest = max(furthest, 0.0 if kind == "checker" else float((ours - other).abs().max()))
    return {
        "reference": what, "images": len(images()), "furthest": furthest, "equal": equal, "kind": kind,
        "ratio": statistics.median(ratios), "exact": kind in {"timm", "transformers", "judge"},
        "size": sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 12_150_158,
    }  # fmt: skip


Way = tuple[str, Callable[[torch.Tensor], torch.Tensor], Callable[[Any], torch.Tensor], Callable[..., torch.Tensor]]


def of_network(name: str, folder: Path) -> Way:
    """The reference's name, our numbers of pixels, its numbers of an image, and the flags that numbers mean."""
    spec = make(registry.spec(name), folder, full=name not in SMALL)
    views = "center" if spec.net_input.crop_mode == "center" else "cover"
    backend: Any = loaders.load_files(spec, folder, Options(views=views))
    what, figures = reference(spec, folder)

    def mine(pixels: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = backend.forward_with_embedding(
            backend.preprocess.prepare(Frames(pixels[None])).pixels[:, 0]
        )[0][0]
        return result

    return what, mine, figures, lambda numbers: backend.to_probabilities(numbers[None])[0] >= 0.5


def of_judge(name: str, folder: Path) -> Way:
    """A tiny judge of the record's own class, asked three questions; its model is read again for each image."""
    family = registry.spec(name).architecture
    tiny_judges.write(folder, family)
    result = judge(folder, questions=tiny_judges.QUESTIONS, batch_size=3 if family == "shieldgemma2" else 1)

    def mine(pixels: torch.Tensor) -> torch.Tensor:
        return torch.tensor(list(result.score([Frames(pixels[None])])[0].numbers()))

    def theirs(image: Image.Image) -> torch.Tensor:
        return tiny_judges.reference(family, folder, image)

    return f"transformers' {type(result.model).__name__}", mine, theirs, lambda numbers: numbers >= 0.5


def of_boxes(name: str, folder: Path) -> Way:
    """NudeNet's own package on a file, with its real small model: the surest score of each label."""
    from nudenet import NudeDetector

    result, reference, file = load_model(name), NudeDetector(), folder.with_suffix(".png")
    labels = list(result.spec.labels)

    def mine(pixels: torch.Tensor) -> torch.Tensor:
        details = result.score([Frames(pixels[None])])[0].views[0].details
        return torch.tensor([details[label] for label in labels])

    def theirs(image: Image.Image) -> torch.Tensor:
        best = dict.fromkeys(labels, 0.0)
        image.save(file)
        for box in reference.detect(str(file)):
            best[box["class"]] = max(best[box["class"]], box["score"])
        return torch.tensor([best[label] for label in labels])

    return "nudenet's NudeDetector", mine, theirs, lambda numbers: numbers >= 0.5


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and how long it takes."""
    start = time.perf_counter()
    result = run()
    return result, time.perf_counter() - start


def opinions() -> dict[str, dict[str, float]]:
    """Each way on the same drawn images, far wilder than the captions: right, asked the second, time."""
    book = lessons.pages(np.random.default_rng(20261121), DRAWN)
    pixels, unsafe = book.levels.permute(0, 3, 1, 2).contiguous(), (book.severities > 0).tolist()
    ways: dict[str, Callable[[], Backend]] = {
        "demo-shapes": lambda: load_model("demo-shapes"),
        "demo-shapes-graded": lambda: load_model("demo-shapes-graded"),
        "Ensemble, max": lambda: Ensemble([load_model("demo-shapes"), load_model("demo-shapes-graded")]),
        "Ensemble, mean": lambda: Ensemble(
            [load_model("demo-shapes"), load_model("demo-shapes-graded")], combine="mean"
        ),
        "Ensemble, vote": lambda: Ensemble(
            [load_model("demo-shapes"), load_model("demo-shapes-graded")], combine="vote"
        ),
        "Cascade": lambda: Cascade(load_model("demo-shapes"), load_model("demo-shapes-graded"), band=(0.02, 0.98)),
    }
    matches = {}
    for name, build in ways.items():
        backend = build()
        guard = Guard(backend, policy={"rules": {"red-disc": {"block": "default"}}})
        start = time.perf_counter()
        flags = [v.flagged for batch in pixels.split(200) for v in guard.check(batch)]
        seconds = time.perf_counter() - start
        wrong = [flag != truth for flag, truth in zip(flags, unsafe, strict=True)]
        alarms = sum(w for w, truth in zip(wrong, unsafe, strict=True) if not truth)
        asked = backend.asked / backend.seen if isinstance(backend, Cascade) else float(name.startswith("Ensemble"))
        matches[name] = {
            "right": 1 - sum(wrong) / DRAWN, "alarms": alarms / unsafe.count(False),
            "missed": (sum(wrong) - alarms) / unsafe.count(True), "asked": asked, "ms": seconds / DRAWN * 1000,
        }  # fmt: skip
    return matches


def main() -> None:
    """Prints both tables; 1 when a model's numbers are not the reference's."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(machine() + "\n")
    wanted = [name for name in list_models() if registry.spec(name).repo or registry.spec(name).pip_extra]
    figures = {}
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            figures[name] = against_reference(name, Path(folder) / name)
    columns = ("compared with", "weights, MB", "images", "max abs d logit", "flags equal", "time / reference")
    table(("record", *columns), [_row(name, one) for name, one in figures.items()])
    ways = opinions()
    print(f"{DRAWN} drawn images, of which about a quarter hold no red disc but much that is near one\n")
    table(
        ("way", "right", "false alarms", "missed", "asked the second", "ms an image"),
        [
            (n, f"{w['right']:.2%}", f"{w['alarms']:.2%}", f"{w['missed']:.2%}", f"{w['asked']:.1%}", f"{w['ms']:.2f}")
            for n, w in ways.items()
        ],
    )
    broken = [n for n, one in figures.items() if one["equal"] < one["images"] or (one["exact"] and one["furthest"] > 0)]
    broken += [n for n, one in figures.items() if one["furthest"] > 1e-3]
    finish("catalogue", {"records": figures, "opinions": ways}, broken)


def _row(name: str, one: dict[str, Any]) -> tuple[str, ...]:
    furthest = "-" if one["kind"] == "checker" else f"{one['furthest']:.1e}" if one["furthest"] else "0"
    small = " (small)" if name in SMALL else ""
    return (
        name + small, one["reference"], f"{one['size'] / 1e6:.1f}", str(one["images"]), furthest,
        f"{one['equal']} / {one['images']}", "-" if one["kind"] == "judge" else f"{one['ratio']:.2f}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
