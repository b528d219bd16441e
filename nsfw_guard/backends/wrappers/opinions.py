"""Several models as one: an ensemble, and a cascade that asks a second model only where the first is in doubt.

Scores of different models are not comparable: 0.5 is strict for one and lenient for the next. So every score is first
bent so that its model's own threshold becomes 0.5 (`aligned`); only then are they combined, and 0.5 is the threshold
of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from nsfw_guard.backends.base import Backend, Label, ModelSpec, checked_scores
from nsfw_guard.errors import ConfigError, ScoringError, UnknownNameError, suggest
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.scores import Scores, Severity, View, ViewScores
from nsfw_guard.verdict import SelfTest

Combine = Literal["max", "mean", "vote"]
NAN = float("nan")
HALF = 0.5


def aligned(p: float, threshold: float) -> float:
    """Return `p` bent so that `threshold` becomes 0.5, and 0 and 1 stay. What is no probability stays what it is."""
    if not 0.0 <= p <= 1.0:
        return p
    if p < threshold:
        return HALF * p / threshold
    return HALF + HALF * (p - threshold) / (1.0 - threshold) if threshold < 1.0 else 1.0


@dataclass(frozen=True)
class Member:
    """One model of several, with the threshold of its record that makes its scores comparable."""

    backend: Backend
    threshold: Threshold

    @classmethod
    def of(cls, backend: Backend, name: str) -> Member:
        """Return a model with the threshold of this name in its record."""
        thresholds = backend.spec.thresholds
        if name not in thresholds:
            raise ConfigError(
                f"the record of {backend.spec.name!r} has no threshold {name!r}, so its scores cannot be compared: "
                f"{suggest(name, thresholds)}, or calibrate it"
            )
        return cls(backend, thresholds[name])

    def aligned_scores(self, scores: Scores) -> dict[str, float]:
        """Return per category the worst aligned score over the views, at the level that the model itself calls
        positive.
        """
        scored: dict[str, float] = {}
        spec = self.backend.spec
        for category, levels in spec.levels.items():
            level = spec.positives.get(category, levels[0])
            per_view = [self._of(view, category, level) for view in scores.views]
            # max would lose a NaN that does not come first.
            scored[category] = max(per_view) if per_view and all(0.0 <= p <= 1.0 for p in per_view) else NAN
        return scored

    def _of(self, view: ViewScores, category: str, level: Severity) -> float:
        p = view.levels.get(category, {}).get(level)
        if p is None:
            raise ScoringError(f"{self.backend.spec.name!r} gave no score for {category!r}")
        return aligned(p, self.threshold.views.get(view.view.kind, self.threshold.block))


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
            raise ConfigError(f"an ensemble is of two or more different models, not of {names}")
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
        for category, count in self._scored().items():
            if votes is not None and not 1 <= votes <= count:
                raise ConfigError(f"votes={votes}: {category!r} is scored by {count} of the models only")

    @property
    def spec(self) -> ModelSpec:
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


class Cascade:
    """A quick model, and a second opinion where the first is in doubt: fewer false alarms at a small part of the cost.

    Args:
        first, second: who is asked always, and who only in doubt. The second's word then stands.
        band: from which score of the first, up to which, the second is asked. It must hold the first's own threshold,
            and every threshold of the policy: elsewhere a second opinion could change nothing.
        threshold: the name of the threshold in each model's record.

    Example:
        ```python
        cascade = Cascade(load_model("demo-shapes"), load_model("demo-shapes-graded"), band=(0.1, 0.9))
        guard = Guard(cascade)
        ```
    """

    def __init__(
        self, first: Backend, second: Backend, *, band: tuple[float, float], threshold: str = "default"
    ) -> None:
        self.first, self.second = Member.of(first, threshold), Member.of(second, threshold)
        low, high = band
        block = self.first.threshold.block
        if not 0.0 <= low < high <= 1.0 or not low <= block <= high:
            raise ConfigError(
                f"band={band}: give two scores of {first.spec.name!r} in order, on both sides of its threshold "
                f"{block:g}"
            )
        self.band = (aligned(low, block), aligned(high, block))
        missing = sorted(set(first.spec.levels) - set(second.spec.levels))
        if missing:
            raise ConfigError(
                f"{second.spec.name!r} has no second opinion on {', '.join(missing)}: choose one that scores "
                f"{', '.join(first.spec.levels)}"
            )
        self.asked = self.seen = 0

    @property
    def spec(self) -> ModelSpec:
        """A record of its own: the first model's categories, each with one level and the threshold 0.5."""
        pair = [self.first.backend, self.second.backend]
        joint = joint_spec("cascade", pair)
        kept = {n: label for n, label in joint.labels.items() if label and label.category in pair[0].spec.levels}
        return replace(joint, labels=kept, band=self.band)

    def score(self, stacks: Sequence[Frames], *, embeddings: bool = False, digests: bool = False) -> list[Scores]:
        """Return one Scores a frame; the embedding is the first model's."""
        count = sum(len(stack) for stack in stacks)
        first = checked_scores(self.first.backend, stacks, count, embeddings=embeddings, digests=digests)
        said = [self.first.aligned_scores(scores) for scores in first]
        doubtful = [i for i, one in enumerate(said) if not first[i].fault and self._doubtful(one)]
        frames = [Frames(stack.pixels[i : i + 1], stack.value_range) for stack in stacks for i in range(len(stack))]
        second = checked_scores(
            self.second.backend, [frames[i] for i in doubtful], len(doubtful), embeddings=False, digests=False
        )
        self.seen, self.asked = self.seen + count, self.asked + len(doubtful)
        opinions = dict(zip(doubtful, second, strict=True))
        return [self._join(first[i], said[i], opinions.get(i)) for i in range(count)]

    def state(self) -> Mapping[str, str]:
        """Return both models' states, and when the second is asked."""
        low, high = self.band
        details = {"second_opinion": f"{self.second.backend.spec.name} from {low:.3g} to {high:.3g}"}
        return joint_state([self.first.backend, self.second.backend], details)

    def _doubtful(self, said: Mapping[str, float]) -> bool:
        low, high = self.band
        return any(low <= p <= high for p in said.values())

    def _join(self, first: Scores, said: Mapping[str, float], second: Scores | None) -> Scores:
        names = self.first.backend.spec.name, self.second.backend.spec.name
        if second is None:
            return joined([first], dict(said), {names[0]: said})
        other = self.second.aligned_scores(second)
        # Only where there was doubt: what the first is sure of stays.
        low, high = self.band
        joint = {c: other[c] if low <= p <= high else p for c, p in said.items()}
        return joined([first, second], joint, {names[0]: said, names[1]: {c: other[c] for c in said}})


