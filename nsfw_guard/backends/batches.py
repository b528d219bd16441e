"""Batches that the device can hold: halved as often as it takes when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")

log = logging.getLogger(__name__)


def in_batches(work: Callable[[int, int], T], count: int, batch: int, name: str) -> list[T]:
    """Return what `work(start, stop)` gives for each batch of `count` rows, in order.

    Raises:
        RuntimeError: memory ran out for a single row, or something else went wrong.
    """
    step = max(1, min(batch, count))
    while True:
        try:
            return [work(start, min(start + step, count)) for start in range(0, count, step)]
        except (MemoryError, RuntimeError) as error:
            if step == 1 or not out_of_memory(error):
                raise
            step //= 2
            log.warning("out of memory: %s goes on with batches of %d", name, step)


def out_of_memory(error: BaseException) -> bool:
    """Return whether this error says that memory ran out, on whichever device."""
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or "out of memory" in str(error).lower()
