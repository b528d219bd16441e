"""How often harmless images are covered: every model's scores on them, and each named threshold applied to those."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from nsfw_guard.backends.base import checked_scores
from nsfw_guard.backends.spec import ScoreSpec
from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Batch, in_groups
from nsfw_guard.policy.policy import Policy
from nsfw_guard.policy.rules import THRESHOLD_NAMES, Rule
from nsfw_guard.scores import Scores, Severity
from nsfw_guard.tools.evaluate.images import ImageFile, slices_of
from nsfw_guard.tools.teaching.copies import Look, look_at
from nsfw_guard.verdict import Outcome

log = logging.getLogger(__name__)

_ORDER = sorted(THRESHOLD_NAMES, key=("lenient", "default", "strict").index)
ANY = "any"  # in place of a category: what a preset policy decides over all of them


@dataclass(frozen=True)
class Criterion:
    """One way to decide: a category at a severity, cut at a named threshold; or all of them, by a policy."""

    category: str
    severity: Severity | None
    threshold: str
    policy: Policy

    @property
    def block(self) -> float | None:
        """The score from which it blocks; None where several rules decide."""
        rules = list(self.policy.rules.values())
        block = rules[0].block if len(rules) == 1 else None
        return block if isinstance(block, float) else None

    @property
    def label(self) -> str:
        """What is judged, in words."""
        return self.category if self.severity is None else f"{self.category} ({self.severity.name.lower()})"


@dataclass(frozen=True)
class Answer:
    """A model's answer for one image: an outcome for each criterion, and the highest score of each level."""

    outcomes: tuple[Outcome, ...] = ()
    scores: Mapping[tuple[str, Severity], float] = field(default_factory=dict)
    fault: str = ""

    @property
    def worst(self) -> float:
        """The highest score over categories, each at its strictest level that has any."""
        return max(self.scores.values(), default=0.0)


@dataclass(frozen=True)
class MeasuredImage:
    """An image, its slices, the answer of each model, the seconds that they took, and a hash where it was asked for."""

    file: ImageFile
    slices: tuple[str, ...]
    answers: Mapping[str, Answer]
    seconds: Mapping[str, float]
    decode_seconds: float
    look: Look | None = None  # None where nobody asked for it


def criteria_of(guard: Guard, policy: Policy | None = None) -> tuple[Criterion, ...]:
    """Return all criteria of a guard's model, and one more for a policy of the caller's.

    For each threshold that the record names: each category that is a fault at each of its levels, and, where there are
    several categories, the preset policy over all of them.

    Example:
        ```python
        names = [criterion.threshold for criterion in criteria_of(Guard.from_pretrained("demo-shapes"))]
        ```
    """
    spec = guard.spec
    criteria = []
    for name in _measurable(spec):
        threshold = spec.thresholds[name]
        review = name if threshold.review is not None else None
        for category in spec.positives:
            for severity in spec.levels[category]:
                rule = Rule(block=name, review=review, severity=severity)
                bound = Policy(rules={category: rule}, name=name).bind(spec)
                criteria.append(Criterion(category, severity, name, bound))
        if len(spec.positives) > 1:
            rules = {"*": Rule(block=name, review=review)}
            criteria.append(Criterion(ANY, None, name, Policy(rules=rules, name=name).bind(spec)))
    if policy is not None:
        criteria.append(Criterion(ANY, None, f"policy {policy.name}", policy.bind(spec)))
    if not criteria:
        raise ConfigError(f"the record of {spec.name!r} names no threshold: calibrate the model, or pass a policy")
    return tuple(criteria)


def _measurable(spec: ScoreSpec) -> list[str]:
    """The names of the thresholds that a policy may use, from the most lenient on.

    A cascade has a band that holds every threshold: no guard accepts one outside it.
    """
    low, high = spec.band or (0.0, 1.0)
    return [name for name in _ORDER if name in spec.thresholds and low <= spec.thresholds[name].block <= high]


