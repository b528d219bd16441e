"""What each change costs: recall and its loss, and false alarms, at thresholds with the same false alarms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nsfw_guard.backends.spec import ScoreSpec
from nsfw_guard.guard import Guard
from nsfw_guard.tools.evaluate.highest import default_block
from nsfw_guard.tools.evaluate.labelled.counts import truth_of
from nsfw_guard.tools.evaluate.packs.pack import Pack
from nsfw_guard.tools.evaluate.page import percent
from nsfw_guard.tools.evaluate.robustness.changes import CHANGES
from nsfw_guard.tools.evaluate.robustness.layouts import LAYOUTS
from nsfw_guard.tools.evaluate.robustness.matched import Drop, matched_threshold
from nsfw_guard.tools.evaluate.robustness.scoring import AS_IT_IS, ChangedImage
from nsfw_guard.tools.evaluate.summary import Rate

MEANING = (
    "The same images, changed. A threshold for each model and way of looking, by which as many unchanged harmless "
    "images are flagged as by the first one's threshold 'default'. A drop is of the same images, with its 95% "
    "interval; false alarms are of harmless images that were changed in the same way."
)


@dataclass(frozen=True)
class ChangeRow:
    """A change, a guard and a category.

    Args:
        change, guard, category: what the row is of.
        threshold: by which images are flagged.
        recall: of changed images with the category.
        drop: of the recall, against the same images as they are.
        alarms: of changed images without it.
        not_judged: changed images that got no score, and are in no rate.
    """

    change: str
    guard: str
    category: str
    threshold: float
    recall: Rate
    drop: Drop
    alarms: Rate
    not_judged: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "change": self.change, "model": self.guard, "category": self.category, "threshold": self.threshold,
            "recall": self.recall.to_dict(), "drop": self.drop.to_dict(), "false_alarms": self.alarms.to_dict(),
            "not_judged": self.not_judged,
        }  # fmt: skip


def rows_of(guards: Mapping[str, Guard], images: Sequence[ChangedImage]) -> list[ChangeRow]:
    """Return a row for each change, guard and category; changes that no image went through have none.

    The first guard's threshold `default` says how many false alarms the others may have, too.

    Args:
        guards: the guards by name.
        images: what `score_changes` yields.
    """
    first, reference = next(iter(guards.items()))
    rows = []
    for category in reference.spec.positives:
        allowed = sum(
            s >= default_block(reference.spec, category) for s in _harmless(first, reference, category, images)
        )
        for name, guard in guards.items():
            if category not in guard.spec.positives:
                continue
            harmless = _harmless(name, guard, category, images)
            at = matched_threshold(harmless, allowed, default_block(guard.spec, category))
            rows += [
                _row(change, name, category, at, guard.spec, images) for change in (AS_IT_IS, *CHANGES, *LAYOUTS)
            ]  # fmt: skip
    order = {change: number for number, change in enumerate((AS_IT_IS, *CHANGES, *LAYOUTS))}
    seen = (row for row in rows if row.recall.count or row.alarms.count or row.not_judged)
    return sorted(seen, key=lambda row: order[row.change])


def pack_of(guards: Mapping[str, Guard], images: Sequence[ChangedImage]) -> Pack:
    """Return the section of the report."""
    rows = rows_of(guards, images)
    notes = []
    if not any(not one.image.categories for one in images):
        notes.append("no harmless image: there are no collages and no false alarms, and thresholds are not matched")
    if lost := sum(row.not_judged for row in rows):
        notes.append(f"{lost} times a changed image was not judged, which a guard covers: it is in no rate")
    header = ("change", "model", "category", "from", "recall", "drop", "false alarms", "not judged")
    texts = tuple(
        (row.change, row.guard, row.category, f"{row.threshold:.4g}", percent(row.recall), _drop(row.drop),
         percent(row.alarms), str(row.not_judged))
        for row in rows
    )  # fmt: skip
    return Pack("Robustness", MEANING, header, texts, tuple(row.to_dict() for row in rows), tuple(notes))


def _harmless(name: str, guard: Guard, category: str, images: Sequence[ChangedImage]) -> list[float]:
    """The scores of unchanged images without the category."""
    level = guard.spec.positives[category]
    scores = (
        one.scores.get((name, AS_IT_IS), {}).get(category, math.nan)
        for one in images
        if truth_of(one.image, category, level, guard.spec) is False
    )
    return [score for score in scores if not math.isnan(score)]


def _row(
    change: str, name: str, category: str, at: float, spec: ScoreSpec, images: Sequence[ChangedImage]
) -> ChangeRow:  # fmt: skip
    counts = {"found": 0, "unsafe": 0, "flagged": 0, "harmless": 0, "lost": 0, "gained": 0, "paired": 0, "nan": 0}
    for one in images:
        truth = truth_of(one.image, category, spec.positives[category], spec)
        if truth is None or (name, change) not in one.scores:
            continue
        before, after = (one.scores[name, look][category] for look in (AS_IT_IS, change))
        if math.isnan(after):
            counts["nan"] += 1
            continue
        flagged = after >= at
        counts["unsafe" if truth else "harmless"] += 1
        counts["found" if truth else "flagged"] += flagged
        if truth and not math.isnan(before):
            counts["paired"] += 1
            counts["lost"] += before >= at and not flagged
            counts["gained"] += flagged and not before >= at
    return ChangeRow(
        change, name, category, at,
        Rate(counts["found"], counts["unsafe"]), Drop(counts["lost"], counts["gained"], counts["paired"]),
        Rate(counts["flagged"], counts["harmless"]), counts["nan"],
    )  # fmt: skip


def _drop(drop: Drop) -> str:
    if not drop.count:
        return "-"
    low, high = drop.interval
    return f"{100 * drop.share:.1f}% ({100 * low:.1f} to {100 * high:.1f})"
