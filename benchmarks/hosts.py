"""What a guard in a user interface costs an image, measured through the hook and not the model alone.

python benchmarks/hosts.py

Random weights in Marqo's architecture: the time is the real one, the opinion is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from common import finish, machine, medians, table  # first: it sets the threads

import numpy as np
import timm
import torch
from PIL import Image

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.catalog.classifiers import MARQO
from nsfw_guard.backends.nets.network import NetBackend
from nsfw_guard.backends.nets.timm_model import TimmNet
from nsfw_guard.guard import Guard
from nsfw_guard.hosts.session import HostGuard
from nsfw_guard.hosts.settings import Settings

SIZES = ((512, 512), (1024, 1024), (1344, 768))


def hosts() -> tuple[Guard, HostGuard, HostGuard]:
    """The guard alone, one host where nothing is blocked, and one where everything is."""
    model = timm.create_model("vit_tiny_patch16_384", num_classes=2)
    backend = NetBackend(TimmNet(model), MARQO, Options())
    allows, blocks = ({"rules": {"sexual": {"block": threshold}}} for threshold in (1.0, 1e-9))

    def host(policy: Mapping[str, Any]) -> HostGuard:
        result = HostGuard("benchmark", build=lambda settings, tighter: Guard(backend, policy=policy, action="blur"))
        result.configure(Settings(previews="pixelate"))
        return result

    return Guard(backend, policy=allows), host(allows), host(blocks)


def ways(size: tuple[int, int]) -> dict[str, Callable[[], object]]:
    """Each way, on an image that was never seen before where that matters."""
    guard, allowing, blocking = hosts()
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    count = iter(range(1_000_000))

    def fresh() -> Image.Image:
        base[0, 0] = [(next(count) >> shift) & 255 for shift in (0, 8, 16)]
        return Image.fromarray(base)

    known = fresh()
    allowing.guard_images([known])
    return {
        "guard": lambda: guard.check([fresh()]),
        "hook, allowed": lambda: allowing.guard_images([fresh()]),
        "hook, seen before": lambda: allowing.guard_images([known]),
        "hook, covered": lambda: blocking.guard_images([fresh()]),
        "preview": lambda: allowing.preview(known),
    }


def main() -> None:
    """Prints the table; broken when the hook costs more than a fifth over the guard, or a known image is judged."""
    print(machine() + "\n")
    times = {size: medians(ways(size)) for size in SIZES}
    columns = list(times[SIZES[0]])
    rows = [
        (f"{w} x {h}", *(one[c] for c in columns), one["hook, allowed"] / one["guard"]) for (w, h), one in times.items()
    ]
    table(("image", *(f"{c}, ms" for c in columns), "hook / guard"), rows)
    broken = [f"{s}: the hook costs {o['hook, allowed'] / o['guard']:.2f} of the guard" for s, o in times.items()
              if o["hook, allowed"] > 1.2 * o["guard"]]  # fmt: skip
    broken += [f"{s}: a known image costs {o['hook, seen before']:.1f} ms" for s, o in times.items()
               if o["hook, seen before"] > 0.3 * o["guard"]]  # fmt: skip
    finish("hosts", {f"{w}x{h}": one for (w, h), one in times.items()}, broken)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
