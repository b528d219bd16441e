"""How fast a scan reads and judges images from disk, where the time goes, and whether its memory grows.

python benchmarks/scan.py [--images 200]

The default model's network (ViT-tiny, 384 px) with random weights, drawn images of 1024 x 1024 as JPEG and PNG, files
in the system's cache, models loaded before. The naive loop is PIL, timm's transform and the network, one image after
the other; the DataLoader does the same with two worker processes. Memory is that of the whole process, for small images
by `demo-shapes`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import finish, machine, table  # first: it sets the threads

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import create_transform
from torch.utils.data import DataLoader, Dataset

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.catalog.classifiers import MARQO
from nsfw_guard.backends.nets.network import NetBackend
from nsfw_guard.backends.nets.timm_model import TimmNet
from nsfw_guard.demo import shapes
from nsfw_guard.tools.screening.scan import Scan
from nsfw_guard.tools.screening.scorer import ScanSettings, Scorer

SEED = 20261129
SMALL, LARGE = 1_000, 20_000  # images of the two runs whose memory is compared
GROWTH = 1.05  # the most that memory may grow between them
ROUNDS = 3


def draw(folder: Path, count: int, side: int, suffix: str) -> list[Path]:
    """Draws so many images into a folder."""
    rng, paths = np.random.default_rng(SEED), []
    for number in range(count):
        path = folder / f"{number % 50:02d}" / f"{number:06d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = shapes.draw(shapes.random_scene(rng, shapes=2), side=side, rng=rng)
        image.save(path, quality=90) if suffix == ".jpg" else image.save(path)
        paths.append(path)
    return paths


class Loaded(Dataset[torch.Tensor]):
    """Files through PIL and a transform."""

    def __init__(self, paths: list[Path], transform: Any) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as image:
            result: torch.Tensor = self.transform(image.convert("RGB"))
        return result


def ways(network: torch.nn.Module, transform: Any, paths: list[Path], model: Path) -> dict[str, Callable[[], object]]:
    """What is compared: each judges all files once."""
    loaded = Loaded(paths, transform)

    @torch.inference_mode()
    def naive() -> None:
        for index in range(len(loaded)):
            network(loaded[index][None]).softmax(-1).tolist()

    @torch.inference_mode()
    def loader(workers: int) -> None:
        for batch in DataLoader(loaded, batch_size=16, num_workers=workers):
            network(batch).softmax(-1).tolist()

    @torch.inference_mode()
    def alone() -> None:
        values = loaded[0][None]
        for _ in paths:
            network(values).softmax(-1).tolist()

    settings = ScanSettings(model=str(model), trust_guard=True)
    loaded_before = Scorer(settings)
    assert loaded_before.guard.spec.name

    def scan(workers: int) -> None:
        with tempfile.TemporaryDirectory() as out:
            folder = str(paths[0].parent.parent)
            job = Scan([folder], Path(out), settings=settings, kind="parquet", workers=workers)
            job.scorer = loaded_before
            for _ in job.run():
                pass

    return {
        "the network alone": alone, "naive loop": naive, "DataLoader, 2 workers": lambda: loader(2),
        "scan, 1 thread": lambda: scan(1), "scan, 2 threads": lambda: scan(2),
    }  # fmt: skip


def rates(count: int, suffix: str, home: Path) -> dict[str, float]:
    """Images a second of each way: the median of some rounds, all ways in turn."""
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_384", num_classes=2).eval()
    backend = NetBackend(TimmNet(network), MARQO, Options(device="cpu"))
    backend.save_pretrained(home / "model")
    half = (0.5,) * 3
    transform = create_transform(384, interpolation="bicubic", crop_pct=1.0, mean=half, std=half)
    paths = draw(home / suffix[1:], count, 1024, suffix)
    compared = ways(network, transform, paths, home / "model")
    samples: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, way in compared.items():
            start = time.perf_counter()
            way()
            samples.setdefault(name, []).append(len(paths) / (time.perf_counter() - start))
    return {name: sorted(values)[len(values) // 2] for name, values in samples.items()}


def memory_of(folder: Path) -> float:
    """The most memory that a scan of a folder takes, in megabytes, in a process of its own."""
    ran = subprocess.run(  # noqa: S603 - this very script
        [sys.executable, __file__, "--scan", str(folder)], capture_output=True, text=True, check=True
    )
    return float(json.loads(ran.stdout.splitlines()[-1]))


def scan_alone(folder: str) -> None:
    """Scans a folder, and prints the most memory that this took."""
    with tempfile.TemporaryDirectory() as out:
        for _ in Scan([folder], Path(out), settings=ScanSettings(model="demo-shapes"), kind="jsonl").run():
            pass
    # Not ru_maxrss, which a process takes over from the one that started it.
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    print(int(line.split()[1]) / 1024)


def main() -> None:
    """Prints the rates and the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200, help="images of each format (default: 200)")
    parser.add_argument("--scan", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.scan:
        scan_alone(args.scan)
        return
    print(machine() + "\n")
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        by_format = {suffix: rates(args.images, suffix, home) for suffix in (".jpg", ".png")}
        for name in by_format[".jpg"]:
            result[name] = {suffix[1:]: round(of_format[name], 2) for suffix, of_format in by_format.items()}
        draw(home / "small", SMALL, 64, ".png")
        draw(home / "large", LARGE, 64, ".png")
        small, large = memory_of(home / "small"), memory_of(home / "large")
    naive = result["naive loop"]
    rows = [(name, r["jpg"], r["jpg"] / naive["jpg"], r["png"], r["png"] / naive["png"]) for name, r in result.items()]
    table(["images a second", "JPEG", "x naive", "PNG", "x naive"], rows)
    table(["images", "peak MB"], [(SMALL, small), (LARGE, large)])
    broken = [f"memory grows from {small:.0f} to {large:.0f} MB"] if large > GROWTH * small else []
    finish("scan", {"rates": result, "peak_mb": {SMALL: round(small), LARGE: round(large)}}, broken)


if __name__ == "__main__":
    main()
