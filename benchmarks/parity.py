"""Not one pixel off Pillow, and what that costs beside the other ways to resize.

python benchmarks/parity.py
"""

from __future__ import annotations

from itertools import product

from common import finish, machine, medians, table  # first: it sets the threads

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from torch.nn import functional
from torchvision.transforms import v2

from nsfw_guard import load_model
from nsfw_guard.demo.shapes import draw, random_scene
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.imaging.preprocess import Preprocess
from nsfw_guard.imaging.resize import Method, effective_method, resize, weights
from nsfw_guard.imaging.views import InputSpec

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SIZES = [
    (512, 512),
    (1024, 1024),
    (768, 1344),
    (1344, 768),
    (2048, 2048),
    (100, 333),
    (64, 64),
    (1536, 640),
    (37, 2048),
]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.uint8]
SPECS = {
    "bicubic 384 crop": InputSpec(size=384),
    "bilinear 224 squash": InputSpec(size=224, interpolation="bilinear", crop_mode="squash"),
    "bicubic 448 squash": InputSpec(size=448, crop_mode="squash"),
    "bicubic 64 pad": InputSpec(size=64, crop_mode="border"),
}


def images(size: tuple[int, int], dtype: torch.dtype, kind: str = "both") -> torch.Tensor:
    """A smooth and a hard-edged part, a little past the range, as a VAE leaves them. Shape: (1, 3, H, W), signed."""
    result = torch.Generator().manual_seed(size[0] * 7 + size[1])
    rough = torch.rand(1, 3, 9, 13, generator=result)
    smooth = functional.interpolate(rough, size, mode="bicubic") * 2.2 - 1.1
    smooth = smooth + 0.1 * torch.rand(smooth.shape, generator=result)
    noise = torch.randint(0, 2, (1, 3, *size), generator=result) * 2.0 - 1.0
    width = torch.arange(size[1])
    mask = {"both": (width % 64 < 32).float(), "smooth": torch.ones(size[1]), "noise": torch.zeros(size[1])}[kind]
    values = smooth * mask + noise * (1 - mask)
    return ((values * 0.5 + 0.5).clamp(0, 1) * 255).to(torch.uint8) if dtype == torch.uint8 else values.to(dtype)


def saved(frames: torch.Tensor) -> Image.Image:
    """What a diffusers pipeline makes of decoded frames."""
    if frames.dtype == torch.uint8:
        return Image.fromarray(frames[0].permute(1, 2, 0).cpu().numpy())
    unit = (frames * 0.5 + 0.5).clamp(0, 1)
    return Image.fromarray((unit.cpu().permute(0, 2, 3, 1).float().numpy() * 255).round().astype("uint8")[0])


def timms(spec: InputSpec):
    """timm's own transform for an input."""
    return create_transform(
        (3, spec.size, spec.size), is_training=False, interpolation=spec.interpolation, crop_pct=spec.crop_pct,
        crop_mode=spec.crop_mode, mean=spec.mean, std=spec.std,
    )  # fmt: skip


def differing() -> tuple[list[list[object]], int]:
    """Per kind of input: sizes x dtypes x ways, and how many values differ from timm on Pillow."""
    rows, total = [], 0
    for (name, spec), device in product(SPECS.items(), DEVICES):
        preprocess, transform = Preprocess(spec=spec, views="center"), timms(spec)
        off = cases = values = 0
        for size, dtype in product(SIZES, DTYPES):
            frames = images(size, dtype).to(device)
            expected = transform(saved(frames))
            result = preprocess.prepare(Frames(frames, "signed"))
            off += int((preprocess.normalise(result.pixels)[0, 0].cpu() != expected).sum())
            cases, values = cases + 1, values + expected.numel()
        assert spec.interpolation != "bilinear-aligned"  # whose reference is not Pillow
        methods: tuple[Method, ...] = ("matrix", "float64")
        for size, method in product(SIZES, methods):
            levels = images(size, torch.uint8).to(device)
            target = (spec.size, spec.size)
            image = saved(levels).resize(target[::-1], 3 if spec.interpolation == "bicubic" else 2)
            expected = torch.from_numpy(np.array(image)).permute(2, 0, 1)
            made_levels = resize(levels, target, interpolation=spec.interpolation, method=method)[0].cpu()
            off += int((made_levels != expected).sum())
            cases, values = cases + 1, values + expected.numel()
        effective = effective_method(torch.device(device), (1024, 1024), (spec.size, spec.size))
        rows.append([name, device, f"exact ({effective})", cases, values, off])
        total += off
    return rows, total


