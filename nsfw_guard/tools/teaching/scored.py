"""A model's scores for labelled images, and which of these are copies of each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from nsfw_guard.backends.base import Backend, checked_scores
from nsfw_guard.backends.spec import ScoreSpec
from nsfw_guard.imaging.frames import in_groups
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.scores import Scores
from nsfw_guard.tools.teaching.copies import Look, grouped, look_at
from nsfw_guard.tools.teaching.labelled import LabelledImage, words_of


@dataclass
class ScoredImage:
    """A labelled image, with the highest score of each category in each kind of view.

    Args:
        image: the image.
        views: by kind of view, the scores by category, at the level that the model calls positive.
        look: what its first frame looks like; None where nobody has seen it.
        fault: why it was not judged; empty where it was.
    """

    image: LabelledImage
    views: dict[str, dict[str, float]] = field(default_factory=dict)
    look: Look | None = None
    fault: str = ""


def score_images(
    backend: Backend, images: Sequence[LabelledImage], *, batch_size: int = 32, limits: Limits | None = None
) -> Iterator[ScoredImage]:
    """Yield each image with its scores; one that cannot be judged has a fault."""
    for start in range(0, len(images), batch_size):
        part = [ScoredImage(image) for image in images[start : start + batch_size]]
        for group in in_groups([one.image.path for one in part], limits=limits):
            frames = [frame for stack in group.stacks for frame in stack.split()]
            scores = checked_scores(backend, group.stacks, len(frames), embeddings=False, digests=False)
            for owner, frame, one in zip(group.owners, frames, scores, strict=True):
                if part[owner].look is None:
                    part[owner].look = look_at(frame.to_array())
                _note(part[owner], one, backend.spec)
            for owner, fault in {**group.partial, **group.faults}.items():
                part[owner].fault = part[owner].fault or fault
        yield from part


def _note(one: ScoredImage, scores: Scores, spec: ScoreSpec) -> None:
    """Enter the scores of a frame."""
    if scores.fault or not scores.finite:
        one.fault = one.fault or scores.fault or "the model returned no probabilities"
        return
    for view in scores.views:
        into = one.views.setdefault(view.view.kind, {})
        for category, level in spec.positives.items():
            into[category] = max(into.get(category, 0.0), view.levels[category][level])


def groups_of(images: Sequence[ScoredImage]) -> list[int]:
    """Return for each image the number of its group: copies and near-duplicates share one.

    What was fitted on one image must not be tried on its copy, which would look better than it is.

    Raises:
        ConfigError: copies have different labels.
    """
    labels = [words_of(one.image) for one in images]
    return grouped([one.look for one in images], labels, [one.image.path for one in images])


def highest(one: ScoredImage, category: str) -> float:
    """Return the highest score of a category over all views."""
    return max(scores[category] for scores in one.views.values())


def by_kind(images: Sequence[ScoredImage], category: str) -> Mapping[str, list[int]]:
    """Return for each kind of view the images that have one."""
    kinds: dict[str, list[int]] = {}
    for at, one in enumerate(images):
        for kind, scores in one.views.items():
            if category in scores:
                kinds.setdefault(kind, []).append(at)
    return kinds
