"""What is said of a run while it runs."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum


class Stage(Enum):
    """What is being done."""

    DECODING = "images decoded"
    EMBEDDING = "images embedded"
    TRAINING = "steps"


Watch = Callable[[Stage, int, int, str], None]  # what, how many are done, of how many, and a note


def quiet(stage: Stage, done: int, total: int, note: str) -> None:
    """Say nothing."""
