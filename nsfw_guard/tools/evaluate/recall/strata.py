"""Strata of a scan: images with one outcome and scores in one band, from each of which a part is drawn."""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.screening.results import known_outcome, pairs_of
from nsfw_guard.tools.screening.sources.entries import Entry

EDGES = (0.02, 0.1, 0.3, 0.6)  # between bands of the scores of images that pass
# The share of unsafe images that draws are divided by: in a band even where scores say that there are none, since what
# nobody looked at widens the interval most; and among blocked images.
LEAST_GUESS, BLOCKED_GUESS = 0.05, 0.9
LEAST_EACH = 5  # images that are drawn from each stratum, as far as it has any
SEED = 0
COLUMNS = ("outcome", "score", "status", "sha256")


@dataclass(frozen=True, order=True)
class Stratum:
    """Images that the scan let pass, held or blocked, with scores from `low` to below `high`."""

    outcome: str
    low: float
    high: float

    @property
    def name(self) -> str:
        """What it is called in a sample."""
        return f"{self.outcome} {self.low:g} to {self.high:g}"

    @property
    def guess(self) -> float:
        """The share of unsafe images that is expected in it, only to divide the draws."""
        return BLOCKED_GUESS if self.outcome == "block" else max(LEAST_GUESS, (self.low + self.high) / 2)


@dataclass(frozen=True)
class Drawn:
    """An image of the sample."""

    number: int
    entry: Entry
    stratum: Stratum
    score: float
    sha256: str


@dataclass(frozen=True)
class Strata:
    """How many images of a scan are in each stratum, which are drawn, and how many images were not judged."""

    sizes: Mapping[Stratum, int]
    drawn: tuple[Drawn, ...] = ()
    not_judged: int = 0


def stratum_of(outcome: str, score: float) -> Stratum:
    """Return where an image belongs. Held and blocked ones are not divided: misses are among those that pass.

    Example:
        ```python
        stratum_of("allow", 0.05).name  # "allow 0.02 to 0.1"
        ```
    """
    if outcome != "allow":
        return Stratum(outcome, 0.0, 1.0)
    edges = (0.0, *EDGES, 1.0)
    at = bisect.bisect_right(EDGES, score)
    return Stratum(outcome, edges[at], edges[at + 1])


def strata_of(scan: Path, *, draw: int = 0) -> Strata:
    """Count the strata of a finished scan, and draw images from them, the same ones each time.

    Args:
        scan: its output.
        draw: how many images are drawn; 0 counts only.

    Raises:
        ConfigError: the scan is not finished, holds no judged image, or has more strata than images are drawn.
    """
    sizes: dict[Stratum, int] = {}
    not_judged = 0
    for outcome, score, _ in _judged(scan):
        if score is None:
            not_judged += 1
            continue
        stratum = stratum_of(outcome, score)
        sizes[stratum] = sizes.get(stratum, 0) + 1
    sizes = dict(sorted(sizes.items()))
    if not sizes:
        raise ConfigError(f"the scan in {str(scan)!r} has judged no image: there is nothing to estimate")
    if not draw:
        return Strata(sizes, not_judged=not_judged)
    return Strata(sizes, tuple(_drawn(scan, sizes, allocated(sizes, draw))), not_judged)


def allocated(sizes: Mapping[Stratum, int], draw: int) -> dict[Stratum, int]:
    """Return how many images of each stratum are drawn: more where it is large, and where labels are hard to foresee.

    Raises:
        ConfigError: there are more strata than draws.
    """
    if draw < len(sizes):
        raise ConfigError(f"--draw {draw}: the scan has {len(sizes)} strata, of which each needs an image: draw more")
    least = min(LEAST_EACH, draw // len(sizes))
    counts = {stratum: min(least, size) for stratum, size in sizes.items()}
    weights = {one: size * math.sqrt(one.guess * (1 - one.guess)) for one, size in sizes.items()}
    for _ in range(min(draw, sum(sizes.values())) - sum(counts.values())):
        open_ones = [one for one in sizes if counts[one] < sizes[one]]
        neediest = max(open_ones, key=lambda one: weights[one] / (counts[one] + 1))
        counts[neediest] += 1
    return counts


def _judged(scan: Path) -> Iterable[tuple[str, float | None, tuple[Entry, str]]]:
    """The outcome and score of every image; no score where it was not judged."""
    for entry, row in pairs_of(scan, COLUMNS):
        outcome = known_outcome(row)
        score = float(row["score"]) if row["status"] == "judged" and row["score"] not in (None, "") else None
        if score is not None and not 0.0 <= score <= 1.0:
            raise ConfigError(f"the row of {entry.key!a} holds the score {score}, which no scan writes: scan again")
        yield outcome, score, (entry, row["sha256"])


def _drawn(scan: Path, sizes: Mapping[Stratum, int], counts: Mapping[Stratum, int]) -> list[Drawn]:
    """The drawn images, in the order of the scan: without replacement, each of a stratum as likely as another."""
    chosen = {
        stratum: set(random.Random(f"{SEED} {stratum.name}").sample(range(size), counts[stratum]))  # noqa: S311
        for stratum, size in sizes.items()
    }
    passed = dict.fromkeys(sizes, 0)
    drawn = []
    for number, (outcome, score, (entry, sha256)) in enumerate(_judged(scan)):
        if score is None:
            continue
        stratum = stratum_of(outcome, score)
        if passed[stratum] in chosen[stratum]:
            drawn.append(Drawn(number, entry, stratum, score, sha256))
        passed[stratum] += 1
    return drawn


def names_of(strata: Sequence[Stratum]) -> str:
    """Return strata in words."""
    return ", ".join(stratum.name for stratum in strata)
