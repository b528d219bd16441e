"""The inputs on which an export is compared: drawn images, the user's own, and inputs near the thresholds.

Few drawn images are blocked by a real model, and fewer are near a threshold, where a verdict may change. So some drawn
inputs are moved by the gradient of the float32 network until their score crosses a threshold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from nsfw_guard.backends.nets.network import NetBackend
from nsfw_guard.errors import ConfigError, printable
from nsfw_guard.imaging.frames import Frames, in_groups
from nsfw_guard.imaging.preprocess import Preprocess
from nsfw_guard.tools.evaluate.images import collect
from nsfw_guard.tools.exporting.columns import Columns

PLANS = ("cover", "center", "squash", "tiles(2)")  # every kind of view, but for "content": a cover of a part
SIDES = (48, 640)  # of drawn images, the shortest and the longest
STARTS, STEPS = 8, 12  # inputs that are steered, and how often each is moved
TINY = 1e-12


@dataclass(frozen=True)
class Inputs:
    """Some of the model's inputs.

    Args:
        pixels: what the model is shown, Shape: (R, 3, S, S).
        images: the number of the image that each row is of; -1 for a steered one.
    """

    pixels: Tensor
    images: tuple[int, ...]


def draw(number: int) -> Image.Image:
    """Return a drawn image: a gradient, shapes in any colours, noise on some. The same one for a number everywhere."""
    rng = np.random.default_rng([20261130, number])
    height, width = (int(side) for side in rng.integers(*SIDES, 2, endpoint=True))
    corners = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
    image = Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR)
    canvas = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 6))):
        colour = tuple(int(level) for level in rng.choice([rng.integers(0, 256, 3), rng.choice([20, 230], 3)]))
        radius = min(height, width) * float(rng.uniform(0.08, 0.45))
        x, y = float(rng.uniform(0, width)), float(rng.uniform(0, height))
        box = (x - radius, y - radius, x + radius, y + radius)
        kind = int(rng.integers(4))
        if kind == 0:
            canvas.rectangle(box, fill=colour)
        elif kind == 1:
            canvas.regular_polygon((x, y, radius), int(rng.integers(3, 8)), int(rng.integers(360)), fill=colour)
        else:
            canvas.ellipse(box, fill=colour)
    if number % 3:
        return image
    noise = rng.normal(0, float(rng.uniform(2, 40)), (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def frames_of(number: int) -> Frames:
    """Return a drawn image as frames."""
    return Frames(torch.from_numpy(np.array(draw(number))).permute(2, 0, 1)[None])


def inputs_of(backend: NetBackend, drawn: int, folders: Sequence[str | Path] = ()) -> Iterator[Inputs]:
    """Yield the inputs of drawn images, then those of the images in folders.

    Raises:
        ConfigError: a folder has no image, or an image in it cannot be read.
    """
    for number in range(drawn):
        yield _shown(backend, frames_of(number), number, number)
    if not folders:
        return
    for number, file in enumerate(collect([str(folder) for folder in folders]).files):
        for group in in_groups([file.path]):
            for fault in {**group.partial, **group.faults}.values():
                raise ConfigError(f"{printable(file.path)} cannot be compared ({fault}): take it out of the folder")
            for stack in group.stacks:
                yield _shown(backend, stack, drawn + number, number)


def _shown(backend: NetBackend, frames: Frames, image: int, turn: int) -> Inputs:
    preprocess = Preprocess(spec=backend.spec.net_input, views=PLANS[turn % len(PLANS)])
    pixels = preprocess.prepare(frames).pixels.flatten(0, 1)
    return Inputs(pixels, (image,) * len(pixels))


def steered(backend: NetBackend, columns: Columns) -> Iterator[Inputs]:
    """Yield drawn inputs that are moved, a step each time, until their scores are at a threshold."""
    goals = [columns.goal(number) for number in range(STARTS)]
    masks = torch.stack([mask for mask, _ in goals])
    wanted = torch.tensor([_log_odds(threshold) for _, threshold in goals])
    spec = backend.spec.net_input
    # Not preprocess.normalise, whose tensors are kept between calls and may be of a mode without gradients.
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec.mean, spec.std))
    preprocess = Preprocess(spec=spec, views="center")
    pixels = torch.cat([preprocess.prepare(frames_of(number)).pixels[:, 0] for number in range(STARTS)]).float()
    for _ in range(STEPS):
        pixels = pixels.detach().requires_grad_()
        score = (backend.to_probabilities(backend.net((pixels / 255 - mean) / std)) * masks).sum(1)
        odds = (score + TINY).log() - (1 - score + TINY).log()
        (slope,) = torch.autograd.grad(odds.sum(), pixels)
        gap = (wanted - odds).detach()
        step = gap.sign() * torch.where(gap.abs() > 1, 4.0, 1.0)
        pixels = (pixels.detach() + step.view(-1, 1, 1, 1) * slope.sign()).clamp(0, 255).round()
        yield Inputs(pixels.to(torch.uint8), (-1,) * len(pixels))


def _log_odds(p: float) -> float:
    return float(np.log(p / max(1 - p, TINY)))
