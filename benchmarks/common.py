"""What every benchmark shares: interleaved medians, a table, one RESULT line, an exit code."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import PIL
import torch

torch.set_num_threads(1)


def medians(ways: Mapping[str, Callable[[], object]], *, rounds: int = 15) -> dict[str, float]:
    """The median milliseconds of each way, all of them timed in turn, so that a slow moment hits all alike."""
    for way in ways.values():
        way()
        way()
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            samples[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(times) for name, times in samples.items()}


def machine() -> str:
    """Where this ran, in a line."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{platform.machine()}, {device}, {torch.get_num_threads()} thread, Python {platform.python_version()}, "
        f"torch {torch.__version__}, Pillow {PIL.__version__}"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a Markdown table."""
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row) + " |")
    print()


def finish(name: str, result: Mapping[str, Any], broken: Sequence[str]) -> None:
    """Prints what is broken and the RESULT line, and ends the process."""
    for promise in broken:
        print(f"BROKEN: {promise}")
    print("RESULT " + json.dumps({"benchmark": name, "machine": machine(), **result, "broken": list(broken)}))
    sys.exit(1 if broken else 0)
