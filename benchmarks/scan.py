"""How fast a scan reads and judges images from disk, where the time goes, and whether its memory grows.

python benchmarks/scan.py [--images 200]

The default model's network (ViT-tiny, 384 px) with random weights, drawn images of 1024 x 1024 as JPEG and PNG, files
in the system's cache, models loaded before. The naive loop is PIL, timm's transform and the network, one image after
the other; the DataLoader does the same with two worker processes. Memory is that of the whole process, for small images
by `demo-shapes`. Clips are judged frame by frame, with the same limits and hashes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
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
from nsfw_guard.imaging.clips.clip import Clip
from nsfw_guard.imaging.clips.facts import load_av
from nsfw_guard.imaging.decode import Stream
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.imaging.pdq import pdq
from nsfw_guard.tools.screening.parts import Parts
from nsfw_guard.tools.screening.scan import Scan
from nsfw_guard.tools.screening.scorer import ScanSettings, Scorer

SEED = 20261129
SMALL, LARGE = 1_000, 20_000  # images of the two runs whose memory is compared
SHORT, LONG = 256, 2560  # frames of the two clips whose memory is compared
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


def decoded(data: bytes) -> Any:
    """The pixels of a file."""
    return next(iter(Stream(data, limits=Limits())))


def hashed(frame: Frames) -> Any:
    """The perceptual hash of a frame."""
    return pdq(frame.to_array())


def stages(paths: list[Path], model: Path) -> dict[str, float]:
    """Milliseconds an image in each part of a scan, on one thread: medians."""
    scorer = Scorer(ScanSettings(model=str(model), trust_guard=True))
    backend = scorer.settings.guard().backend
    times: dict[str, list[float]] = {}

    def timed(name: str, do: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = do()
        times.setdefault(name, []).append(1000 * (time.perf_counter() - start))
        return result

    with tempfile.TemporaryDirectory() as out:
        parts = Parts(Path(out), "parquet", scorer.width)
        for path in paths:
            data = timed("read", path.read_bytes)
            pixels = timed("decode", partial(decoded, data))
            frame = Frames(torch.from_numpy(pixels)[None].permute(0, 3, 1, 2))
            timed("preprocess and network", partial(backend.score, [frame], embeddings=True, digests=True))
            timed("perceptual hash", partial(hashed, frame))
            rows = timed("all of it: bytes to row", partial(scorer, [str(path)], [data]))
            timed("a part of one row, on the disk", partial(parts.write, 0, rows))
    return {name: sorted(values)[len(values) // 2] for name, values in times.items()}


def clip(path: Path, frames: int, size: tuple[int, int]) -> Path:
    """Draws a clip: a scene that drifts."""
    av = load_av()
    rng = np.random.default_rng(SEED)
    scene = np.asarray(shapes.draw(shapes.random_scene(rng, shapes=2), side=max(size), rng=rng))
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            image = np.roll(scene, number % max(size), axis=1)[: size[1], : size[0]]
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")))
        out.mux(stream.encode())
    return path


def clip_rates(home: Path) -> dict[str, float]:
    """Frames a second of a clip of 1280 x 720, and the memory of two clips of other lengths."""
    home.mkdir()
    wide = clip(home / "wide.mp4", 96, (1280, 720)).read_bytes()
    result = {}
    for name, model in (("default network", str(home.parent / "model")), ("demo-shapes", "demo-shapes")):
        scorer = Scorer(ScanSettings(model=model, trust_guard=True))
        assert scorer.guard.spec.name
        start = time.perf_counter()
        (row,) = scorer(["wide.mp4"], [wide])
        result[f"frames a second, {name}"] = 96 / (time.perf_counter() - start)
        assert json.loads(row.clip)["frames"] == 96
    start = time.perf_counter()
    assert sum(1 for _ in Clip.open(wide)) >= 96
    result["frames a second, decoding alone"] = 96 / (time.perf_counter() - start)
    for frames in (SHORT, LONG):
        (home / str(frames)).mkdir()
        clip(home / str(frames) / "a.mp4", frames, (320, 240))
        result[f"peak MB, {frames} frames of 320 x 240"] = memory_of(home / str(frames))
    return result


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
        parts = stages(sorted((home / "jpg").rglob("*.jpg"))[:40], home / "model")
        clips = clip_rates(home / "clips")
    naive = result["naive loop"]
    rows = [(name, r["jpg"], r["jpg"] / naive["jpg"], r["png"], r["png"] / naive["png"]) for name, r in result.items()]
    table(["images a second", "JPEG", "x naive", "PNG", "x naive"], rows)
    table(["images", "peak MB"], [(SMALL, small), (LARGE, large)])
    table(["one JPEG of 1024 x 1024, one thread", "ms"], [(name, f"{value:.2f}") for name, value in parts.items()])
    table(["a clip, every frame", ""], [(name, f"{value:.1f}") for name, value in clips.items()])
    short, long = (clips[f"peak MB, {frames} frames of 320 x 240"] for frames in (SHORT, LONG))
    broken = (
        [f"a clip of {LONG} frames takes {long:.0f} MB, one of {SHORT} {short:.0f}"] if long > GROWTH * short else []
    )
    broken += [f"memory grows from {small:.0f} to {large:.0f} MB"] if large > GROWTH * small else []
    facts = {"ms": parts, "clips": clips}
    finish("scan", {"rates": result, **facts, "peak_mb": {SMALL: round(small), LARGE: round(large)}}, broken)


if __name__ == "__main__":
    main()
