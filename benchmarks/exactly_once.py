"""Scans that are killed at random moments: nothing is missing, nothing is there twice, the output is the same.

python benchmarks/exactly_once.py [--engine local|ray] [--kills 50] [--images 20000]

A folder of drawn images is scanned once without interruption by the local engine, and once more by a command that is
ended by SIGKILL again and again, until it gets through. The parts of both must be equal, byte for byte. With Ray, a
worker is killed as well, amid the run that gets through; each Ray runs in a network namespace with only the loopback.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from common import finish, machine, table  # first: it sets the threads

import numpy as np

from nsfw_guard.demo import shapes
from nsfw_guard.tools.screening.plan import read_plan
from nsfw_guard.tools.screening.results import rows_of

SEED = 20261129
NAMESPACE = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def draw(folder: Path, count: int) -> None:
    """Draws so many small images into a folder; every fiftieth file is broken."""
    rng = np.random.default_rng(SEED)
    for number in range(count):
        path = folder / f"{number % 20:02d}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shapes.draw(shapes.random_scene(rng, shapes=2), side=64, rng=rng).save(path)
        if number % 50 == 49:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def command(folder: Path, out: Path, engine: str = "local") -> list[str]:
    """The scan of a folder."""
    words = ["scan", str(folder), "--out", str(out), "--model", "demo-shapes", "--fail-on", "never"]
    scan = [sys.executable, "-m", "nsfw_guard.cli.main", *words, "--engine", engine]
    return [*NAMESPACE, *scan, "--workers", "1"] if engine == "ray" else scan


def interrupted(folder: Path, out: Path, kills: int, engine: str) -> dict[str, int]:
    """Runs the scan until it gets through; ends it at most `kills` times. Returns the kills, and those amid a write."""
    rng, killed, amid, workers = random.Random(SEED), 0, 0, 0  # noqa: S311 - moments, not secrets
    while True:
        process = subprocess.Popen(  # noqa: S603 - this project's own command
            command(folder, out, engine), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": str(out.parent)},
        )  # fmt: skip
        # Ray takes many seconds to start: a quarter of its ends are somewhere in there.
        parts, seconds = rng.choice((0, 1, 1, 1)), rng.uniform(0.0, 0.6)
        seconds *= 50 if engine == "ray" and not parts else 1
        if killed < kills and lives_until(process, out, parts=parts, seconds=seconds):
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
            amid += bool(list(out.glob("*.new")))
            print(f"kill {killed}: {len(list(out.glob('part-*.parquet')))} parts", file=sys.stderr)
            continue
        if killed == kills and engine == "ray" and lives_until(process, out, parts=1, seconds=0.1):
            workers = kill_workers(process.pid)
        if process.wait():
            raise SystemExit(f"the scan ended with {process.returncode}")
        counts = {"kills": killed, "of them while a file was written": amid}
        return {**counts, "workers killed as well": workers} if engine == "ray" else counts


def kill_workers(driver: int) -> int:
    """Ends the worker processes of a Ray by SIGKILL, and returns how many there were."""
    killed, namespace = 0, os.readlink(f"/proc/{driver}/ns/net")
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            here = os.readlink(folder / "ns" / "net") == namespace
            if here and b"MapWorker" in (folder / "cmdline").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)
                killed += 1
    return killed


def lives_until(process: subprocess.Popen[bytes], out: Path, *, parts: int, seconds: float) -> bool:
    """Waits for so many new parts, and some time after them; true when the process still runs then."""
    wanted = len(list(out.glob("part-*"))) + parts
    while process.poll() is None and len(list(out.glob("part-*"))) < wanted:
        time.sleep(0.005)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def compare(whole: Path, out: Path) -> dict[str, Any]:
    """What is missing, what is there twice, and which parts differ."""
    wanted = [entry.key for chunk in read_plan(whole).chunks(256) for entry in chunk]
    keys = Counter(row["key"] for row in rows_of(out, ["key"]))
    names = {path.name for folder in (whole, out) for path in folder.glob("part-*")}
    differ = [
        name
        for name in sorted(names)
        if not (out / name).exists()
        or not (whole / name).exists()
        or (out / name).read_bytes() != (whole / name).read_bytes()
    ]
    return {
        "images": len(wanted), "missing": sum(keys[key] == 0 for key in wanted),
        "twice": sum(count > 1 for count in keys.values()), "parts": len(names), "parts that differ": len(differ),
    }  # fmt: skip


def main() -> None:
    """Prints what the killed scan has, beside the one that was left alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="who judges (default: local)")
    parser.add_argument("--kills", type=int, default=50, help="how often the scan is ended (default: 50)")
    parser.add_argument("--images", type=int, default=20_000, help="how many images are drawn (default: 20,000)")
    args = parser.parse_args()
    print(machine() + "\n")
    with tempfile.TemporaryDirectory() as home:
        folder, whole, out = (Path(home, name) for name in ("images", "whole", "killed"))
        draw(folder, args.images)
        start = time.perf_counter()
        subprocess.run(command(folder, whole), check=True, capture_output=True)  # noqa: S603 - this project's own command
        alone = time.perf_counter() - start
        start = time.perf_counter()
        counts = interrupted(folder, out, args.kills, args.engine)
        result = {**counts, **compare(whole, out)}
        killed = time.perf_counter() - start
    table(["", "count"], list(result.items()))
    broken = [f"{result[name]} {name}" for name in ("missing", "twice", "parts that differ") if result[name]]
    broken += (
        [f"only {counts['kills']} of {args.kills} kills: draw more images"] if counts["kills"] < args.kills else []
    )
    broken += ["no worker was killed"] if result.get("workers killed as well") == 0 else []
    seconds = {"seconds alone": round(alone, 1), "seconds with kills": round(killed, 1)}
    finish("exactly_once", {"engine": args.engine, **result, **seconds}, broken)


if __name__ == "__main__":
    main()
