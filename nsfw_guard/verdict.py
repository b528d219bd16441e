"""The frozen values that flow from a model to a decision. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

SCHEMA = 1
SELF_TESTED = frozenset({"passed", "answers unrecorded"})


class Severity(IntEnum):
    """How bad: LOW < MEDIUM < HIGH. A model that grades nothing has one level."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3

    @classmethod
    def of(cls, value: Severity | int | str) -> Severity:
        """The level that is meant by a name, a number or a level."""
        try:
            return cls[value.upper()] if isinstance(value, str) else cls(value)
        except (KeyError, ValueError):
            raise ValueError(f"severity must be low, medium or high, not {value!r}") from None


class Outcome(IntEnum):
    """What becomes of a picture, ordered: the worst of several is `max`."""

    ALLOW = 0
    REVIEW = 1
    BLOCK = 2
    ERROR = 3


Levels = Mapping[str, Mapping[Severity, float]]


@dataclass(frozen=True)
class Region:
    """A box in fractions of the picture, clamped to it when built."""

    left: float
    top: float
    right: float
    bottom: float
    category: str = ""
    score: float = 1.0

    def __post_init__(self) -> None:
        for name in ("left", "top", "right", "bottom"):
            value = getattr(self, name)
            # A box that cannot be placed covers everything: min and max would let NaN through.
            edge = 0.0 if name in {"left", "top"} else 1.0
            object.__setattr__(self, name, min(max(value, 0.0), 1.0) if math.isfinite(value) else edge)
        if not (self.left < self.right and self.top < self.bottom):
            raise ValueError(f"an empty box ({self.left}, {self.top}, {self.right}, {self.bottom}) covers nothing")


@dataclass(frozen=True)
class View:
    """What of the picture one look saw: its kind, and its box in fractions (left, top, right, bottom)."""

    kind: str
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class ViewScores:
    """P(severity >= level) per category, as one view gave them."""

    view: View
    levels: Levels

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", {category: dict(levels) for category, levels in self.levels.items()})


@dataclass(frozen=True)
class Scores:
    """What a model said of one frame: numbers per view, regions and an embedding where it has them.

    The first view is the model authors' own; the embedding is that view's. `digest` is the SHA-256 of the
    8-bit pixels that the model was shown.
    """

    views: tuple[ViewScores, ...]
    regions: tuple[Region, ...] = ()
    embedding: Any = field(default=None, compare=False, repr=False)
    digest: str = ""

    @classmethod
    def single(cls, levels: Levels, *, kind: str = "full", **rest: Any) -> Scores:
        """Scores of one view."""
        return cls((ViewScores(View(kind), levels),), **rest)

    def numbers(self) -> Iterator[float]:
        """Every probability in it."""
        for view in self.views:
            for levels in view.levels.values():
                yield from levels.values()

    @property
    def finite(self) -> bool:
        """True only when there is a number and every number is a probability."""
        numbers = list(self.numbers())
        return bool(numbers) and all(0.0 <= n <= 1.0 for n in numbers)

    @property
    def worst(self) -> dict[str, dict[Severity, float]]:
        """Per category and level the highest number over the views."""
        worst: dict[str, dict[Severity, float]] = {}
        for view in self.views:
            for category, levels in view.levels.items():
                into = worst.setdefault(category, {})
                for level, p in levels.items():
                    # not (p <= known): a NaN wins, so that it is seen
                    if level not in into or not p <= into[level]:
                        into[level] = p
        return worst


@dataclass(frozen=True)
class Verdict:
    """What was decided of one picture, and why. Has no truth value: compare its outcome."""

    outcome: Outcome
    reason: str
    category: str = ""
    severity: Severity | None = None
    score: float | None = None
    cut: float | None = None
    view: str = ""
    scores: Scores | None = None
    model: str = ""
    revision: str = ""
    policy: str = ""
    policy_hash: str = ""
    state: Mapping[str, str] = field(default_factory=dict)
    requested: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        raise TypeError("a verdict is neither true nor false: compare verdict.outcome with Outcome.ALLOW")

    @property
    def flagged(self) -> bool:
        """True unless the outcome is ALLOW or REVIEW: what diffusers calls nsfw_content_detected."""
        return self.outcome not in {Outcome.ALLOW, Outcome.REVIEW}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, stable: a change of shape raises `schema`."""
        scores = self.scores
        return {
            "schema": SCHEMA,
            "outcome": self.outcome.name.lower(),
            "reason": self.reason,
            "category": self.category or None,
            "severity": self.severity.name.lower() if self.severity else None,
            "score": _number(self.score),
            "cut": self.cut,
            "view": self.view or None,
            "evaluated": scores is not None,
            "scores": [_view_dict(v) for v in scores.views] if scores else [],
            "regions": [vars(r) for r in scores.regions] if scores else [],
            "digest": (scores.digest or None) if scores else None,
            "model": self.model,
            "revision": self.revision,
            "policy": self.policy,
            "policy_hash": self.policy_hash,
            "state": dict(self.state),
            "requested": dict(self.requested),
        }


def released(verdict: Verdict, *, cover_review: bool, observe: bool, fail_open: bool) -> bool:
    """Whether the picture leaves as it came. The one place where that is said.

    Args:
        verdict: what was decided.
        cover_review: pictures under REVIEW are acted on too.
        observe: blocked pictures are only marked (the action is `flag`).
        fail_open: pictures that could not be judged are let go.
    """
    judged = verdict.scores is not None and verdict.scores.finite and verdict.state.get("self_test") in SELF_TESTED
    if verdict.outcome is Outcome.ERROR or not judged:
        return fail_open
    if verdict.outcome is Outcome.BLOCK:
        return observe
    if verdict.outcome is Outcome.REVIEW:
        return not cover_review
    return verdict.outcome is Outcome.ALLOW


def _view_dict(view: ViewScores) -> dict[str, Any]:
    levels = {c: {s.name.lower(): _number(p) for s, p in ls.items()} for c, ls in view.levels.items()}
    return {"view": view.view.kind, "box": list(view.view.box), "levels": levels}


def _number(value: float | None) -> float | str | None:
    # JSON has no NaN: a score that is none is written as its name, so that nobody reads a missing one as safe.
    return value if value is None or math.isfinite(value) else str(value)
