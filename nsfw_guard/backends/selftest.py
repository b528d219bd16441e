"""A few synthetic pictures with known answers: a model that does not answer as recorded never starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nsfw_guard.errors import SelfTestError
from nsfw_guard.images import Frames
from nsfw_guard.preprocess import Preprocess

if TYPE_CHECKING:
    from nsfw_guard.backends.base import ModelSpec
    from nsfw_guard.backends.network import NetBackend

SIDE = 96
# Between machines float32 moves a probability by about 1e-6, bfloat16 by up to 0.02 (measured on the demo models).
TOLERANCE = {torch.float32: 2e-3, torch.float16: 2e-2, torch.bfloat16: 6e-2}


def canaries() -> dict[str, Tensor]:
    """Synthetic pictures, the same bits everywhere. Shape: (3, SIDE, SIDE), uint8."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    disc = ((x - 44) ** 2 + (y - 52) ** 2 < 30**2)[..., None]
    pictures = {
        "ramp": np.stack([x * 255 // (SIDE - 1), y * 255 // (SIDE - 1), (x + y) * 255 // (2 * SIDE - 2)], -1),
        "stripes": np.stack([(x // 8 % 2) * 255, (y // 12 % 2) * 200, ((x + y) // 16 % 2) * 255], -1),
        "disc": np.where(disc, (220, 40, 30), (255, 255, 255)),
    }
    return {name: torch.from_numpy(p.astype(np.uint8)).permute(2, 0, 1).contiguous() for name, p in pictures.items()}


def answer(backend: NetBackend) -> dict[str, tuple[float, ...]]:
    """What the model says of each canary, by label."""
    pictures = canaries()
    # Always the authors' own way in, so that answers compare whatever options a user chose.
    preprocess = Preprocess(spec=backend.spec.input, views="center", resize="exact")
    shown = torch.stack([preprocess.prepare(Frames(p[None].to(backend.home))).pixels[0, 0] for p in pictures.values()])
    return dict(zip(pictures, map(tuple, _probabilities(backend, shown).tolist()), strict=True))


@torch.inference_mode()
def _probabilities(backend: NetBackend, shown: Tensor) -> Tensor:
    """The answers by way of features and head, when they are those of the network's own forward."""
    whole = backend.whole(shown)
    try:
        split, _ = backend.forward(shown)
    except TypeError:  # more than one head: there is no single classifier to call
        split = torch.full_like(whole, torch.inf) if isinstance(whole, Tensor) else torch.empty(0)
    if not isinstance(whole, Tensor) or split.shape != whole.shape:
        raise SelfTestError(f"{backend.spec.name!r} does not give one row of numbers a picture: choose another network")
    made, expected = (backend.read(numbers) for numbers in (split, whole))
    if not torch.allclose(made, expected, rtol=0, atol=TOLERANCE[backend.dtype], equal_nan=True):
        raise SelfTestError(
            f"{backend.spec.name!r} answers otherwise than its features and its head do: choose a network with one head"
        )
    return made


def self_test(backend: NetBackend) -> str:
    """Says "passed" or "answers unrecorded"; a model that fails raises."""
    return compare(backend.spec, lambda: answer(backend), TOLERANCE[backend.dtype])


def compare(spec: ModelSpec, ask: Callable[[], Mapping[str, tuple[float, ...]]], tolerance: float) -> str:
    """What a self-test says of the answers to the canaries, asked for twice and held against the record.

    Raises:
        SelfTestError: the answers are no probabilities, change from one call to the next, or are not the recorded ones.
    """
    first = ask()
    flat = [p for answers in first.values() for p in answers]
    if any(len(a) != len(spec.labels) for a in first.values()) or not all(0.0 <= p <= 1.0 for p in flat):
        raise SelfTestError(
            f"{spec.name!r} does not answer with probabilities: its weights are damaged, fetch them again"
        )
    if not _apart(first, ask()) <= 1e-3:
        raise SelfTestError(f"{spec.name!r} gives different answers to the same picture: it is not deterministic")
    if not spec.answers:
        return "answers unrecorded"
    apart = _apart(first, spec.answers)
    if not apart <= tolerance:
        raise SelfTestError(
            f"{spec.name!r} does not answer as recorded (off by {apart:.3f}): the weights, the labels or the "
            "preprocessing are not those of the record"
        )
    return "passed"


def _apart(one: Mapping[str, tuple[float, ...]], other: Mapping[str, tuple[float, ...]]) -> float:
    return max(abs(a - b) for name in one for a, b in zip(one[name], other[name], strict=True))
