"""What the tests of engines judge: drawn images and a bad file, in small parts, also in other processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nsfw_guard.cli.main import main
from nsfw_guard.demo import shapes
from nsfw_guard.tools import lock
from nsfw_guard.tools.screening import scan
from nsfw_guard.tools.screening.engines.base import Engine
from nsfw_guard.tools.screening.scan import Scan, ScanProgress
from nsfw_guard.tools.screening.scorer import ScanSettings

SETTINGS = ScanSettings(model="demo-shapes", batch_size=3)
CHUNK = 8
BAD = 5  # the file that is no image


def draw(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True)
    for number in range(count):
        shapes.draw(shapes.random_scene(rng, shapes=2), side=64, rng=rng).save(folder / f"{number:04d}.png")
    (folder / f"{BAD:04d}.png").write_bytes(b"no image")
    return folder


def scan_of(source: Path, out: Path, engine: Engine | None = None) -> Scan:
    return Scan([str(source)], out, settings=SETTINGS, kind="jsonl", engine=engine)


def run(source: Path, out: Path, engine: Engine | None = None) -> list[ScanProgress]:
    return list(scan_of(source, out, engine).run())


def written(out: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in [*sorted(out.glob("part-*")), out / "run.json"]}


def command(source: Path, out: Path, *words: str) -> list[str]:
    """The scan as a command in another process, with the same small parts."""
    module = "tests.tools.screening.engines.drawing"
    said = ["scan", source, "--out", out, "--model", "demo-shapes", "--batch", "3", "--format", "jsonl"]
    return [sys.executable, "-m", module, *map(str, said), "--fail-on", "never", *words]


def environment(rank: int | None = None, world: int = 2) -> dict[str, str]:
    root = str(Path(__file__).parents[4])
    variables = {} if rank is None else {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", **variables}


def small(argv: Sequence[str]) -> int:
    scan.CHUNK = CHUNK
    lock.SECONDS_TO_START = 60.0
    return main(argv)


if __name__ == "__main__":
    sys.exit(small(sys.argv[1:]))
