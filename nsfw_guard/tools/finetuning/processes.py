"""The processes that teach together, and the device of each: accelerate, which this module alone asks for by name."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from nsfw_guard.errors import MissingExtraError


def library() -> ModuleType:
    """Return accelerate.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import accelerate
    except ModuleNotFoundError:
        raise MissingExtraError("accelerate", "train") from None
    module: ModuleType = accelerate
    return module


def processes(*, cpu: bool = False) -> Any:
    """Return accelerate's state of this process: which of how many it is, and its device."""
    return library().PartialState(cpu=cpu)
