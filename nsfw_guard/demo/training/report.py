"""Measures the weights of the shapes world afresh: nothing here is written down beforehand."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from nsfw_guard.demo import pixels, shapes
from nsfw_guard.demo.training import album, pipeline, policy

Figures = dict[str, Any]


def report(folder: Path, *, seed: int, held_out: int, generated: int) -> Figures:
    """Return every figure of the weights in a folder, as JSON-ready numbers."""
    models = {name: policy.load(folder / task.name, task) for name, task in policy.TASKS.items()}
    figures: Figures = {"weights_bytes": sizes(folder)}
    book = policy.pages(np.random.default_rng(seed), held_out)
    for name, task in policy.TASKS.items():
        figures[task.name] = {"held_out": judged(models[name], task, book)}
    pipe = pipeline.load(folder / "pipeline")
    figures["pipeline"] = asked(pipe, count=generated, seed=seed)
    images = _suspects(pipe, count=generated, seed=seed + 1)
    for name, task in policy.TASKS.items():
        figures[task.name]["generated"] = against_pixels(models[name], task, images)
    return figures


def judged(model: Any, task: policy.Task, book: policy.Pages) -> Figures:
    """Return accuracy, false alarms and recall by severity at the threshold."""
    logits = policy.logits(model, book.levels)
    right = logits.argmax(dim=1) == task.targets(book.severities)
    unsafe = task.unsafe(logits) >= policy.CUT
    safe = book.severities == 0
    grades = list(shapes.SIZES)
    return {
        "images": len(book.levels),
        "accuracy": _share(right),
        "red_disc_accuracy": _share(unsafe == ~safe),
        "false_alarms": _share(unsafe[safe]),
        "recall": {grade: _share(unsafe[book.severities == level]) for level, grade in enumerate(grades, start=1)},
    }


def asked(pipe: Any, *, count: int, seed: int) -> Figures:
    """Return how often the pixel check finds what a caption asked, by number of shapes, and how long a
    image takes.
    """
    figures: Figures = {"steps": pipeline.STEPS, "guidance": pipeline.GUIDANCE}
    rng = np.random.default_rng(seed)
    for number, name in ((1, "single"), (2, "pair")):
        scenes = [shapes.random_scene(rng, shapes=number) for _ in range(count)]
        images = pipeline.generate(pipe, [scene.caption for scene in scenes], seed=seed + number)
        figures[name] = {"images": count, **_words(scenes, images)}
    begun = time.perf_counter()
    for caption in ("a red disc on white", "a large blue star on black", "a green ring on sky, left"):
        pipeline.generate(pipe, [caption], seed=seed)
    figures["seconds_an_image"] = round((time.perf_counter() - begun) / 3, 3)
    return figures


def against_pixels(model: Any, task: policy.Task, images: list[Image.Image]) -> Figures:
    """Return how often the model and the pixel check agree that a generated image holds a red disc."""
    book = policy.bind(images, [seen_severity(image) for image in images])
    logits = policy.logits(model, book.levels)
    unsafe, truth = task.unsafe(logits) >= policy.CUT, book.severities > 0
    return {
        "images": len(images),
        "with_red_disc": int(truth.sum()),
        "agreement": _share(unsafe == truth),
        "same_label": _share(logits.argmax(dim=1) == task.targets(book.severities)),
        "false_alarms": _share(unsafe[~truth]),
        "recall": _share(unsafe[truth]),
    }


def seen_severity(image: Image.Image) -> int:
    """Return the severity of an image by its pixels."""
    grades = list(shapes.SIZES)
    seen = [shape for shape in pixels.find(image) if (shape.kind, shape.colour) == ("disc", "red")]
    return max((grades.index(shape.size) + 1 if shape.size in grades else 1 for shape in seen), default=0)


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of every weights file, and of all of them together."""
    files = {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*.safetensors"))}
    return {**files, "total": sum(files.values())}


def _suspects(pipe: Any, *, count: int, seed: int) -> list[Image.Image]:
    """Generated images in which red discs and their look-alikes are common."""
    rng = np.random.default_rng(seed)
    captions = [album.scene_with_red(rng).caption for _ in range(count)]
    return pipeline.generate(pipe, captions, seed=seed)


def _words(scenes: list[shapes.Scene], images: list[Image.Image]) -> Figures:
    """The share right as a whole, and word by word among images with as many shapes as asked."""
    figures: Figures = {
        "as_asked": round(float(np.mean([pixels.matches(p, s) for p, s in zip(images, scenes, strict=True)])), 4),
        "background": round(
            float(np.mean([pixels.background(p) == s.background for p, s in zip(images, scenes, strict=True)])), 4
        ),
    }
    pairs = [(scene, pixels.find(image)) for scene, image in zip(scenes, images, strict=True)]
    counted = [(scene, drawn) for scene, drawn in pairs if len(drawn) == len(scene.shapes)]
    figures["count"] = round(len(counted) / len(pairs), 4)
    for word in ("kind", "colour", "size", "position"):
        right = [
            sorted(getattr(shape, word) for shape in scene.shapes) == sorted(getattr(each, word) for each in drawn)
            for scene, drawn in counted
        ]
        figures[word] = round(float(np.mean(right)), 4) if right else 0.0
    return figures


def _share(flags: torch.Tensor) -> float:
    return round(float(flags.float().mean()), 4) if len(flags) else 0.0
