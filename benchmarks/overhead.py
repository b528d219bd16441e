"""What the guard costs a 1024 x 1024 image, beside the stock checker and beside timm by hand.

python benchmarks/overhead.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from common import finish, machine, medians, table  # first: it sets the threads

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import create_transform

from nsfw_guard.listeners.audit import Audit
from nsfw_guard.backends.base import Options
from nsfw_guard.backends.catalog.classifiers import MARQO
from nsfw_guard.backends.nets.network import NetBackend
from nsfw_guard.backends.nets.timm_model import TimmNet
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.testing import FakeBackend


def to_image(frames: torch.Tensor) -> Image.Image:
    """What a diffusers pipeline does before it checks."""
    unit = (frames * 0.5 + 0.5).clamp(0, 1)
    return Image.fromarray((unit.cpu().permute(0, 2, 3, 1).float().numpy() * 255).round().astype("uint8")[0])


def stock_checker():
    """The stock path: tensor to PIL, CLIP preprocessing, the CLIP ViT-L/14 checker with random weights."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
              "image_size": 224, "patch_size": 14}  # fmt: skip
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=768)).eval()
    processor = CLIPImageProcessor()

    def run(frames: torch.Tensor) -> object:
        values = processor([to_image(frames)], return_tensors="pt").pixel_values
        with torch.no_grad():
            return checker(clip_input=values, images=np.zeros((1, 8, 8, 3), np.float32))

    return run


def decide_only(guard: Guard, log: Path) -> dict[str, float]:
    """Policy, verdict and audit alone: the guard around the same scores, without a model."""
    scored = guard.backend.score([Frames(torch.rand(1, 3, 64, 64))], digests=True)

    class Replayed(FakeBackend):
        spec = guard.spec

        def score(self, stacks, *, embeddings=False, digests=False):
            return scored

    bare, audited = Guard(Replayed()), Guard(Replayed(), listeners=[Audit(log)])
    frame = torch.rand(1, 3, 8, 8)
    return medians(
        {"policy + verdict": lambda: bare.check(frame), "with audit": lambda: audited.check(frame)}, rounds=200
    )


def main() -> None:
    """Prints the tables and judges the promises."""
    print(machine() + "\n")
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_384", num_classes=2).eval()
    backend = NetBackend(TimmNet(model), MARQO, Options())
    guard = Guard(backend)
    fast = Guard(NetBackend(TimmNet(model), MARQO, Options(resize="fast")))
    signed = torch.rand(1, 3, 1024, 1024) * 2 - 1
    transform = create_transform(
        (3, 384, 384), is_training=False, interpolation="bicubic", crop_pct=1.0, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    values = transform(to_image(signed))[None]
    stock = stock_checker()

    with tempfile.TemporaryDirectory() as folder:
        audited = Guard(backend, listeners=[Audit(Path(folder) / "log.jsonl")])

        def by_hand() -> object:
            with torch.inference_mode():
                return model(transform(to_image(signed))[None]).softmax(-1).tolist()

        def forward() -> object:
            with torch.inference_mode():
                return model(values)

        shown = backend.preprocess.prepare(Frames(signed, "signed")).pixels[:, 0]
        times = medians(
            {
                "timm by hand: tensor to PIL, transform, forward": by_hand,
                "guard": lambda: guard.check(signed, value_range="signed"),
                "guard, fast resize": lambda: fast.check(signed, value_range="signed"),
                "guard with audit": lambda: audited.check(signed, value_range="signed"),
                "- forward alone": forward,
                "- preprocess alone": lambda: backend.preprocess.normalise(
                    backend.preprocess.prepare(Frames(signed, "signed")).pixels
                ),
                "- digest alone": lambda: __import__("hashlib").sha256(shown.numpy().tobytes()).hexdigest(),
            },
            rounds=15,
        )
        times |= {f"- {name}": ms for name, ms in decide_only(guard, Path(folder) / "decide.jsonl").items()}
    times |= medians({"stock: tensor to PIL, CLIP processor, ViT-L/14 checker": lambda: stock(signed)}, rounds=3)

    hand, whole = times["timm by hand: tensor to PIL, transform, forward"], times["guard"]
    table(("one 1024 x 1024 tensor, one thread", "ms", "x timm by hand"), [[n, t, t / hand] for n, t in times.items()])
    decide = (times["- with audit"] + times["- digest alone"]) / times["- forward alone"]
    ratio = times["stock: tensor to PIL, CLIP processor, ViT-L/14 checker"] / whole
    print(f"policy + verdict + audit (digest and line): {decide:.2%} of the forward pass")
    print(
        f"guard: {whole / hand:.2f} of timm by hand; the stock checker takes {ratio:.1f} times as long as the guard\n"
    )
    broken = [f"policy, verdict and audit cost {decide:.2%} of the forward pass, over 2%"] * (decide > 0.02)
    broken += [f"the guard takes {whole / hand:.3f} of timm by hand"] * (whole > hand)
    finish(
        "overhead",
        {"ms": times, "decide_share": decide, "guard_by_hand": whole / hand, "stock_by_guard": ratio},
        broken,
    )


if __name__ == "__main__":
    main()
