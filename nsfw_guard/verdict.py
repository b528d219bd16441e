"""What was decided of a picture, and whether it may leave. Standard library only."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nsfw_guard.scores import Fixed, Scores, Severity, number

SCHEMA = 2


class SelfTest(enum.Enum):
    """What became of a model's self-test. Only the first two let a picture go."""

    PASSED = "passed"
    UNRECORDED = "answers unrecorded"
    NONE = "none"


_TESTED = frozenset({SelfTest.PASSED.value, SelfTest.UNRECORDED.value})


class Outcome(enum.IntEnum):
    """What becomes of a picture, ordered: the worst of several is `max`.

    Example:
        ```python
        worst = max(verdict.outcome for verdict in guard.check([image, image]))
        worst >= Outcome.REVIEW
        ```
    """

    ALLOW = 0
    REVIEW = 1
    BLOCK = 2
    ERROR = 3


@dataclass(frozen=True)
class Verdict:
    """What was decided of one picture, and why. Has no truth value: compare its outcome.

    `flags` are all categories that were marked for review or worse; `category` is the one that decided.

    Example:
        ```python
        (verdict,) = guard.check([image])
        if verdict.outcome is Outcome.BLOCK:
            print(verdict.category, verdict.score, verdict.threshold, verdict.to_dict()["schema"])
        ```
    """

    outcome: Outcome
    reason: str
    category: str = ""
    severity: Severity | None = None
    score: float | None = None
    threshold: float | None = None
    view: str = ""
    flags: tuple[str, ...] = ()
    scores: Scores | None = None
    model: str = ""
    revision: str = ""
    policy: str = ""
    policy_hash: str = ""
    state: Mapping[str, str] = field(default_factory=dict)
    requested: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", Fixed(self.state))
        object.__setattr__(self, "requested", Fixed(self.requested))

    @classmethod
    def error(cls, reason: str) -> Verdict:
        """Make the ERROR verdict of a picture that no model was asked about."""
        return cls(Outcome.ERROR, reason, state={"self_test": SelfTest.NONE.value})

    def __bool__(self) -> bool:
        raise TypeError("a verdict is neither true nor false: compare verdict.outcome with Outcome.ALLOW")

    def __str__(self) -> str:
        return f"{self.outcome.name}: {' '.join(self.reason.split())}"

    @property
    def flagged(self) -> bool:
        """True unless the outcome is ALLOW or REVIEW: what diffusers calls nsfw_content_detected."""
        return self.outcome not in {Outcome.ALLOW, Outcome.REVIEW}

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; a change of their shape raises `schema`."""
        scores = self.scores
        return {
            "schema": SCHEMA,
            "outcome": self.outcome.name.lower(),
            "reason": self.reason,
            "category": self.category or None,
            "severity": self.severity.name.lower() if self.severity else None,
            "score": number(self.score),
            "threshold": number(self.threshold),
            "view": self.view or None,
            "flags": list(self.flags),
            "evaluated": scores is not None,
            "scores": scores.to_list() if scores else [],
            "regions": [{**vars(r), "score": number(r.score)} for r in scores.regions] if scores else [],
            "digest": (scores.digest or None) if scores else None,
            "model": self.model,
            "revision": self.revision,
            "policy": self.policy,
            "policy_hash": self.policy_hash,
            "state": dict(self.state),
            "requested": dict(self.requested),
        }


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict on several frames of one picture: the worst outcome, then the surest score."""
    return max(verdicts, key=lambda v: (v.outcome, (v.score or 0.0) - (v.threshold or 0.0)))


def released(verdict: Verdict, *, cover_review: bool, observe: bool, fail_open: bool) -> bool:
    """Return whether the picture leaves as it came. The one place where that is said.

    Args:
        verdict: what was decided.
        cover_review: pictures under REVIEW are acted on too.
        observe: blocked pictures are only marked (the action is `flag`).
        fail_open: pictures that could not be judged, and of which nothing was flagged, are let go.
    """
    judged = verdict.scores is not None and verdict.scores.finite and verdict.state.get("self_test") in _TESTED
    if verdict.outcome is Outcome.ERROR or not judged:
        # What was flagged, and then could not be told to a listener, was judged: it is not let go.
        return fail_open and not verdict.flags
    if verdict.outcome is Outcome.BLOCK:
        return observe
    if verdict.outcome is Outcome.REVIEW:
        return not cover_review
    return verdict.outcome is Outcome.ALLOW
