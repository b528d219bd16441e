"""What a guard on a pipeline costs, by family: beside the same pipeline without one and beside the stock checker.

python benchmarks/pipelines.py

The pipelines are the tiny ones of the tests, so that what is added can be told from what is drawn; the guard is the
architecture of marqo at 384 pixels with random weights, one image a call.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import finish, machine, medians, table  # first: it sets the threads

import torch
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).parent.parent))

import diffusers
import timm

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.catalog.classifiers import MARQO
from nsfw_guard.backends.nets.network import NetBackend
from nsfw_guard.backends.nets.timm_model import TimmNet
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.attach import attach
from nsfw_guard.testing import FakeBackend
from tests.pipelines.zoo import CASES
from tests.pipelines.zoo.parts import Case

FAMILIES = (
    "StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "FluxPipeline", "Flux2Pipeline",
    "QwenImagePipeline", "SanaPipeline", "PixArtSigmaPipeline", "ZImagePipeline", "KandinskyV22Pipeline", "IFPipeline",
    "WanPipeline", "LTXPipeline", "HunyuanVideoPipeline",
)  # fmt: skip
ADDED = 1.10  # of the guard's own time


def real_guard() -> Guard:
    """A guard of the default model's architecture and size; nothing reaches its threshold."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_384", num_classes=2).eval()
    return Guard(NetBackend(TimmNet(model), MARQO, Options()), policy={"rules": {"sexual": {"block": 1.0}}})


class Peak(TorchDispatchMode):
    """The most bytes of tensors that were alive at once, of those made within."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.sizes: dict[int, list[int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor)
        return out

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        held = self.sizes.setdefault(key, [0, size])
        if held[0] == 0:
            self.now += size
            self.most = max(self.most, self.now)
        held[0] += 1
        weakref.finalize(tensor, self._drop, key)

    def _drop(self, key: int) -> None:
        held = self.sizes[key]
        held[0] -= 1
        if held[0] == 0:
            self.now -= held[1]
            del self.sizes[key]


class Copies:
    """How often a tensor as large as the images goes to the host, or becomes something of the host's."""

    def __init__(self, smallest: int) -> None:
        self.count, self.smallest = 0, smallest
        self.names = ("cpu", "numpy", "tolist")

    def __enter__(self) -> Copies:
        self.kept = {name: getattr(torch.Tensor, name) for name in self.names}
        for name, original in self.kept.items():
            setattr(torch.Tensor, name, self._counting(original))
        return self

    def __exit__(self, *error: object) -> None:
        for name, original in self.kept.items():
            setattr(torch.Tensor, name, original)

    def _counting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def counted(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            self.count += tensor.numel() >= self.smallest
            return original(tensor, *args, **kwargs)

        return counted


def one(case: Case, pipe: Any, **settings: Any) -> Any:
    """One call, always the same."""
    torch.manual_seed(0)
    return pipe(**case.call(pipe), **settings)


def copies(case: Case, pipe: Any) -> tuple[int, int]:
    """Full-size copies to the host without a guard and with one, whose model makes none itself."""
    size = one(case, pipe, output_type="pt")[case.field].numel()
    with Copies(size) as plain:
        one(case, pipe, output_type="pil")
    with attach(pipe, Guard(FakeBackend(lambda frame: 0.0))), Copies(size) as guarded:
        one(case, pipe, output_type="pil")
    return plain.count, guarded.count


def peak(case: Case, pipe: Any) -> float:
    """The most megabytes that were alive at once in a call."""
    with Peak() as figures:
        one(case, pipe, output_type="pt")
    return figures.most / 2**20


def stock(case: Case) -> Any:
    """The same pipeline with the stock checker, ViT-L/14 with random weights, in its slot."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
              "image_size": 224, "patch_size": 14}  # fmt: skip
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=768)).eval()
    pipe = case.build()
    pipe.register_modules(safety_checker=checker, feature_extractor=CLIPImageProcessor())
    return pipe


def measure(case: Case, guard: Guard, beside: Any) -> dict[str, Any]:
    """One family: times, copies, memory."""
    plain, guarded = case.build(), case.build()
    drawn = one(case, plain, output_type="pt")[case.field]
    frames = drawn.reshape(-1, *drawn.shape[-3:]).clamp(0, 1) * 2 - 1
    with attach(guarded, guard):
        ways = {
            "plain": lambda: one(case, plain, output_type="pt"),
            "guarded": lambda: one(case, guarded, output_type="pt"),
            "own": lambda: guard.check(frames, value_range="signed"),
        }
        if beside is not None:
            ways["stock"] = lambda: one(case, beside, output_type="pt")
        times = medians(ways, rounds=5 if beside is not None else 11)
        more = peak(case, guarded) - peak(case, plain)
    before, after = copies(case, plain)
    return {"frames": len(frames), **times, "added": (times["guarded"] - times["plain"]) / times["own"], "memory": more,
            "copies": f"{before} / {after}", "kept": after <= before}  # fmt: skip


def main() -> None:
    diffusers.utils.logging.set_verbosity_error()
    print(f"{machine()}, diffusers {diffusers.__version__}\n")
    rows, broken, result = [], [], {}
    guard = real_guard()
    for name in FAMILIES:
        case = CASES[name]
        figures = measure(case, guard, stock(case) if name == "StableDiffusionPipeline" else None)
        beside = f"{figures['stock']:.0f}" if "stock" in figures else "-"
        rows.append((name, figures["frames"], figures["plain"], figures["guarded"],
                     figures["guarded"] / figures["plain"], figures["own"], figures["added"], beside,
                     figures["copies"], figures["memory"]))  # fmt: skip
        result[name] = {key: figures[key] for key in ("plain", "guarded", "own", "added", "memory")}
        if not figures["kept"]:
            broken.append(f"{name} copies full-size images more often with a guard ({figures['copies']})")
        if not figures["added"] <= ADDED:
            broken.append(f"{name}: what is added is {figures['added']:.2f} of the guard's own time, not {ADDED}")
    table(
        ("pipeline", "frames", "plain ms", "guarded ms", "ratio", "guard alone ms", "added / alone", "stock checker ms",
         "full-size copies to the host, without / with", "peak memory added, MB"),
        rows,
    )  # fmt: skip
    finish("pipelines", result, broken)


if __name__ == "__main__":
    main()
