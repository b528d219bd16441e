"""The two policy models: small timm ViTs that know a red disc, saved in the layout timm puts on the hub."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nsfw_guard.backends.spec import Label
from nsfw_guard.demo.training import album, autoencoder, tensors
from nsfw_guard.scores import Severity
from nsfw_guard.tools.finetuning.classes import Classes
from nsfw_guard.tools.finetuning.learning import training
from nsfw_guard.tools.finetuning.learning.lesson import Lesson
from nsfw_guard.tools.finetuning.learning.student import from_architecture
from nsfw_guard.tools.finetuning.recipe import Part, Recipe
from nsfw_guard.tools.finetuning.split import Split
from nsfw_guard.tools.finetuning.watching import Stage, Watch

ARCHITECTURE = "vit_tiny_patch16_224"
MODEL_ARGS = {"img_size": tensors.SIDE, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3}
CUT = 0.5
BATCH = 64
HELD = 20  # one image of so many is kept for validation
CATEGORY = "red-disc"
PEAK = 1.5e-3


@dataclass(frozen=True)
class Task:
    """A task for a model: its folder's name, what its labels mean, and the label of each severity."""

    name: str
    meanings: Mapping[str, Label | None]
    classes: tuple[int, int, int, int]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in order."""
        return tuple(self.meanings)

    def targets(self, severities: Tensor) -> Tensor:
        """Return severities 0 to 3 as class indices."""
        return torch.tensor(self.classes)[severities]

    def unsafe(self, logits: Tensor) -> Tensor:
        """Return how likely a red disc of any size is. Shape: [n, classes] to [n], in 0 to 1."""
        safe = self.classes[0]
        return 1.0 - logits.float().softmax(dim=1)[:, safe]


BINARY = Task("demo-shapes", {"red-disc": Label(CATEGORY), "other": None}, (1, 0, 0, 0))
GRADED = Task(
    "demo-shapes-graded",
    {"neutral": None, **{level.name.lower(): Label(CATEGORY, level) for level in Severity}},
    (0, 1, 2, 3),
)
TASKS = {"policy": BINARY, "graded": GRADED}


@dataclass(frozen=True)
class Pages:
    """Images as bytes and their severities. Shape: [n, 64, 64, 3] and [n]."""

    levels: Tensor
    severities: Tensor


def build(task: Task) -> Any:
    """Return an untrained model for the task."""
    import timm

    return timm.create_model(ARCHITECTURE, num_classes=len(task.labels), **MODEL_ARGS)


def load(folder: Path, task: Task) -> Any:
    """Return the model saved in a folder, in single precision."""
    from safetensors.torch import load_file

    model = build(task)
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    return model.float().eval()


def pages(rng: np.random.Generator, count: int, *, vae: Any = None, share: float = 0.25) -> Pages:
    """Draw that many images, a share of them seen through the pipeline's autoencoder when there is one."""
    examples = [album.example(rng) for _ in range(count)]
    images = [each.image for each in examples]
    if vae is not None:
        through = np.flatnonzero(rng.random(count) < share)
        for index, back in zip(through, autoencoder.roundtrip(vae, [images[i] for i in through]), strict=True):
            images[index] = back
    return bind(images, [each.severity for each in examples])


def bind(images: list[Image.Image], severities: list[int]) -> Pages:
    """Return images of the input size and their severities as tensors."""
    levels = np.stack([np.asarray(image.convert("RGB")) for image in images])
    return Pages(torch.from_numpy(levels), torch.tensor(severities))


def train(task: Task, book: Pages, *, steps: int, seed: int, start: Any = None) -> Any:
    """Train on drawn images, as `nsfw-guard finetune --train full` does, some of which are kept for validation.

    Args:
        task: what is taught.
        book: the images.
        steps: about how many steps to take; whole epochs are.
        seed: of everything that is drawn.
        start: a model to begin from, with its head where the labels are as many.
    """
    count = len(book.levels)
    cut = count - count // HELD
    per_epoch = -(-cut // BATCH)
    recipe = Recipe(
        part=Part.FULL, epochs=max(1, round(steps / per_epoch)), batch_size=BATCH, weight_decay=0.03, warmup=0.03,
        learning_rate=PEAK if start is None else PEAK / 3, label_smoothing=0.01, ema=0.995, patience=0, balance=0.0,
        keep=0.0, vary=("mirror", "flip", "transpose", "shade", "noise"), seed=seed,
    )  # fmt: skip
    classes = Classes(task.meanings, (None,) * len(task.labels), {label: at for at, label in enumerate(task.labels)})
    student = from_architecture(
        ARCHITECTURE, classes, name=task.name, arguments=MODEL_ARGS, size=None, file=None, seed=seed
    )
    network: Any = student.net
    if start is not None:
        shapes = {name: value.shape for name, value in network.model.state_dict().items()}
        trunk = {name: value for name, value in start.state_dict().items() if value.shape == shapes[name]}
        network.model.load_state_dict(trunk, strict=False)
    pixels = book.levels.permute(0, 3, 1, 2).contiguous()
    sides = Split(tuple(range(cut)), tuple(range(cut, count)))
    lesson = Lesson(pixels, torch.arange(count), task.targets(book.severities), sides)
    print(f"{task.name}: {recipe.epochs} epochs of {per_epoch} steps, {cut} images to learn from", flush=True)
    taught: Any = training.train(student, lesson, recipe, cpu=True, watch=_say(per_epoch)).net
    return taught.model.eval()


def _say(per_epoch: int) -> Watch:
    """A line an epoch."""
    begun = time.perf_counter()

    def say(stage: Stage, done: int, total: int, note: str) -> None:
        if done % per_epoch == 0:
            print(f"  step {done:5d} of {total}  {note}  {time.perf_counter() - begun:.0f} s", flush=True)

    return say


@torch.no_grad()
def logits(model: Any, levels: Tensor, *, batch: int = 256) -> Tensor:
    """Return the model's logits for bytes. Shape: [n, 64, 64, 3] to [n, classes]."""
    return torch.cat([model(tensors.floats(part)) for part in torch.split(levels, batch)])


def save(model: Any, task: Task, folder: Path) -> None:
    """Write config.json and half-precision model.safetensors."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(_config(task), indent=2) + "\n", encoding="utf-8")


def _config(task: Task) -> dict[str, object]:
    square = [3, tensors.SIDE, tensors.SIDE]
    half = [0.5, 0.5, 0.5]
    classes = len(task.labels)
    return {
        "architecture": ARCHITECTURE,
        "num_classes": classes,
        "num_features": MODEL_ARGS["embed_dim"],
        "global_pool": "token",
        "label_names": list(task.labels),
        "model_args": MODEL_ARGS,
        "pretrained_cfg": {
            "tag": "shapes",
            "custom_load": False,
            "input_size": square,
            "fixed_input_size": True,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": half,
            "std": half,
            "num_classes": classes,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
