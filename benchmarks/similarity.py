"""What stores of embeddings cost: building, searching with and without a filter, adding, removing, opening again.

python benchmarks/similarity.py [--count 200000] [--stores exact,lance,milvus]

Vectors of 192 numbers in clusters, as embeddings are, drawn by a fixed seed. Recall is compared with a plain product of
all vectors in float64, and must be 0.95 for every store. Milvus is `milvus-lite server` on the loopback interface.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from common import finish, machine, table  # first: it sets the threads

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
from nsfw_guard.tools.similarity.places import create_store, open_store
from nsfw_guard.tools.similarity.store import ListedStore, Match
from tests.tools.similarity.milvus_server import serving

WIDTH, K, ASKED, RARE = 192, 10, 100, 100  # one image in RARE has the fact that is filtered by
BATCH = 4096  # rows of one addition, as `nsfw-guard index build` adds them
RECALL = 0.95
SEED = 20261129
NEEDED = {"exact": "torch", "lance": "lancedb", "milvus": "milvus_lite"}
FILTERS: dict[str, dict[str, str] | None] = {"all": None, "1%": {"outcome": "block"}, "99%": {"outcome": "allow"}}


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


def nearest(pool: torch.Tensor, asked: torch.Tensor, rows: torch.Tensor) -> list[set[str]]:
    """The keys of the true nearest neighbours among some rows."""
    unit = torch.nn.functional.normalize(asked.double(), dim=1)
    best: list[torch.Tensor] = []
    for part in rows.split(100_000):  # the vectors of a million would take 1.5 GB in float64
        similar = unit @ torch.nn.functional.normalize(pool[part].double(), dim=1).T
        values, at = similar.topk(K, dim=1)
        best.append(torch.stack([values, part[at].double()]))
    values, numbers = torch.cat(best, dim=2)
    chosen = numbers.gather(1, values.topk(K, dim=1).indices)
    return [{f"image {int(number)}" for number in line} for line in chosen]


def fill(store: ListedStore, keys: Sequence[str], pool: torch.Tensor, facts: Sequence[dict[str, str]]) -> None:
    """Adds images as the command does, and finishes the index."""
    for start in range(0, len(keys), BATCH):
        part = slice(start, start + BATCH)
        store.add(keys[part], pool[part], facts[part])
    store.close()


def measure(kind: str, place: Path | str, pool: torch.Tensor, asked: torch.Tensor) -> dict[str, float]:
    """All figures of a store."""
    count = len(pool)
    keys = [f"image {row}" for row in range(count)]
    facts = [{"outcome": "block" if row % RARE == 0 else "allow"} for row in range(count)]
    store = create_store(kind, place, model="m", revision="r", width=WIDTH)
    result = {"build, s": timed(lambda: fill(store, keys, pool, facts))}
    folder = place if isinstance(place, Path) else None
    if folder:
        result["MB on disk"] = size(folder)
    opened: list[ListedStore] = []
    result["open again, s"] = timed(lambda: opened.append(open_store(place)))
    (store,) = opened
    store.search(asked[:3])
    for name, where in FILTERS.items():
        rare = torch.arange(count) % RARE == 0
        rows = {"all": torch.ones(count, dtype=torch.bool), "1%": rare, "99%": ~rare}[name].nonzero()[:, 0]
        answers: list[list[Match]] = []
        times = sorted(1000 * timed(partial(ask, store, one[None], where, answers)) for one in asked)
        result[f"search {name}, ms p50"] = times[ASKED // 2]
        result[f"search {name}, ms p95"] = times[ASKED * 95 // 100]
        pairs = zip(nearest(pool, asked, rows), answers, strict=True)
        result[f"recall {name}"] = statistics.mean(len(true & {m.key for m in ms}) / K for true, ms in pairs)
    new = [f"new {number}" for number in range(1000)]
    result["add 1000, s"] = timed(lambda: store.add(new, vectors(1000), facts[:1000]))
    result["remove 1000, s"] = timed(lambda: store.remove(keys[:1000]))
    assert store.count == count
    store.close()
    return result


def ask(store: ListedStore, one: torch.Tensor, where: dict[str, str] | None, answers: list[list[Match]]) -> None:
    """Searches, and keeps the answer."""
    answers += store.search(one, k=K, where=where)


def size(folder: Path) -> float:
    """The megabytes of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200_000, help="vectors (default: 200,000)")
    there = [kind for kind, library in NEEDED.items() if importlib.util.find_spec(library)]
    parser.add_argument("--stores", default=",".join(there), help="with commas (default: all that are installed)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a server is ended, too
    versions = [f"{NEEDED[kind]} {importlib.metadata.version(NEEDED[kind])}" for kind in there if kind != "exact"]
    print(", ".join([machine(), *versions]) + "\n")
    pool, asked = vectors(args.count), vectors(args.count + ASKED)[-ASKED:]
    results: dict[str, dict[str, float]] = {}
    for kind in args.stores.split(","):
        with tempfile.TemporaryDirectory() as home, ExitStack() as stack:
            address = stack.enter_context(serving(Path(home))) if kind == "milvus" else ""
            results[kind] = measure(kind, address or Path(home, "index"), pool, asked)
            if kind == "milvus":
                results[kind]["MB on disk"] = size(Path(home))
        print(kind, results[kind], file=sys.stderr)
    names = list(dict.fromkeys(name for result in results.values() for name in result))
    cells = [[name, *(f"{result[name]:.3g}" for result in results.values())] for name in names]
    table([f"{args.count} vectors of {WIDTH}", *results], cells)
    recalls = [(kind, name, value) for kind, r in results.items() for name, value in r.items() if "recall" in name]
    broken = [f"{kind}: {name} {value:.3f}" for kind, name, value in recalls if value < RECALL]
    rounded = {kind: {name: round(value, 4) for name, value in result.items()} for kind, result in results.items()}
    finish("similarity", {"count": args.count, **rounded}, broken)


if __name__ == "__main__":
    main()
