"""Thresholds by which guards have the same false alarms, and the loss of recall in the same images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nsfw_guard.tools.evaluate.intervals import CONFIDENCE, clopper_pearson


def matched_threshold(harmless: Sequence[float], alarms: int, default: float) -> float:
    """Return the lowest threshold with at most so many false alarms; the default where it has just as many.

    Args:
        harmless: scores of harmless images.
        alarms: how many of them may be flagged.
        default: what the record says.

    Example:
        ```python
        matched_threshold([0.1, 0.2, 0.9], 1, 0.5)  # 0.5
        ```
    """
    if sum(score >= default for score in harmless) == alarms:
        return default
    ordered = sorted(harmless, reverse=True)
    return math.nextafter(ordered[alarms], math.inf) if alarms < len(ordered) else 0.0


@dataclass(frozen=True)
class Drop:
    """How much of the recall is lost, in the same images: those lost less those gained.

    Args:
        lost: images that were flagged before, and are not after.
        gained: images that were not flagged before, and are after.
        count: all of them.
    """

    lost: int
    gained: int
    count: int

    @property
    def share(self) -> float:
        """The loss; above 0 where recall falls."""
        return (self.lost - self.gained) / self.count if self.count else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The interval of the true loss: from exact ones of both shares that hold together with 95% confidence."""
        each = 1.0 - (1.0 - CONFIDENCE) / 2.0
        lost = clopper_pearson(self.lost, self.count, confidence=each)
        gained = clopper_pearson(self.gained, self.count, confidence=each)
        return lost[0] - gained[1], lost[1] - gained[0]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; the loss of nothing is null."""
        low, high = self.interval
        share = self.share if self.count else None
        return {"lost": self.lost, "gained": self.gained, "count": self.count, "drop": share, "low": low, "high": high}
