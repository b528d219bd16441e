"""Work that several threads do at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier


def in_threads(work: Callable[[int], object], count: int) -> None:
    """Calls `work` with each number below `count`, each in a thread of its own; raises what any of them raised."""
    all_there = Barrier(count, timeout=60)

    def run(index: int) -> None:
        all_there.wait()
        work(index)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(run, range(count)))
