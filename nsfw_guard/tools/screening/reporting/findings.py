"""What a scan has found: counts, scores, and the images that a person should look at. One pass over its rows."""

from __future__ import annotations

import heapq
import random
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nsfw_guard.imaging.pdq import BITS, LEAST_QUALITY, MATCH, Pdq, distance
from nsfw_guard.tools.screening.reporting.duplicates import near_duplicates
from nsfw_guard.tools.screening.results import pairs_of
from nsfw_guard.tools.screening.sources.entries import Entry

BINS, SHEET, SEED = 20, 24, 0
COLUMNS = ("outcome", "category", "score", "threshold", "reason", "status", "sha256", "pdq", "quality")


@dataclass(frozen=True, order=True)
class Shown:
    """An image on a sheet, ordered by what it was chosen for."""

    rank: float
    number: int
    entry: Entry = field(compare=False)
    outcome: str = field(compare=False)
    score: float = field(compare=False)
    sha256: str = field(compare=False)
    pdq: str = field(compare=False, default="")  # empty where there was too little to hash

    def is_like(self, other: Shown) -> bool:
        """Return whether both show the same image, or nearly."""
        if self.sha256 == other.sha256:
            return True
        return bool(self.pdq and other.pdq) and distance(Pdq(self.pdq), Pdq(other.pdq)) <= MATCH


@dataclass(frozen=True)
class Group:
    """Near-duplicates: the one with the highest score, and how many had each outcome."""

    shown: Shown
    outcomes: Mapping[str, int]


@dataclass
class Findings:
    """What one pass over the rows of a scan shows."""

    outcomes: Counter[str] = field(default_factory=Counter)
    categories: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    bins: list[int] = field(default_factory=lambda: [0] * BINS)
    thresholds: Counter[float] = field(default_factory=Counter)
    highest: list[Shown] = field(default_factory=list)
    nearest: list[Shown] = field(default_factory=list)
    sample: list[Shown] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    grouped: int = 0  # near-duplicates, over all groups
    disagreeing: int = 0  # groups whose images had different outcomes


def find(out: Path) -> Findings:
    """Read the rows of a scan, and keep what the report shows: a fixed number of images, whatever the size of the scan.

    Raises:
        ConfigError: the scan is not finished.
    """
    findings, chosen = Findings(), random.Random(SEED)  # noqa: S311 - a sample that is the same each time
    hashed = _Hashed()
    for number, (entry, row) in enumerate(pairs_of(out, COLUMNS)):
        findings.outcomes[row["outcome"]] += 1
        if row["outcome"] in {"review", "block"}:
            findings.categories[row["category"], row["outcome"]] += 1
        score = _number(row["score"])
        if row["status"] != "judged" or score is None:
            findings.reasons[row["reason"]] += 1
            continue
        findings.bins[min(BINS - 1, int(score * BINS))] += 1
        threshold = _number(row["threshold"])
        quality = _number(row.get("quality"), most=100.0)
        digits = Pdq(row["pdq"]).hex if quality is not None and quality >= LEAST_QUALITY else ""
        shown = Shown(score, number, entry, row["outcome"], score, row["sha256"], digits)
        hashed.add(shown)
        _keep(findings.highest, shown)
        if threshold is not None:
            findings.thresholds[threshold] += 1
            _keep(findings.nearest, Shown(-abs(score - threshold), number, *_rest(shown)))
        _keep(findings.sample, Shown(chosen.random(), number, *_rest(shown)))
    for sheet in (findings.highest, findings.nearest, findings.sample):
        sheet.sort(reverse=True)
    hashed.group(out, findings)
    return findings


class _Hashed:
    """The hashes of all images, from which near-duplicates are found: 40 bytes for each."""

    def __init__(self) -> None:
        self.hashes = bytearray()
        self.numbers = array("Q")
        self.scores = array("d")
        self.outcomes = array("L")
        self.names: dict[str, int] = {}  # of outcomes, also of those that were edited

    def add(self, one: Shown) -> None:
        """Add an image that has a hash."""
        if one.pdq:
            self.hashes += bytes.fromhex(one.pdq)
            self.numbers.append(one.number)
            self.scores.append(one.score)
            self.outcomes.append(self.names.setdefault(one.outcome, len(self.names)))

    def group(self, out: Path, findings: Findings) -> None:
        """Find the groups; the largest are read once more, to be shown."""
        size = BITS // 8
        hashes = [self.hashes[at : at + size].hex() for at in range(0, len(self.hashes), size)]
        groups = near_duplicates(hashes)
        names = list(self.names)
        outcomes = [Counter(names[self.outcomes[i]] for i in group) for group in groups]
        findings.grouped = sum(map(len, groups))
        findings.disagreeing = sum(len(counts) > 1 for counts in outcomes)
        best = [max(group, key=self.scores.__getitem__) for group in groups[:SHEET]]
        scores = {self.numbers[at]: self.scores[at] for at in best}
        shown: dict[int, Shown] = {}
        for number, (entry, row) in enumerate(pairs_of(out, ["outcome", "sha256"]) if scores else ()):
            if number in scores:
                shown[number] = Shown(scores[number], number, entry, row["outcome"], scores[number], row["sha256"])
        findings.groups = [Group(shown[self.numbers[at]], outcomes[i]) for i, at in enumerate(best)]


def _keep(sheet: list[Shown], one: Shown) -> None:
    """Keep the images of the highest rank, near-duplicates once."""
    if len(sheet) == SHEET and one < sheet[0]:
        return
    like = next((i for i, other in enumerate(sheet) if one.is_like(other)), None)
    if like is not None:
        sheet[like] = max(sheet[like], one)
        heapq.heapify(sheet)
    elif len(sheet) < SHEET:
        heapq.heappush(sheet, one)
    else:
        heapq.heappushpop(sheet, one)


def _rest(one: Shown) -> tuple[Entry, str, float, str, str]:
    return one.entry, one.outcome, one.score, one.sha256, one.pdq


def _number(value: object, *, most: float = 1.0) -> float | None:
    """A score as it stands in any format: CSV has text, and an empty one for none."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) and value != "" else None
    except ValueError:
        return None
    return number if number is not None and 0.0 <= number <= most else None