def fast_error(kind: str) -> tuple[float, int]:
    """The largest share of values that "fast" has wrong for the default model, and by how many levels at most."""
    spec, worst, share = SPECS["bicubic 384 crop"], 0, 0.0
    for size in [s for s in SIZES if min(s) >= 384]:
        frames = Frames(images(size, torch.uint8, kind))
        exact, fast = (Preprocess(spec=spec, resize=r).prepare(frames).pixels for r in ("exact", "fast"))
        off = (exact.int() - fast.int()).abs()
        worst, share = max(worst, int(off.max())), max(share, float((off > 0).float().mean()))
    return share, worst


def fast_effect(count: int = 200) -> tuple[float, float]:
    """How far "fast" moves a score of the demonstration model at most, and its log-odds: noisy scenes of 512 x 512."""
    random, worst, odds = np.random.default_rng(5), 0.0, 0.0
    exact, fast = (load_model("demo-shapes", resize=r) for r in ("exact", "fast"))
    for _ in range(count):
        scene = np.array(draw(random_scene(random), side=512, rng=random)).astype(np.float32)
        noisy = (scene + random.normal(0, 40, scene.shape)).clip(0, 255).round().astype(np.uint8)
        frames = Frames(torch.from_numpy(noisy).permute(2, 0, 1)[None])
        one, other = (next(b.score([frames])[0].numbers()) for b in (exact, fast))
        worst = max(worst, abs(one - other))
        odds = max(odds, abs(np.log(one / (1 - one)) - np.log(other / (1 - other))))
    return worst, float(odds)


def timings() -> dict[str, float]:
    """Milliseconds for one 1024 x 1024 float32 tensor to the model's input, and for the resize alone."""
    spec = SPECS["bicubic 384 crop"]
    signed, levels = images((1024, 1024), torch.float32), images((1024, 1024), torch.uint8)
    exact, fast, transform = Preprocess(spec=spec), Preprocess(spec=spec, resize="fast"), timms(spec)
    image, unit = saved(levels), levels.float() / 255
    size = (384, 384)
    return medians(
        {
            "stock: tensor to PIL to timm": lambda: transform(saved(signed)),
            "exact": lambda: exact.normalise(exact.prepare(Frames(signed, "signed")).pixels),
            "fast": lambda: fast.normalise(fast.prepare(Frames(signed, "signed")).pixels),
            "resize: PIL": lambda: image.resize(size, Image.Resampling.BICUBIC),
            "resize: F.interpolate(antialias), float": lambda: functional.interpolate(
                unit, size, mode="bicubic", antialias=True
            ),
            "resize: torchvision v2, uint8": lambda: v2.functional.resize(
                levels, list(size), v2.InterpolationMode.BICUBIC
            ),
            "resize: exact matrix": lambda: resize(levels, size, method="matrix"),
            "resize: exact float64": lambda: resize(levels, size, method="float64"),
        },
        rounds=21,
    )


def exact_range(target: int) -> int:
    """The longest side that the matrix form still takes down to `target` exactly, to one part in eight."""
    side = target
    while weights.__wrapped__(side + side // 8, target, "bicubic").pieces:
        side += side // 8
    return side


def main() -> None:
    """Prints the tables and judges the promises."""
    print(machine() + "\n")
    rows, off = differing()
    table(("input", "device", "way", "cases", "values", "values off Pillow"), rows)
    errors = {kind: fast_error(kind) for kind in ("smooth", "noise")}
    for kind, (share, worst) in errors.items():
        print(f"fast, {kind} images: at most {worst} levels off, on at most {share:.2%} of the values")
    effect, odds = fast_effect()
    print(f"fast moves a score of demo-shapes by at most {effect:.6f}, its log-odds by {odds:.4f} (200 noisy scenes)\n")
    times = timings()
    stock = times["stock: tensor to PIL to timm"]
    table(("1024 x 1024 float32, one thread", "ms", "x stock"), [[n, t, t / stock] for n, t in times.items()])
    print(f"exact range of the matrix form: sides up to {exact_range(224)} to 224, {exact_range(384)} to 384")
    print("beyond it, and where the matrix does not agree with the installed Pillow: Pillow on the host\n")
    ratios = {"exact": times["exact"] / stock, "fast": times["fast"] / stock}
    limits = {"exact": 1.0, "fast": 0.5}
    broken = [f"{n} takes {r:.2f} of the stock path, over {limits[n]}" for n, r in ratios.items() if r > limits[n]]
    broken += [f"{off} values differ from Pillow"] * (off > 0)
    limits = {"smooth": 0.01, "noise": 0.05}
    broken += [
        f"fast is {worst} levels off on {share:.2%} of {kind} images"
        for kind, (share, worst) in errors.items()
        if worst > 2 or share > limits[kind]
    ]
    result = {"off": off, "fast_off": errors, "fast_score_effect": [effect, odds], "ms": times, "ratios": ratios}
    finish("parity", result, broken)


if __name__ == "__main__":
    main()
