"""Scores of a record as columns, and every threshold that may be applied to each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import SelfTestError
from nsfw_guard.policy.rules import Threshold


@dataclass(frozen=True)
class Columns:
    """P(severity >= level) for each category and level of a record.

    Args:
        masks: which labels are summed, Shape: (columns, labels).
        thresholds: for each column the numbers that its scores may be compared with, over all kinds of view.
    """

    masks: Tensor
    thresholds: tuple[tuple[float, ...], ...]

    def of(self, probabilities: Tensor) -> Tensor:
        """Return the scores for rows of probabilities. Shape: (R, columns), float64."""
        return (probabilities.double() @ self.masks.double().t()).clamp(max=1.0)

    def held(self, scores: Tensor, margin: float = 0.0) -> Tensor:
        """Return which rows are held back at each threshold, lowered by a margin. Shape: (R, columns' thresholds)."""
        flags = [
            ~(scores[:, column] < threshold - margin)  # a NaN is held back
            for column, thresholds in enumerate(self.thresholds)
            for threshold in thresholds
        ]
        return torch.stack(flags, 1)

    def goal(self, number: int) -> tuple[Tensor, float]:
        """Return a column's labels and one of its thresholds, others for other numbers."""
        column = number % len(self.thresholds)
        thresholds = self.thresholds[column]
        return self.masks[column], thresholds[number // len(self.thresholds) % len(thresholds)]


def columns_of(spec: ModelSpec) -> Columns:
    """Return the columns of a record."""
    masks, thresholds = [], []
    for category, levels in spec.levels.items():
        for level in levels:
            masks.append([float(to is not None and to.category == category and to.severity >= level)
                          for to in spec.labels.values()])  # fmt: skip
            numbers = {number for one in spec.thresholds.values() for number in _numbers(one, category)}
            thresholds.append(tuple(sorted(numbers)) or (0.5,))
    return Columns(torch.tensor(masks), tuple(thresholds))


def _numbers(threshold: Threshold, category: str) -> list[float]:
    review = threshold.review_of(category)
    return [threshold.block_of(category), *threshold.views.values(), *([] if review is None else [review])]


def lowered(thresholds: Mapping[str, Threshold], margin: float, why: str) -> dict[str, Threshold]:
    """Return thresholds lowered by a margin, with the reason in their source.

    Raises:
        SelfTestError: one would be 0 or less, which would block every image.
    """
    if not margin:
        return dict(thresholds)

    def lower(number: float) -> float:
        if not number - margin > 0:
            raise SelfTestError(
                f"{why} needs thresholds lower by {margin:g}, but one is {number:g}: export it in float32"
            )
        return round(number - margin, 9)

    def each(numbers: Mapping[str, float]) -> dict[str, float]:
        return {name: lower(number) for name, number in numbers.items()}

    return {
        name: replace(
            one,
            block=lower(one.block),
            review=None if one.review is None else lower(one.review),
            views=each(one.views),
            blocks=each(one.blocks),
            reviews=each(one.reviews),
            source="; ".join(filter(None, (one.source, f"lowered by {margin:g} for {why}"))),
        )
        for name, one in thresholds.items()
    }
