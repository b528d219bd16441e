"""What makes the scores of several models comparable, and one answer of theirs.

0.5 is strict for one model and lenient for the next. So every score is first bent so that its model's own threshold
becomes 0.5 (`aligned`); only then are scores combined, and 0.5 is the threshold of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nsfw_guard.backends.base import Backend
from nsfw_guard.backends.spec import Label, ScoreSpec
from nsfw_guard.errors import ConfigError, ScoringError, suggest
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.scores import Scores, Severity, View, ViewScores
from nsfw_guard.verdict import SelfTest

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
        return aligned(p, self.threshold.views.get(view.view.kind, self.threshold.block_of(category)))


def joined(opinions: Sequence[Scores], joint: Mapping[str, float], said: Mapping[str, Mapping[str, float]]) -> Scores:
    """Return several models' scores as one view of the whole image, with what each said among the details."""
    details = {f"{name}: {category}": p for name, one in said.items() for category, p in one.items()}
    levels = {category: {Severity.HIGH: p} for category, p in joint.items()}
    return Scores(
        (ViewScores(View("full"), levels, details),),
        regions=tuple(region for scores in opinions for region in scores.regions),
        embedding=opinions[0].embedding,
        digest=opinions[0].digest,
        blank=all(scores.blank for scores in opinions),
        note="; ".join(dict.fromkeys(scores.note for scores in opinions if scores.note)),
        fault=next((scores.fault for scores in opinions if scores.fault), ""),
    )


def joint_spec(name: str, backends: Sequence[Backend]) -> ScoreSpec:
    """Return the record of several models as one. Its revision names each with its own."""
    specs = [backend.spec for backend in backends]
    categories = {category: None for spec in specs for category in spec.levels}
    source = "the thresholds of its models, each bent to 0.5"
    return ScoreSpec(
        name=f"{name}: {' + '.join(spec.name for spec in specs)}",
        labels={category: Label(category) for category in categories},
        neutral=tuple(dict.fromkeys(category for spec in specs for category in spec.neutral)),
        required=tuple(dict.fromkeys(category for spec in specs for category in spec.required)),
        thresholds={
            "default": Threshold(block=HALF, review=HALF / 2, source=source),
            "strict": Threshold(block=0.3, review=HALF / 4, source=f"{source}; then chosen, not measured"),
            "lenient": Threshold(block=0.7, review=HALF, source=f"{source}; then chosen, not measured"),
        },
        revision=" + ".join(f"{spec.name}@{spec.version or 'unrecorded'}" for spec in specs),
        license=" and ".join(dict.fromkeys(spec.license for spec in specs)),
        source="its models' own records",
    )


def joint_state(backends: Sequence[Backend], details: Mapping[str, str]) -> dict[str, str]:
    """Return the first one's state, each one's self-test, and what is told besides."""
    tests = {f"self_test {b.spec.name}": dict(b.state()).get("self_test", SelfTest.NONE.value) for b in backends}
    return {**backends[0].state(), **tests, **details}
