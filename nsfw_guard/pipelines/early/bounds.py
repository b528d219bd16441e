"""Thresholds for the looks of watched generations, and how often they stop images that are allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nsfw_guard.errors import ConfigError
from nsfw_guard.pipelines.early.report import Report
from nsfw_guard.pipelines.early.stop import EarlyStop

CONFIDENCE = 0.95
MIN_THRESHOLD = 0.5  # a preview with a lower score never stops a generation


@dataclass(frozen=True)
class Trace:
    """One generation: the score at each look, and whether the finished image was blocked."""

    looks: tuple[float, ...]
    blocked: bool


def thresholds_of(
    traces: Sequence[Trace], looks: int, rate: float, *, confidence: float = CONFIDENCE
) -> tuple[float, ...]:
    """Return for each look the lowest threshold that stops allowed images no more often than the rate.

    The stops that the rate allows, with this confidence, are shared by the looks, the last and best informed one first.
    Where there are too few allowed images to prove the rate, none of them may be stopped.
    """
    allowed = [trace for trace in traces if not trace.blocked]
    if not allowed:
        raise ConfigError(
            "no image of these prompts was allowed: pass prompts of allowed images, at least a few hundred"
        )
    # Each threshold is set by a different allowed image, and images above any of them count (Tukey's blocks).
    spare = max(0, most_stops(len(allowed), rate, confidence) - (looks - 1))
    thresholds: list[float] = []
    for look in range(looks):
        share = spare // looks + (1 if look >= looks - spare % looks else 0)
        seen = sorted((trace.looks[look] for trace in allowed), reverse=True)
        highest = seen[share] if share < len(seen) else 0.0
        thresholds.append(max(MIN_THRESHOLD, (1 + 2 * highest) / 3 if highest < 1 else math.nextafter(1.0, 2.0)))
    return tuple(thresholds)


def report_of(
    traces: Sequence[Trace], early: EarlyStop, rate: float, *, chosen: int = 1, confidence: float = CONFIDENCE
) -> Report:
    """Return the effect of these thresholds on these images; `chosen`: how many of them were chosen on these images."""
    allowed = [trace for trace in traces if not trace.blocked]
    blocked = [trace for trace in traces if trace.blocked]
    false_stops = sum(stop_at(trace, early) is not None for trace in allowed)
    stops = [stop_at(trace, early) for trace in blocked]
    saved = sum(1 - stop for stop in stops if stop is not None) / len(blocked) if blocked else 0.0
    bound = upper_bound(false_stops + chosen - 1, len(allowed), confidence)
    stopped = sum(stop is not None for stop in stops)
    return Report(len(allowed), len(blocked), false_stops, stopped, saved, rate, bound, bound <= rate)


def stop_at(trace: Trace, early: EarlyStop) -> float | None:
    """Return the fraction of the schedule at which an image would have been stopped, or None."""
    thresholds: Any = early.thresholds
    return next(
        (a for a, sure, threshold in zip(early.at, trace.looks, thresholds, strict=True) if sure >= threshold), None
    )


def upper_bound(stops: int, of: int, confidence: float = CONFIDENCE) -> float:
    """Return the upper bound of the rate, with this confidence (one-sided Clopper-Pearson)."""
    if stops >= of:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(stops, of, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def most_stops(of: int, rate: float, confidence: float = CONFIDENCE) -> int:
    """Return the most stops among `of` images that still prove the rate; 0 also where none prove it."""
    stops = 0
    while upper_bound(stops + 1, of, confidence) <= rate:
        stops += 1
    return stops


def least_allowed(looks: int, rate: float, confidence: float = CONFIDENCE) -> int:
    """Return how many allowed images it takes to prove the rate with a threshold for each look."""
    few, enough = 0, 1
    while not upper_bound(looks - 1, enough, confidence) <= rate:
        few, enough = enough, 2 * enough
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if upper_bound(looks - 1, middle, confidence) <= rate else (middle, enough)
    return enough


def _at_most(stops: int, of: int, rate: float) -> float:
    """Probability of at most `stops` among `of` at this rate."""
    if rate in {0.0, 1.0}:
        return 1.0 if rate == 0.0 else float(stops >= of)
    terms = (
        math.lgamma(of + 1)
        - math.lgamma(i + 1)
        - math.lgamma(of - i + 1)
        + i * math.log(rate)
        + (of - i) * math.log1p(-rate)
        for i in range(stops + 1)
    )
    return sum(math.exp(term) for term in terms)
