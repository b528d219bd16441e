"""How the verdicts on the frames of a clip become one: the worst of them, or k within n neighbours. No torch.

When one frame decides, false alarms grow with the length of a clip. A rule that asks for several flagged neighbours
removes those that flicker (not those of a scene that stays), and misses what is shown more briefly: it is a relaxation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from nsfw_guard.errors import PolicyError, suggest
from nsfw_guard.verdict import Outcome, Verdict, worst

RuleName = Literal["worst", "k-of-n"]
RULES = get_args(RuleName)
MOST = 1000  # neighbours: about half a minute of video


@dataclass(frozen=True, kw_only=True)
class ClipRule:
    """The rule for clips.

    Args:
        rule: "worst": one flagged frame flags its clip. "k-of-n": a frame counts as blocked only where at least `k` of
            `n` neighbouring frames are, itself among them; and under review where `k` of `n` are under review or
            blocked. An ERROR of any frame is one of the clip. A clip of fewer than `n` frames, or of which only some
            frames were looked at, is judged by "worst".
        k, n: 1 <= k <= n; only with "k-of-n".

    Example:
        ```python
        policy = Policy(rules={"*": Rule(block="default")}, clips=ClipRule(rule="k-of-n", k=3, n=5))
        ```
    """

    rule: RuleName = "worst"
    k: int | None = None
    n: int | None = None

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise PolicyError(f"clips: unknown rule {self.rule!r}: {suggest(self.rule, RULES)}")
        if self.rule == "worst" and (self.k, self.n) != (None, None):
            raise PolicyError('clips: k and n belong to the rule "k-of-n": set it, or omit them')
        if self.rule == "worst":
            return
        for name, value in (("k", self.k), ("n", self.n)):
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST:
                raise PolicyError(f"clips: {name} must be a whole number from 1 to {MOST}, got {value!r}")
        if self.needed > self.neighbours:
            raise PolicyError(f"clips: k = {self.k} is above n = {self.n}, so that nothing is flagged: lower k")

    @property
    def needed(self) -> int:
        """The number of flagged neighbours that flag a frame; 1 for "worst"."""
        return self.k or 1

    @property
    def neighbours(self) -> int:
        """The number of neighbouring frames among which they are counted; 1 for "worst"."""
        return self.n or 1

    @property
    def relaxes(self) -> bool:
        """True when some flagged frame does not flag its clip."""
        return self.needed > 1

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values, without those that are not set."""
        return {"rule": self.rule} if self.rule == "worst" else {"rule": self.rule, "k": self.k, "n": self.n}

    def __str__(self) -> str:
        if self.rule == "worst":
            return "one flagged frame flags its clip"
        return f"a clip is flagged by {self.needed} flagged frames among {self.neighbours} neighbouring ones"

    def settle(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """Return the verdict on each frame of a clip that counts under this rule; the same objects where none changes.

        A second time changes nothing.
        """
        if not self.relaxes or len(verdicts) < self.neighbours:
            return list(verdicts)
        review, block = (self._kept(verdicts, least) for least in (Outcome.REVIEW, Outcome.BLOCK))
        counts = zip(verdicts, review, block, strict=True)
        return [self._lowered(verdict, in_review, in_block) for verdict, in_review, in_block in counts]

    def _kept(self, verdicts: Sequence[Verdict], least: Outcome) -> list[bool]:
        """For each frame, whether enough of some neighbours of it are of this outcome or worse."""
        sums = [0]
        for verdict in verdicts:
            sums.append(sums[-1] + (verdict.outcome >= least))
        width = self.neighbours
        enough = [sums[i + width] - sums[i] >= self.needed for i in range(len(verdicts) - width + 1)]
        kept = [False] * len(verdicts)
        for start, is_enough in enumerate(enough):
            if is_enough:
                kept[start : start + width] = [True] * width
        return kept

    def _lowered(self, verdict: Verdict, in_review: bool, in_block: bool) -> Verdict:
        if verdict.outcome in {Outcome.ALLOW, Outcome.ERROR} or (in_block and verdict.outcome is Outcome.BLOCK):
            return verdict
        outcome = Outcome.REVIEW if in_review else Outcome.ALLOW
        if outcome is verdict.outcome:
            return verdict
        reason = f"fewer than {self.needed} of {self.neighbours} neighbouring frames: {verdict.reason}"
        return replace(verdict, outcome=outcome, reason=reason)


def decide_clip(rule: ClipRule, verdicts: Sequence[Verdict], *, partial: str = "") -> Verdict:
    """Return the verdict on a clip from those on its frames, in their order.

    Args:
        rule: the rule of the policy.
        verdicts: one for each frame that was looked at; a frame that is shown in several ways has its worst.
        partial: why these are not all frames. Then the rule is "worst", since a frame that was not looked at is never
            counted as allowed, and the outcome is at least REVIEW.

    Example:
        ```python
        decide_clip(guard.policy.clips, guard.check(frames))
        ```
    """
    if not verdicts:
        return Verdict.error("not evaluated: no frame of this clip was judged")
    settled = list(verdicts) if partial else rule.settle(verdicts)
    decided = worst(settled)
    flags = tuple(sorted({flag for verdict in verdicts for flag in verdict.flags}))
    if partial and decided.outcome is Outcome.ALLOW:
        return replace(decided, outcome=Outcome.REVIEW, reason=f"{partial} was looked at", flags=flags)
    return replace(decided, flags=flags)
