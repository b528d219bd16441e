"""Compares two sets of scores for the same images: how far they differ, and which verdicts that changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nsfw_guard.errors import ConfigError
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.verdict import Outcome


@dataclass(frozen=True)
class Flips:
    """What differs at one threshold, by the positions of the images.

    Args:
        changed: images with another outcome.
        released: those of them that were blocked and are allowed now.
    """

    changed: tuple[int, ...]
    released: tuple[int, ...]


@dataclass(frozen=True)
class Parity:
    """Two sets of scores side by side.

    Args:
        images: how many were compared.
        largest: the largest difference of a score; infinite where only one of both has a number.
        at: the position of the image that has it; None where there is no difference.
        flips: by the name of a threshold.
    """

    images: int
    largest: float
    at: int | None
    flips: Mapping[str, Flips]

    @property
    def released(self) -> tuple[int, ...]:
        """The images that some threshold blocked before and allows now."""
        return tuple(sorted({at for flips in self.flips.values() for at in flips.released}))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        largest = self.largest if math.isfinite(self.largest) else None
        flips = {
            name: {"changed": list(one.changed), "block_to_allow": list(one.released)}
            for name, one in self.flips.items()
        }
        return {"images": self.images, "largest_difference": largest, "at": self.at, "flips": flips}


def compare(
    reference: Sequence[Mapping[str, float]],
    other: Sequence[Mapping[str, float]],
    thresholds: Mapping[str, Threshold],
) -> Parity:
    """Compare scores with those of a reference.

    Args:
        reference: for each image its scores by category; NaN where there is none.
        other: the same for the other setting, in the same order.
        thresholds: those of the model's record, by name.

    Raises:
        ConfigError: they are not of the same images and categories.

    Example:
        ```python
        result = compare([{"red": 0.51}], [{"red": 0.49}], {"default": Threshold(block=0.5)})
        result.released  # (0,)
        ```
    """
    if len(reference) != len(other) or any(a.keys() != b.keys() for a, b in zip(reference, other, strict=False)):
        raise ConfigError(
            f"scores can be compared for the same images and categories only, got {len(reference)} and {len(other)} "
            "images: score the same ones twice"
        )
    differences = [_difference(a, b) for a, b in zip(reference, other, strict=True)]
    largest = max(differences, default=0.0)
    flips = {}
    for name, threshold in thresholds.items():
        pairs = [(_outcome(a, threshold), _outcome(b, threshold)) for a, b in zip(reference, other, strict=True)]
        flips[name] = Flips(
            tuple(at for at, (before, after) in enumerate(pairs) if before is not after),
            tuple(at for at, pair in enumerate(pairs) if pair == (Outcome.BLOCK, Outcome.ALLOW)),
        )
    return Parity(len(reference), largest, differences.index(largest) if largest > 0 else None, flips)


def _difference(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    return max((_apart(score, b[category]) for category, score in a.items()), default=0.0)


def _apart(a: float, b: float) -> float:
    if math.isfinite(a) and math.isfinite(b):
        return abs(a - b)
    return 0.0 if not math.isfinite(a) and not math.isfinite(b) else math.inf


def _outcome(scores: Mapping[str, float], threshold: Threshold) -> Outcome:
    """The outcome of the worst category. What has no number is no ALLOW."""
    worst = Outcome.ALLOW if scores else Outcome.ERROR
    for category, score in scores.items():
        review = threshold.review_of(category)
        if not math.isfinite(score):
            worst = Outcome.ERROR
        elif not score < threshold.block_of(category):
            worst = max(worst, Outcome.BLOCK)
        elif review is not None and not score < review:
            worst = max(worst, Outcome.REVIEW)
    return worst
