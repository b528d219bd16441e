"""The verdict on an image, and whether the image is released. Standard library only."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nsfw_guard.scores import Fixed, Scores, Severity, number

SCHEMA = 2


class SelfTest(enum.Enum):
    """Result of a model's self-test. Images are released only under the first two."""

    PASSED = "passed"
    UNRECORDED = "answers unrecorded"
    NONE = "none"


_TESTED = frozenset({SelfTest.PASSED.value, SelfTest.UNRECORDED.value})


class Outcome(enum.IntEnum):
    """What was decided for an image. Outcomes are ordered: the worst of several is `max`.

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
    """The decision on one image and the reason for it. It has no truth value: compare its outcome.

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
        """Make the ERROR verdict for an image that no model has judged."""
        return cls(Outcome.ERROR, reason, state={"self_test": SelfTest.NONE.value})

    def __bool__(self) -> bool:
        raise TypeError("a Verdict has no truth value: compare verdict.outcome with Outcome.ALLOW")

    def __str__(self) -> str:
        return f"{self.outcome.name}: {' '.join(self.reason.split())}"

    @property
    def flagged(self) -> bool:
        """True unless the outcome is ALLOW or REVIEW; diffusers calls this nsfw_content_detected."""
        return self.outcome not in {Outcome.ALLOW, Outcome.REVIEW}

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; `schema` is raised when their shape changes."""
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
    """Return the verdict that counts among the frames of one image: the worst outcome, then the surest score."""
    return max(verdicts, key=lambda v: (v.outcome, (v.score or 0.0) - (v.threshold or 0.0)))


def released(verdict: Verdict, *, cover_review: bool, observe: bool, fail_open: bool) -> bool:
    """Return whether an image is released unchanged. Only this function decides that.

    Args:
        verdict: the verdict on the image.
        cover_review: images under REVIEW are acted on too.
        observe: blocked images are only marked (the action is `flag`).
        fail_open: images that could not be judged are released, unless something was flagged.
    """
    judged = verdict.scores is not None and verdict.scores.finite and verdict.state.get("self_test") in _TESTED
    if verdict.outcome is Outcome.ERROR or not judged:
        # Flags mean that the image was judged and a listener failed afterwards: it is not released.
        return fail_open and not verdict.flags
    if verdict.outcome is Outcome.BLOCK:
        return observe
    if verdict.outcome is Outcome.REVIEW:
        return not cover_review
    return verdict.outcome is Outcome.ALLOW