def measure(
    guards: Mapping[str, Guard],
    criteria: Mapping[str, Sequence[Criterion]],
    files: Sequence[ImageFile],
    *,
    batch_size: int = 16,
    looks: bool = False,
) -> Iterator[MeasuredImage]:
    """Yield every image with the answers of all models; a file is decoded once for all of them.

    Args:
        guards: the guards by name. Their backends are asked, with the limits of the first.
        criteria: the criteria of each guard, by the same names.
        files: the images.
        batch_size: images per batch.
        looks: whether images get a perceptual hash, by which near-duplicates are known.
    """
    limits = next(iter(guards.values())).limits
    for start in range(0, len(files), batch_size):
        part = files[start : start + batch_size]
        seen = [_Seen() for _ in part]
        began = time.perf_counter()
        for group in in_groups([file.path for file in part], limits=limits):
            decoded = time.perf_counter()
            _note(seen, group, (decoded - began) / len(part), looks=looks)
            for name, guard in guards.items():
                _ask(name, guard, group, seen)
            began = time.perf_counter()
        for file, one in zip(part, seen, strict=True):
            yield _measured(file, one, guards, criteria)


@dataclass
class _Seen:
    """What is known of one image so far."""

    size: tuple[int, int] = (0, 0)  # width and height of its first frame
    fault: str = ""
    partial: str = ""
    look: Look | None = None
    decode_seconds: float = 0.0
    frames: dict[str, list[Scores]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    model_faults: dict[str, str] = field(default_factory=dict)


def _note(seen: Sequence[_Seen], group: Batch, decode_seconds: float, *, looks: bool) -> None:
    """Enter what decoding has shown."""
    owners = iter(group.owners)
    for stack in group.stacks:
        for frame in stack.split():
            one = seen[next(owners)]
            if one.size == (0, 0):
                one.size = int(stack.pixels.shape[3]), int(stack.pixels.shape[2])
                one.look = look_at(frame.to_array()) if looks else None
    for index, one in enumerate(seen):
        one.fault = one.fault or group.faults.get(index, "")
        one.partial = one.partial or group.partial.get(index, "")
        one.decode_seconds += decode_seconds


def _ask(name: str, guard: Guard, group: Batch, seen: Sequence[_Seen]) -> None:
    """Enter a model's scores for a group of frames. A model that fails has judged none of their images."""
    began = time.perf_counter()
    try:
        scores = checked_scores(guard.backend, group.stacks, len(group.owners), embeddings=False, digests=False)
    except Exception as error:
        log.exception("%s could not judge %d frames", name, len(group.owners))
        for owner in group.owners:
            seen[owner].model_faults[name] = f"{type(error).__name__}: {error}"
        return
    share = (time.perf_counter() - began) / max(1, len(group.owners))
    for owner, of_frame in zip(group.owners, scores, strict=True):
        seen[owner].frames.setdefault(name, []).append(of_frame)
        seen[owner].seconds[name] = seen[owner].seconds.get(name, 0.0) + share


def _measured(
    file: ImageFile, one: _Seen, guards: Mapping[str, Guard], criteria: Mapping[str, Sequence[Criterion]]
) -> MeasuredImage:
    slices = slices_of(file.content, *one.size) if all(one.size) else ()
    answers = {}
    for name, guard in guards.items():
        frames, fault = one.frames.get(name, []), one.fault or one.model_faults.get(name, "")
        answers[name] = _answer(frames, fault, one.partial, guard.spec, criteria[name])
    return MeasuredImage(file, slices, answers, one.seconds, one.decode_seconds, one.look)


def _answer(
    frames: Sequence[Scores], fault: str, partial: str, spec: ScoreSpec, criteria: Sequence[Criterion]
) -> Answer:
    """The worst outcome over the frames, as a guard decides: a partly seen image is at least held for review."""
    if fault or not frames:
        return Answer(fault=fault or "no frame of this image was judged")
    least = Outcome.REVIEW if partial else Outcome.ALLOW
    outcomes = []
    for criterion in criteria:
        verdicts = [criterion.policy.decide(frame) for frame in frames]
        outcomes.append(max(least, *(verdict.outcome for verdict in verdicts)))
        broken = [verdict.reason for verdict in verdicts if verdict.outcome is Outcome.ERROR]
        if broken:
            return Answer(fault=broken[0])
    positives = spec.positives
    scores: dict[tuple[str, Severity], float] = {}
    for frame in frames:
        for category, levels in frame.worst.items():
            for severity, score in levels.items() if category in positives else ():
                scores[category, severity] = max(score, scores.get((category, severity), 0.0))
    return Answer(tuple(outcomes), scores)
