"""Several models that are all asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from nsfw_guard.backends.base import Backend, checked_scores
from nsfw_guard.backends.spec import ScoreSpec
from nsfw_guard.backends.wrappers.alignment import HALF, NAN, Member, aligned, joined, joint_spec, joint_state
from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.scores import Scores

Combine = Literal["max", "mean", "vote"]


class Ensemble:
    """Models that are all asked.

    Args:
        backends: at least two, of different names.
        combine: "max" blocks what any of them would block; "mean" weighs them; "vote" counts those that would block.
        weights: for "mean", one number a model.
        votes: for "vote", how many must agree; more than half of them unless said.
        threshold: the name of the threshold in each model's record.

    Example:
        ```python
        guard = Guard(Ensemble([load_model("demo-shapes"), load_model("demo-shapes-graded")], combine="mean"))
        ```
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        *,
        combine: Combine = "max",
        weights: Sequence[float] | None = None,
        votes: int | None = None,
        threshold: str = "default",
    ) -> None:
        names = [backend.spec.name for backend in backends]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ConfigError(f"an ensemble needs two or more different models, got {names}")
        if combine not in get_args(Combine):
            raise UnknownNameError("way to combine", combine, get_args(Combine))
        if (weights is not None and combine != "mean") or (votes is not None and combine != "vote"):
            raise ConfigError("weights= goes with combine='mean', votes= with combine='vote'")
        self.members = tuple(Member.of(backend, threshold) for backend in backends)
        self.combine = combine
        self.weights = tuple(weights) if weights is not None else (1.0,) * len(names)
        if len(self.weights) != len(names) or not all(0.0 < w < float("inf") for w in self.weights):
            raise ConfigError(f"weights={weights}: give one number above 0 for each of the {len(names)} models")
        self.votes = votes
        always = {category for backend in backends for category in backend.spec.required}
        outvoted = sorted(c for c in always if sum(c in backend.spec.levels for backend in backends) > 1)
        if combine != "max" and outvoted:
            raise ConfigError(
                f"{', '.join(outvoted)} must be heard from each model, and {combine!r} may outvote it: put one bank "
                "around the ensemble, or combine by 'max'"
            )
        for category, count in self._scored().items():
            if votes is not None and not 1 <= votes <= count:
                raise ConfigError(f"votes={votes}: {category!r} is scored by only {count} of the models")

    @property
    def spec(self) -> ScoreSpec:
        """A record of its own: every category that one of them scores, each with one level and the threshold 0.5."""
        how = self.combine + (f" of {self.votes}" if self.votes else "")
        return joint_spec(f"ensemble({how})", [member.backend for member in self.members])

    def score(self, stacks: Sequence[Frames], *, embeddings: bool = False, digests: bool = False) -> list[Scores]:
        """Return one Scores a frame; the embedding is the first model's."""
        count = sum(len(stack) for stack in stacks)
        answers = [
            checked_scores(member.backend, stacks, count, embeddings=embeddings and not i, digests=digests and not i)
            for i, member in enumerate(self.members)
        ]
        return [self._join(opinions) for opinions in zip(*answers, strict=True)]

    def state(self) -> Mapping[str, str]:
        """Return the first model's state, and every model with its self-test."""
        return joint_state([member.backend for member in self.members], {"combine": self.spec.name})

    def _scored(self) -> dict[str, int]:
        levels = [member.backend.spec.levels for member in self.members]
        return {category: sum(category in one for one in levels) for one in levels for category in one}

    def _join(self, opinions: Sequence[Scores]) -> Scores:
        said = [member.aligned_scores(scores) for member, scores in zip(self.members, opinions, strict=True)]
        joint = {}
        for category in self._scored():
            pairs = [(one[category], w) for one, w in zip(said, self.weights, strict=True) if category in one]
            joint[category] = self._combined(pairs)
        return joined(opinions, joint, dict(zip((m.backend.spec.name for m in self.members), said, strict=True)))

    def _combined(self, pairs: Sequence[tuple[float, float]]) -> float:
        values = [p for p, _ in pairs]
        if not all(0.0 <= p <= 1.0 for p in values):
            return NAN
        if self.combine == "max":
            return max(values)
        if self.combine == "mean":
            return min(1.0, sum(p * w for p, w in pairs) / sum(w for _, w in pairs))
        needed = self.votes or len(values) // 2 + 1
        return aligned(sum(p >= HALF for p in values) / len(values), needed / len(values))
