"""Our record beside a trained model: what its labels mean, its thresholds and what was measured, its known answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.files.folder import RECORD, read_spec, write_record
from nsfw_guard.backends.nets.network import NetBackend
from nsfw_guard.backends.nets.timm_model import load_files
from nsfw_guard.demo import shapes
from nsfw_guard.demo.training import policy
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.scores import Severity

# (block, review, side, tile, content): more looks are more chances for a false alarm, so the others are cut higher.
CUTS = {
    "default": (0.5, 0.2, 0.7, 0.9, 0.95),
    "strict": (0.2, 0.1, 0.4, 0.7, 0.9),
    "lenient": (0.8, 0.5, 0.9, 0.95, 0.97),
}


def record(folder: Path, task: policy.Task, *, seed: int, images: int) -> None:
    """Write nsfw_guard.json for a trained policy model, measured on images it was not trained on."""
    (folder / RECORD).unlink(missing_ok=True)  # an older one speaks of other weights
    spec = read_spec(folder, task.meanings)
    spec = replace(
        spec,
        name=task.name,
        license="Apache-2.0",
        positive=Severity.LOW if task is policy.GRADED else None,
        source="trained on drawn shapes by nsfw_guard.demo.training; a demonstration, no NSFW model",
        thresholds={
            name: Threshold(block=b, review=r, views={"side": s, "tile": t, "content": c})
            for name, (b, r, s, t, c) in CUTS.items()
        },
    )
    backend = load_files(spec, folder, Options())
    safe = wide(seed, images, safe=True)
    unsafe = wide(seed + 1, images, safe=False)
    harmless, bad = kinds(backend, safe), kinds(backend, unsafe)
    thresholds = {
        name: replace(threshold, source=_measured(threshold, harmless, bad, images))
        for name, threshold in spec.thresholds.items()
    }
    write_record(folder, replace(spec, thresholds=thresholds, known_answers=backend.known_answers()))


def wide(seed: int, count: int, *, safe: bool) -> list[torch.Tensor]:
    """Scenes at one end of a canvas twice as wide, so that the centre view sees half of them. (3, 128, 256), uint8."""
    random = np.random.default_rng(seed)
    images: list[torch.Tensor] = []
    while len(images) < count:
        scene = shapes.random_scene(random)
        if not safe:
            (shape,) = scene.shapes
            scene = shapes.Scene((replace(shape, kind="disc", colour="red", position="centre"),), scene.background)
        if safe and shapes.severity(scene):
            continue
        image = Image.new("RGB", (256, 128), shapes.BACKGROUNDS[scene.background])
        drawn = shapes.draw(scene, side=128)
        image.paste(drawn, (int(random.choice([0, 128])), 0))
        images.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    return images


def kinds(backend: NetBackend, images: list[torch.Tensor]) -> dict[str, list[float]]:
    """Return the highest score of each image, by kind of view."""
    per_view: dict[str, list[float]] = {"center": [], "side": []}
    level = backend.spec.positives[policy.CATEGORY]
    for start in range(0, len(images), 64):
        for scores in backend.score([Frames(torch.stack(images[start : start + 64]))]):
            for kind, into in per_view.items():
                into.append(max(v.levels[policy.CATEGORY][level] for v in scores.views if v.view.kind == kind))
    return per_view


def _measured(
    threshold: Threshold, safe: Mapping[str, list[float]], unsafe: Mapping[str, list[float]], count: int
) -> str:
    def reach(scores: Mapping[str, list[float]], kind: str) -> float:
        limit = threshold.views.get(kind, threshold.block)
        return float(np.mean([score >= limit for score in scores[kind]]))

    whole = [
        a >= threshold.block or b >= threshold.views["side"]
        for a, b in zip(unsafe["center"], unsafe["side"], strict=True)
    ]
    return (
        f"chosen; on {count} harmless drawn 2:1 images {reach(safe, 'center'):.2%} false alarms in the center view "
        f"and {reach(safe, 'side'):.2%} in side views; of {count} with a red disc at one end {np.mean(whole):.1%} "
        f"found by all views, {reach(unsafe, 'center'):.1%} by the center view alone"
        "; content: chosen on scenes in borders and collages"
    )
