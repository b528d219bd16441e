"""Fake web UIs with the guard in them, the marker, and what to look for in their sinks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from nsfw_guard.guard import Guard
from nsfw_guard.hosts.webui import adapter
from nsfw_guard.policy.policy import Policy
from nsfw_guard.testing import FakeBackend, redness
from tests.hosts.fake_webui import KINDS, FakeHost

SAVED = {"nsfw_guard_action": "block", "nsfw_guard_previews": "check"}
RULES = {"name": "test", "rules": {"*": {"block": "default"}}, "prompts": {"words": ["dragon"]}}


def red(seed: int = 0) -> np.ndarray:
    """The marker: an image that counts as unsafe. Shape: (24, 24, 3), uint8."""
    noise = np.random.default_rng(seed).integers(0, 30, (24, 24, 3))
    return (np.array([210, 20, 20]) + noise).astype(np.uint8)


def safe(seed: int = 0) -> np.ndarray:
    """A harmless image. Shape: (24, 24, 3), uint8."""
    return np.random.default_rng(100 + seed).integers(0, 100, (24, 24, 3)).astype(np.uint8)


class World:
    """A fake host, the guard in it, and the backend whose frames are counted."""

    def __init__(self, family: str, patch: Any, backend: Any = None, *, load: bool = True, **saved: Any) -> None:
        self.backend = FakeBackend() if backend is None else backend
        self.host: FakeHost = KINDS[family](patch, **{**SAVED, **saved})
        patch.setattr(adapter, "_ONE", {})
        self.adapter = adapter.adapter(build=self.build)
        if load:
            self.host.load()

    def build(self, settings: Any, only_tighter: bool) -> Guard:
        if isinstance(self.backend, Exception):
            raise self.backend
        policy = Policy.load(RULES)
        return Guard(self.backend, policy=policy, action=settings.action, timeout=settings.timeout)


def share(image: Any) -> float:
    """How much of the marker an image shows, of whatever kind it is."""
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert("RGB"))
    if isinstance(image, torch.Tensor):
        image = image.detach().float().numpy()
    array = np.asarray(image)
    if array.dtype.kind == "f":
        array = (np.nan_to_num(array).clip(0, 1) * 255).astype(np.uint8)
    if array.ndim != 3 or array.shape[-1] != 3:
        return 0.0
    return redness(torch.from_numpy(np.array(array)).permute(2, 0, 1))


def leaks(host: FakeHost, *sinks: str) -> list[str]:
    """The sinks that the marker reached."""
    names = sinks or [name for name in host.sinks if name not in {"metadata", "drawn"}]
    return [name for name in names if any(share(one) > 0.2 for one in host.sinks.get(name, []))]


def holds(host: FakeHost, sink: str, image: np.ndarray) -> bool:
    """Whether a sink was reached by exactly this image, alone or as a part of a grid."""
    for one in host.sinks.get(sink, []):
        array = np.asarray(one.convert("RGB")) if isinstance(one, Image.Image) else np.asarray(one)
        tiles = [array[:, i : i + 24] for i in range(0, array.shape[1], 24)]
        if any(tile.shape == image.shape and np.array_equal(tile, image) for tile in tiles):
            return True
    return False
