"""Recall and false alarms of a scan from labels of a stratified sample, with intervals that respect its weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.evaluate.intervals import CONFIDENCE, hits_of_all
from nsfw_guard.tools.evaluate.recall.strata import Stratum, names_of

BLOCKED: Collection[str] = ("block",)
HELD: Collection[str] = ("block", "review")


@dataclass(frozen=True)
class Counted:
    """A stratum: its images, how many of them were labelled, and how many of these are unsafe."""

    size: int
    labelled: int
    unsafe: int

    @property
    def estimate(self) -> float:
        """The estimated number of unsafe images in it."""
        return self.size * self.unsafe / self.labelled

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Return the exact interval of the number of unsafe images in it."""
        return hits_of_all(self.unsafe, self.labelled, self.size, confidence=confidence)


@dataclass(frozen=True)
class Estimate:
    """An estimated share, and the interval that holds the true one."""

    share: float | None
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return vars(self).copy()


@dataclass(frozen=True)
class RecallEstimate:
    """What a scan has found, estimated.

    Args:
        unsafe: the estimated number of unsafe images among those judged, with its interval.
        recall, recall_with_review: the share of unsafe images that it blocked, and blocked or held.
        alarms, alarms_with_review: the same shares of harmless images.
    """

    unsafe: Estimate
    recall: Estimate
    recall_with_review: Estimate
    alarms: Estimate
    alarms_with_review: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {name: estimate.to_dict() for name, estimate in vars(self).items()}


def estimate(strata: Mapping[Stratum, Counted], *, confidence: float = CONFIDENCE) -> RecallEstimate:
    """Return the estimates.

    Each stratum gets an exact interval, so sure that all of them hold together with this confidence; the ends of the
    whole are where unsafe images are as few as may be among those caught and as many as may be among the others, and
    the other way round. So the interval is wider than need be, and never too narrow.

    Raises:
        ConfigError: a stratum has no label; it says how many labels are still needed.

    Example:
        ```python
        estimate({stratum_of("block", 0.9): Counted(50, 20, 19), stratum_of("allow", 0.0): Counted(9000, 400, 0)})
        ```
    """
    if empty := [stratum for stratum, one in strata.items() if not one.labelled]:
        raise ConfigError(
            f"{len(empty)} strata have no label ({names_of(empty)}): label {len(empty)} more images, one of each at "
            "least"
        )
    unknown = sum(one.labelled < one.size for one in strata.values())
    each = 1.0 - (1.0 - confidence) / max(1, unknown)
    bounds = {stratum: one.bounds(each) for stratum, one in strata.items()}
    sums = [sum(one.estimate for one in strata.values()), *map(sum, zip(*bounds.values(), strict=True))]
    unsafe = {stratum: (one.estimate, *bounds[stratum]) for stratum, one in strata.items()}
    harmless = {s: (strata[s].size - n, strata[s].size - high, strata[s].size - low)
                for s, (n, low, high) in unsafe.items()}  # fmt: skip
    return RecallEstimate(
        Estimate(*sums),
        _share(unsafe, BLOCKED), _share(unsafe, HELD), _share(harmless, BLOCKED), _share(harmless, HELD),
    )  # fmt: skip


def _share(counts: Mapping[Stratum, tuple[float, float, float]], caught: Collection[str]) -> Estimate:
    """The share of counted images that is in strata with these outcomes."""
    inside = [sum(one[i] for stratum, one in counts.items() if stratum.outcome in caught) for i in range(3)]
    outside = [sum(one[i] for stratum, one in counts.items() if stratum.outcome not in caught) for i in range(3)]
    share, low, high = (
        part / (part + rest) if part + rest > 0 else None
        for part, rest in zip(inside, (outside[0], outside[2], outside[1]), strict=True)
    )
    return Estimate(share, 0.0 if low is None else low, 1.0 if high is None else high)
