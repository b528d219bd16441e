"""The two policy models: small timm ViTs that know a red disc, saved in the layout timm puts on the hub."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from nsfw_guard.demo.training import album, autoencoder, tensors

ARCHITECTURE = "vit_tiny_patch16_224"
MODEL_ARGS = {"img_size": tensors.SIDE, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3}
CUT = 0.5
BATCH = 64
PEAK = 1.5e-3


@dataclass(frozen=True)
class Task:
    """A task for a model: its folder's name, its labels, and the label of each severity."""

    name: str
    labels: tuple[str, ...]
    classes: tuple[int, int, int, int]

    def targets(self, severities: Tensor) -> Tensor:
        """Return severities 0 to 3 as class indices."""
        return torch.tensor(self.classes)[severities]

    def unsafe(self, logits: Tensor) -> Tensor:
        """Return how likely a red disc of any size is. Shape: [n, classes] to [n], in 0 to 1."""
        safe = self.classes[0]
        return 1.0 - logits.float().softmax(dim=1)[:, safe]


BINARY = Task("demo-shapes", ("red-disc", "other"), (1, 0, 0, 0))
GRADED = Task("demo-shapes-graded", ("neutral", "low", "medium", "high"), (0, 1, 2, 3))
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
    """Train on drawn images; `start` is a model to begin from, with its head where the labels are as many."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed + 2)
    model = build(task)
    if start is not None:
        shapes = {name: value.shape for name, value in model.state_dict().items()}
        trunk = {name: value for name, value in start.state_dict().items() if value.shape == shapes[name]}
        model.load_state_dict(trunk, strict=False)
    average = tensors.Average(model, decay=0.995)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, betas=(0.9, 0.98), weight_decay=0.03)
    print(
        f"{task.name}: {tensors.size([model]) / 1e6:.2f} M parameters, {steps} steps, {len(book.levels)} images",
        flush=True,
    )
    begun, recent = time.perf_counter(), []
    for step in range(steps):
        tensors.set_rate(optimizer, tensors.rate(step, steps, peak=PEAK if start is None else PEAK / 3))
        chosen = torch.from_numpy(rng.integers(0, len(book.levels), BATCH))
        logits = model(_vary(tensors.floats(book.levels[chosen]), rng))
        loss = F.cross_entropy(logits, task.targets(book.severities[chosen]), label_smoothing=0.01)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        recent.append(loss.item())
        if step % 200 == 199 or step == steps - 1:
            spent = time.perf_counter() - begun
            print(f"  step {step:5d}  loss {np.mean(recent[-200:]):.4f}  {spent:.0f} s", flush=True)
    return average.module


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


def _vary(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirror, transpose and shade a batch: more images for no drawing."""
    if rng.random() < 0.5:
        images = images.flip(2)
    if rng.random() < 0.5:
        images = images.flip(3)
    if rng.random() < 0.5:
        images = images.transpose(2, 3)
    gain = torch.from_numpy(rng.uniform(0.95, 1.04, (len(images), 3, 1, 1))).float()
    return (images.add(1).mul(gain).sub(1) + 0.02 * torch.randn_like(images)).clamp(-1, 1)


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
