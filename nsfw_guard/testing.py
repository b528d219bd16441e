"""Helpers for tests, public: a backend that needs no weights, one that fails on purpose, a tiny real model."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from nsfw_guard.backends.spec import Label, ModelSpec, ScoreSpec
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.scores import Scores, Severity
from nsfw_guard.verdict import SelfTest

Fault = Literal["raises", "nan", "infinite", "above one", "few", "many", "none", "generator", "hangs", "wrong kind"]
FAULTS: tuple[Fault, ...] = (
    "raises", "nan", "infinite", "above one", "few", "many", "none", "generator", "hangs", "wrong kind"
)  # fmt: skip

RED = ScoreSpec(
    name="red",
    labels={"red": Label("red", Severity.HIGH), "other": None},
    thresholds={
        "default": Threshold(block=0.5, review=0.25, source="chosen"),
        "strict": Threshold(block=0.25, review=0.1, source="chosen"),
        "lenient": Threshold(block=0.9, review=0.5, source="chosen"),
    },
    license="Apache-2.0",
)


def red_model(name: str = "red") -> ModelSpec:
    """Return a record under which `register_model` takes a fake.

    Example:
        ```python
        register_model(red_model("mine"), lambda spec, options: FakeBackend())
        unregister_model("mine")
        ```
    """
    return ModelSpec(kind="fake", **{**vars(RED), "name": name})


def redness(levels: Tensor) -> float:
    """Return the share of strongly red pixels. Shape: (3, H, W), uint8."""
    red, green, blue = levels.int()
    return float(((red > 150) & (green < 110) & (blue < 110)).float().mean())


class FakeBackend:
    """A backend that scores frames by a function of their 8-bit pixels, or all alike by a number, and counts calls.

    Example:
        ```python
        Guard(FakeBackend(1.0))  # blocks every image
        ```
    """

    spec = RED

    def __init__(self, rule: Callable[[Tensor], float] | float = redness) -> None:
        self.rule: Callable[[Tensor], float] = rule if callable(rule) else lambda frame: rule
        self.calls = 0
        self.frames = 0

    def score(self, stacks: Sequence[Frames], *, embeddings: bool = False, digests: bool = False) -> list[Scores]:
        """Return one Scores per frame."""
        self.calls += 1
        self.frames += sum(len(stack) for stack in stacks)
        return [s for stack in stacks for s in self._of(stack, embeddings, digests)]

    def _of(self, stack: Frames, embeddings: bool, digests: bool) -> list[Scores]:
        levels, extremes = stack.quantise()
        faults = [""] * len(stack) if extremes is None else [stack.fault(*pair) for pair in extremes.tolist()]
        return [
            Scores.single(
                {"red": {Severity.HIGH: self.rule(frame)}},
                embedding=frame.float().mean((1, 2)) if embeddings else None,
                digest=f"{int(frame.long().sum()):064x}" if digests else "",
                fault=fault,
            )
            for frame, fault in zip(levels, faults, strict=True)
        ]

    def state(self) -> Mapping[str, str]:
        """Return its state."""
        return {"self_test": SelfTest.PASSED.value}


class FaultyBackend(FakeBackend):
    """A backend that fails in a chosen way."""

    def __init__(self, fault: Fault, *, seconds: float = 30.0) -> None:
        super().__init__()
        self.fault = fault
        self.seconds = seconds

    def score(self, stacks: Sequence[Frames], *, embeddings: bool = False, digests: bool = False) -> list[Scores]:
        """Return the faulty answer, or raise."""
        good = super().score(stacks, embeddings=embeddings, digests=digests)
        odd = {"nan": float("nan"), "infinite": float("inf"), "above one": 1.5}
        if self.fault in odd:
            return [Scores.single({"red": {Severity.HIGH: odd[self.fault]}}) for _ in good]
        if self.fault == "raises":
            raise RuntimeError("the model broke")
        if self.fault == "hangs":
            time.sleep(self.seconds)
        answers: dict[str, Any] = {"few": good[:-1], "many": [*good, good[0]], "none": None, "generator": iter(good)}
        answers["wrong kind"] = [0.0 for _ in good]
        answer: list[Scores] = answers.get(self.fault, good)
        return answer


def tiny_model(folder: Path, *, labels: Sequence[str] = ("NSFW", "SFW"), side: int = 32, seed: int = 0) -> Path:
    """Write a tiny ViT with random weights into a folder, in the layout that timm pushes to the hub."""
    import timm
    from safetensors.torch import save_file

    args = {"img_size": side, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = timm.create_model("vit_tiny_patch16_224", num_classes=len(labels), **args)
        torch.nn.init.normal_(model.get_classifier().weight)
    cfg = {
        "input_size": [3, side, side], "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center",
        "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
    }  # fmt: skip
    config = {
        "architecture": "vit_tiny_patch16_224", "num_classes": len(labels), "num_features": 24,
        "global_pool": "token", "label_names": list(labels), "model_args": args, "pretrained_cfg": cfg,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
