"""The highest score of each category over the frames and views of an image, by which it is flagged."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from nsfw_guard.backends.base import checked_scores
from nsfw_guard.backends.spec import ScoreSpec
from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import in_groups
from nsfw_guard.scores import Scores

log = logging.getLogger(__name__)


def highest_scores(guard: Guard, images: Sequence[Any]) -> list[dict[str, float]]:
    """Return for each image the highest score of each category, at the level that the model calls positive.

    NaN where an image was not judged, or not all of it.

    Args:
        guard: its backend is asked, with its limits.
        images: what a guard takes: paths, PIL images ...

    Example:
        ```python
        highest_scores(Guard.from_pretrained("demo-shapes"), ["a.png"])  # [{"red-disc": 0.02}]
        ```
    """
    positives = guard.spec.positives
    rows: list[dict[str, float]] = [{} for _ in images]
    for group in in_groups(list(images), limits=guard.limits) if images else ():
        try:
            answers = checked_scores(guard.backend, group.stacks, len(group.owners), embeddings=False, digests=False)
        except Exception:
            log.exception("%s could not judge %d frames", guard.spec.name, len(group.owners))
            answers = [Scores((), fault="the model failed") for _ in group.owners]
        for owner, answer in zip(group.owners, answers, strict=True):
            worst = answer.worst if answer.finite and not answer.fault else {}
            for category, level in positives.items():
                score = worst[category][level] if category in worst else math.nan
                before = rows[owner].get(category, 0.0)
                rows[owner][category] = score if math.isnan(score) or score >= before else before
        for owner in {**group.faults, **group.partial}:
            rows[owner] = dict.fromkeys(positives, math.nan)
    return [row or dict.fromkeys(positives, math.nan) for row in rows]


def default_block(spec: ScoreSpec, category: str) -> float:
    """Return the score from which a record's threshold `default` blocks a category, or its first threshold.

    Raises:
        ConfigError: the record names none.
    """
    if not spec.thresholds:
        raise ConfigError(f"the record of {spec.name!r} names no threshold: calibrate the model")
    return spec.thresholds.get("default", next(iter(spec.thresholds.values()))).block_of(category)
