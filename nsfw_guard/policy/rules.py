"""Thresholds and rules: a threshold is a number, or the name of one in a model's record. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nsfw_guard.errors import PolicyError, suggest
from nsfw_guard.scores import Severity

EVERY = "*"  # in place of a category: every category of the model without a rule of its own
THRESHOLD_NAMES = ("default", "lenient", "strict")
VIEW_KINDS = ("center", "content", "full", "side", "squash", "tile")


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A threshold for a model's scores, and its source.

    Args:
        block: a score at or above it is blocked.
        review: a score at or above it is marked for review.
        source: a description of where the numbers come from.
        views: block thresholds for single kinds of view ("side", "tile", "content", ...).
        blocks, reviews: thresholds for single categories, in place of `block` and `review`.

    Example:
        ```python
        threshold = Threshold(block=0.8, review=0.5, source="measured on our own images", views={"tile": 0.95})
        ```
    """

    block: float
    review: float | None = None
    source: str = ""
    views: Mapping[str, float] = field(default_factory=dict)
    blocks: Mapping[str, float] = field(default_factory=dict)
    reviews: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "block", _checked("block", self.block))
        for name in ("blocks", "reviews"):
            object.__setattr__(self, name, {str(c): _checked(c, p) for c, p in dict(getattr(self, name)).items()})
        object.__setattr__(self, "views", _views(self.views))
        if self.review is not None:
            object.__setattr__(self, "review", _checked("review", self.review))
        if self.review is not None and self.review > self.block:
            raise PolicyError(f"review {self.review} must not be above block {self.block}: lower review")
        for category in self.reviews:
            if self.reviews[category] > self.block_of(category):
                raise PolicyError(f"the review threshold of {category!r} must not be above block: lower it")

    def block_of(self, category: str) -> float:
        """Return the score from which this category is blocked."""
        return self.blocks.get(category, self.block)

    def review_of(self, category: str) -> float | None:
        """Return the score from which this category is marked for review."""
        return self.reviews.get(category, self.review)

    @property
    def highest(self) -> float:
        """The highest score that still passes somewhere."""
        return max([self.block, *self.views.values(), *self.blocks.values()])


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule for one category.

    Args:
        block: a score at or above it is blocked: a number, or the name of a threshold in the model's record.
        review: a score at or above it is marked for review.
        severity: the level whose score is compared; by default the one that the model calls positive.
        views: block thresholds for single kinds of view.

    Example:
        ```python
        rule = Rule(block=0.8, review="default", views={"side": 0.9})
        ```
    """

    block: float | str | None = None
    review: float | str | None = None
    severity: Severity | None = None
    views: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("block", "review"):
            value = getattr(self, name)
            if isinstance(value, str) and value not in THRESHOLD_NAMES:
                raise PolicyError(
                    f"{name} = {value!r} is neither a number nor a threshold's name: {suggest(value, THRESHOLD_NAMES)}"
                )
            if not isinstance(value, str) and value is not None:
                object.__setattr__(self, name, _checked(name, value))
        object.__setattr__(self, "views", _views(self.views))
        if self.severity is not None:
            object.__setattr__(self, "severity", _severity(self.severity))
        if self.block is None and self.review is None:
            raise PolicyError("a rule needs a threshold: set block or review")
        if self.block is None and self.views:
            raise PolicyError("a rule with views also needs block, the threshold for all other views: set block")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values, without those that are not set."""
        content: dict[str, Any] = {"block": self.block, "review": self.review, "views": dict(self.views)}
        content["severity"] = self.severity.name.lower() if self.severity else None
        return {key: value for key, value in content.items() if value not in (None, {})}


def _checked(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise PolicyError(f"{name} = {value!r}: a threshold must be a number above 0 and up to 1")
    if not 0.0 < value <= 1.0:
        raise PolicyError(f"{name} = {value}: a threshold must be above 0 (0 would block every image) and up to 1")
    return float(value)


def _views(views: object) -> dict[str, float]:
    if not isinstance(views, Mapping):
        raise PolicyError(f"views must map kinds of view to thresholds, such as {{'side': 0.6}}, got {views!r}")
    for kind in views:
        if kind not in VIEW_KINDS:
            raise PolicyError(f"unknown kind of view {kind!r}: {suggest(kind, VIEW_KINDS)}")
    return {kind: _checked(kind, value) for kind, value in views.items()}


def _severity(value: Severity | int | str) -> Severity:
    try:
        return Severity.of(value)
    except ValueError as error:
        raise PolicyError(str(error)) from None
