"""What a store of embeddings costs: building, searching with and without a filter, adding, removing, opening again.

python benchmarks/similarity.py [--count 200000]

Vectors of 192 numbers in clusters, as embeddings are, drawn by a fixed seed. Recall is compared with a plain product of
all vectors in float64.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from common import finish, machine, table  # first: it sets the threads

import torch

from nsfw_guard.tools.similarity.exact import ExactIndex

WIDTH, K, ASKED, RARE = 192, 10, 100, 100  # one image in RARE has the fact that is filtered by
RECALL = 0.95
SEED = 20261129


def vectors(count: int) -> torch.Tensor:
    """Vectors around a thousand centres."""
    generator = torch.Generator().manual_seed(SEED)
    centres = torch.randn(1000, WIDTH, generator=generator)
    which = torch.randint(0, 1000, (count,), generator=generator)
    return centres[which] + 0.5 * torch.randn(count, WIDTH, generator=generator)


def timed(do: Callable[[], object]) -> float:
    """The seconds that something takes."""
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


Where = dict[str, str] | None


def recall(index: ExactIndex, pool: torch.Tensor, asked: torch.Tensor, rows: torch.Tensor, where: Where) -> float:
    """The share of the true nearest neighbours that are found."""
    unit = torch.nn.functional.normalize(pool[rows].double(), dim=1)
    similar = torch.nn.functional.normalize(asked.double(), dim=1) @ unit.T
    wanted = [{f"image {int(rows[i])}" for i in line} for line in similar.topk(K, dim=1).indices]
    answers = [{match.key for match in matches} for matches in index.search(asked, k=K, where=where)]
    return statistics.mean(len(a & b) / K for a, b in zip(wanted, answers, strict=True))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200_000, help="vectors (default: 200,000)")
    count = parser.parse_args().count
    print(machine() + "\n")
    pool, asked = vectors(count), vectors(count + ASKED)[-ASKED:]
    keys = [f"image {row}" for row in range(count)]
    facts = [{"outcome": "block" if row % RARE == 0 else "allow"} for row in range(count)]
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home, "index")
        index = ExactIndex.create(folder, model="m", revision="r", width=WIDTH)
        result = {"build, s": timed(lambda: index.add(keys, pool, facts))}
        result["MB on disk"] = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        for name, where in (("all", None), ("1%", {"outcome": "block"})):
            times = sorted(1000 * timed(partial(index.search, one[None], k=K, where=where)) for one in asked)
            result[f"search {name}, ms p50"] = times[ASKED // 2]
            result[f"search {name}, ms p95"] = times[ASKED * 95 // 100]
            rows = torch.arange(count) if where is None else torch.arange(0, count, RARE)
            result[f"recall {name}"] = recall(index, pool, asked, rows, where)
        result["add 1000, s"] = timed(lambda: index.add([f"new {i}" for i in range(1000)], vectors(1000), facts[:1000]))
        result["remove 1000, s"] = timed(lambda: index.remove(keys[:1000]))
        result["open again, s"] = timed(lambda: ExactIndex.open(folder))
    table(["exact index", f"{count} vectors of {WIDTH}"], [[name, f"{value:.3g}"] for name, value in result.items()])
    broken = [f"{name} {result[name]:.3f}" for name in ("recall all", "recall 1%") if result[name] < RECALL]
    finish("similarity", {"count": count, **{name: round(value, 4) for name, value in result.items()}}, broken)


if __name__ == "__main__":
    main()
