"""Batches that fit into the memory of the device: halved when it runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")

log = logging.getLogger(__name__)


def in_batches(work: Callable[[int, int], T], count: int, batch: int, name: str) -> list[T]:
    """Return the results of `work(start, stop)` for each batch of `count` rows, in order.

    Raises:
        RuntimeError: there was not enough memory for a single row, or `work` failed.
    """
    step = max(1, min(batch, count))
    while True:
        try:
            return [work(start, min(start + step, count)) for start in range(0, count, step)]
        except (MemoryError, RuntimeError) as error:
            if step == 1 or not out_of_memory(error):
                raise
            step //= 2
            log.warning("out of memory: %s continues with batch_size %d", name, step)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a device is out of memory."""
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or "out of memory" in str(error).lower()