def joined(opinions: Sequence[Scores], joint: Mapping[str, float], said: Mapping[str, Mapping[str, float]]) -> Scores:
    """Return several models' scores as one view of the whole picture, with what each said among the details."""
    details = {f"{name}: {category}": p for name, one in said.items() for category, p in one.items()}
    levels = {category: {Severity.HIGH: p} for category, p in joint.items()}
    return Scores(
        (ViewScores(View("full"), levels, details),),
        regions=tuple(region for scores in opinions for region in scores.regions),
        embedding=opinions[0].embedding,
        digest=opinions[0].digest,
        blank=all(scores.blank for scores in opinions),
        fault=next((scores.fault for scores in opinions if scores.fault), ""),
    )


def joint_spec(name: str, backends: Sequence[Backend]) -> ModelSpec:
    """Return the record of several models as one. Its revision names each with its own."""
    specs = [backend.spec for backend in backends]
    categories = {category: None for spec in specs for category in spec.levels}
    source = "the thresholds of its models, each bent to 0.5"
    return ModelSpec(
        name=f"{name}: {' + '.join(spec.name for spec in specs)}",
        kind="opinions",
        architecture="",
        input=specs[0].input,
        labels={category: Label(category) for category in categories},
        neutral=tuple(dict.fromkeys(category for spec in specs for category in spec.neutral)),
        thresholds={
            "default": Threshold(block=HALF, review=HALF / 2, source=source),
            "strict": Threshold(block=0.3, review=HALF / 4, source=f"{source}; then chosen, not measured"),
            "lenient": Threshold(block=0.7, review=HALF, source=f"{source}; then chosen, not measured"),
        },
        revision=" + ".join(f"{spec.name}@{spec.revision or spec.sha256 or 'unrecorded'}" for spec in specs),
        license=" and ".join(dict.fromkeys(spec.license for spec in specs)),
        download_bytes=sum(spec.download_bytes for spec in specs),
        source="its models' own records",
    )


def joint_state(backends: Sequence[Backend], details: Mapping[str, str]) -> dict[str, str]:
    """Return the first one's state, each one's self-test, and what is told besides."""
    tests = {f"self_test {b.spec.name}": dict(b.state()).get("self_test", SelfTest.NONE.value) for b in backends}
    return {**backends[0].state(), **tests, **details}
