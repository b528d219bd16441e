"""A model, and a second one that is asked only where the first is in doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nsfw_guard.backends.base import Backend, checked_scores
from nsfw_guard.backends.spec import ScoreSpec
from nsfw_guard.backends.wrappers.alignment import Member, aligned, joined, joint_spec, joint_state
from nsfw_guard.errors import ConfigError
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.scores import Scores


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
        if self.first.threshold.blocks:
            raise ConfigError(
                f"the thresholds of {first.spec.name!r} differ between categories, and a band needs one: calibrate it "
                "without a promise, or use an ensemble"
            )
        if not 0.0 <= low < high <= 1.0 or not low <= block <= high:
            raise ConfigError(
                f"band={band}: give two scores of {first.spec.name!r} in order, on both sides of its threshold "
                f"{block:g}"
            )
        self.band = (aligned(low, block), aligned(high, block))
        missing = sorted(set(first.spec.levels) - set(second.spec.levels))
        if missing:
            raise ConfigError(
                f"{second.spec.name!r} does not score {', '.join(missing)}: choose a second model that scores "
                f"{', '.join(first.spec.levels)}"
            )
        lost = sorted(set(second.spec.required) - set(first.spec.levels))
        if lost:
            raise ConfigError(
                f"{second.spec.name!r} must be heard on {', '.join(lost)}, and is asked only in doubt: put its bank "
                "around the cascade"
            )
        self.asked = self.seen = 0

    @property
    def spec(self) -> ScoreSpec:
        """A record of its own: the first model's categories, each with one level and the threshold 0.5."""
        pair = [self.first.backend, self.second.backend]
        joint = joint_spec("cascade", pair)
        kept = {n: label for n, label in joint.labels.items() if label and label.category in pair[0].spec.levels}
        return replace(joint, labels=kept, required=pair[0].spec.required, band=self.band)

    def score(self, stacks: Sequence[Frames], *, embeddings: bool = False, digests: bool = False) -> list[Scores]:
        """Return one Scores a frame; the embedding is the first model's."""
        count = sum(len(stack) for stack in stacks)
        first = checked_scores(self.first.backend, stacks, count, embeddings=embeddings, digests=digests)
        said = [self.first.aligned_scores(scores) for scores in first]
        doubtful = [i for i, one in enumerate(said) if not first[i].fault and self._doubtful(one)]
        frames = [frame for stack in stacks for frame in stack.split()]
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
