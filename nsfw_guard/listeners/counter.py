"""Counts the outcomes of a guard, thread-safe."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from nsfw_guard.verdict import Outcome, Verdict


class OutcomeCounter:
    """A listener that counts outcomes."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(Outcome, 0)
        self._lock = threading.Lock()

    def __call__(self, verdicts: Sequence[Verdict]) -> None:
        """Count a batch."""
        with self._lock:
            for verdict in verdicts:
                self._counts[verdict.outcome] += 1

    @property
    def counts(self) -> dict[str, int]:
        """Number of images by outcome since the start."""
        with self._lock:
            return {outcome.name.lower(): count for outcome, count in self._counts.items()}
