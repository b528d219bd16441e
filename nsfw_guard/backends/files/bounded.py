"""Limits the memory of a network built from a folder's configuration to what its weights account for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from nsfw_guard.errors import WeightsUnfitError

# The functions that layers of torch, timm and transformers make their parameters with.
MAKERS: frozenset[Callable[..., Any]] = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.empty_strided}
)
SLACK_NUMBERS = 1 << 26  # numbers besides the weights: masks, tables of positions, temporary tensors


@contextlib.contextmanager
def at_most(numbers: int, what: str) -> Iterator[None]:
    """Limit the new numbers that this thread makes within the context, with some slack.

    Raises:
        WeightsUnfitError: the limit would be exceeded.
    """
    with _Counted(2 * numbers + SLACK_NUMBERS, what):
        yield


@contextlib.contextmanager
def on_paper(numbers: int, what: str) -> Iterator[None]:
    """Limit it in the same way, and build without memory: the result has shapes, but no values."""
    with _Counted(2 * numbers + SLACK_NUMBERS, what, torch.device("meta")):
        yield


class _Counted(TorchFunctionMode):
    """Counts the numbers of new tensors in one thread, like every torch mode."""

    def __init__(self, most: int, what: str, device: torch.device | None = None) -> None:
        super().__init__()
        self.most, self.what, self.device, self.count = most, what, device, 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if func not in MAKERS or "out" in named:
            return func(*args, **named)
        # First without memory: torch.zeros of a huge size would take it before it is counted.
        self.count += int(func(*args, **{**named, "device": "meta", "pin_memory": False}).numel())
        if self.count > self.most:
            raise WeightsUnfitError(
                f"the network that the configuration of {self.what} describes is larger than its weights: "
                "fetch both again"
            )
        if self.device is not None and named.get("device") is None:
            named["device"] = self.device
        return func(*args, **named)
