"""Thresholds with a promise: how often a rate may be exceeded, and how many images it takes to know.

A threshold that is the (k+1)-th lowest of n scores of unsafe images misses more than the share `most` of all such
images with a probability of at most P(Binomial(n, most) <= k), whatever their scores are distributed like. So k is
the largest number for which that is at most 1 - confidence; where even k = 0 is too much, there are too few images.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.evaluate.intervals import clopper_pearson

CONFIDENCE = 0.95


class TooFewImagesError(ConfigError):
    """A promise that cannot be made with so few images; `needed` says how many it takes at least."""

    def __init__(self, what: str, count: int, needed: int, most: float, confidence: float) -> None:
        self.count, self.needed = count, needed
        super().__init__(
            f"'at most {most:.3g} {what}, {confidence:.0%} sure' needs {needed} independent images at least, got "
            f"{count}: add {needed - count}, or promise less"
        )


@dataclass(frozen=True)
class Promise:
    """A threshold, and what holds for it.

    Args:
        threshold: a score at or above it is flagged.
        count: the images that it was set on.
        wrong: how many of these were on the wrong side.
        most: the share that was promised.
        confidence: how sure that is.
        bound: the one-sided upper bound of the share for so many wrong ones, with this confidence.
    """

    threshold: float
    count: int
    wrong: int
    most: float
    confidence: float
    bound: float


def miss_promise(scores: Sequence[float], *, most: float, confidence: float = CONFIDENCE) -> Promise:
    """Return the highest threshold that misses at most this share of images like these.

    Args:
        scores: of independent unsafe images that no other choice was made on.
        most: the share that may be missed.
        confidence: how sure it must be.

    Raises:
        TooFewImagesError: there are too few images for this promise.

    Example:
        ```python
        miss_promise([0.5 + i / 1000 for i in range(400)], most=0.01).threshold  # 0.501
        ```
    """
    allowed = allowed_wrong(len(scores), most, confidence, what="missed")
    ordered = sorted(map(_checked, scores))
    threshold = ordered[allowed]
    missed = sum(score < threshold for score in ordered)
    return Promise(threshold, len(ordered), missed, most, confidence, upper_bound(missed, len(ordered), confidence))


def alarm_promise(scores: Sequence[float], *, most: float, confidence: float = CONFIDENCE) -> Promise:
    """Return the lowest threshold that flags at most this share of harmless images like these.

    Raises:
        TooFewImagesError: there are too few images for this promise.
    """
    allowed = allowed_wrong(len(scores), most, confidence, what="flagged")
    ordered = sorted(map(_checked, scores), reverse=True)
    threshold = math.nextafter(ordered[allowed], math.inf)
    flagged = sum(score >= threshold for score in ordered)
    return Promise(threshold, len(ordered), flagged, most, confidence, upper_bound(flagged, len(ordered), confidence))


def allowed_wrong(count: int, most: float, confidence: float, *, what: str = "wrong") -> int:
    """Return how many of `count` images may be wrong so that the promise holds.

    Raises:
        TooFewImagesError: not even none.
    """
    if not 0.0 < most < 1.0 or not 0.0 < confidence < 1.0:
        raise ConfigError(f"a share and a confidence are above 0 and below 1, got {most} and {confidence}")
    needed = math.ceil(math.log1p(-confidence) / math.log1p(-most))
    if count < needed:
        raise TooFewImagesError(what, count, needed, most, confidence)
    return _allowed(count, most, confidence)


@functools.lru_cache(maxsize=4096)
def _allowed(count: int, most: float, confidence: float) -> int:
    """The largest k with P(Binomial(count, most) <= k) <= 1 - confidence."""
    allowed, below = -1, 0.0
    for k in range(count):
        below += math.exp(_log_binomial(count, k, most))
        if below > 1.0 - confidence:
            return allowed
        allowed = k
    return allowed


def _log_binomial(count: int, k: int, share: float) -> float:
    choices = math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
    return choices + k * math.log(share) + (count - k) * math.log1p(-share)


def upper_bound(wrong: int, count: int, confidence: float = CONFIDENCE) -> float:
    """Return the one-sided upper bound of a rate, by Clopper and Pearson."""
    return clopper_pearson(wrong, count, confidence=1.0 - 2.0 * (1.0 - confidence))[1] if confidence > 0.5 else 1.0


def _checked(score: float) -> float:
    if not 0.0 <= score <= 1.0:
        raise ConfigError(f"a score must be from 0 to 1, got {score}: leave out what could not be judged")
    return score
