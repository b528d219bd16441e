"""Labelled images to measure with: the slices of each, and which of them are copies of another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nsfw_guard.errors import ConfigError, suggest
from nsfw_guard.tools.evaluate.harmless import MeasuredImage
from nsfw_guard.tools.evaluate.images import MAX_CONTENT_SLICES, ImageFile, digest_of
from nsfw_guard.tools.teaching.labelled import LabelledImage, words_of
from nsfw_guard.tools.teaching.scored import ScoredImage, groups_of

EMPTY = "(empty)"
MAX_NAMED = 5  # groups of near-duplicates with different labels


@dataclass(frozen=True)
class Sample:
    """A labelled image, and what the models said of it."""

    image: LabelledImage
    measured: MeasuredImage


def files_of(images: Sequence[LabelledImage], columns: Sequence[str] = ()) -> list[ImageFile]:
    """Return the files to measure, each with its slices: the values of columns, and the source where there are several.

    Raises:
        ConfigError: a column is in no list, or has too many values for slices.
    """
    known = sorted({name for image in images for name in image.facts if name})
    for column in columns:
        if column not in known:
            cure = suggest(column, known) if known else "folders have no columns, give a list"
            raise ConfigError(f"no list has the column {column!r}: {cure}")
        values = {image.facts.get(column, "") for image in images}
        if len(values) > MAX_CONTENT_SLICES:
            raise ConfigError(
                f"the column {column!r} has {len(values)} values, and at most {MAX_CONTENT_SLICES} make slices: name "
                "another column"
            )
    sources = {image.facts.get("", "") for image in images}
    return [ImageFile(image.path, _content(image, columns, several=len(sources) > 1)) for image in images]


def _content(image: LabelledImage, columns: Sequence[str], *, several: bool) -> tuple[str, ...]:
    of_columns = [f"{column} {image.facts.get(column, '') or EMPTY}" for column in columns]
    return (*of_columns, *([f"from {image.facts.get('', '')}"] if several else []))


def without_same_files(images: Sequence[LabelledImage]) -> tuple[list[LabelledImage], list[str]]:
    """Return the images whose bytes no earlier one has, and a note on the others.

    Raises:
        ConfigError: copies have different labels.
    """
    first: dict[str, LabelledImage] = {}
    kept: list[LabelledImage] = []
    for image in images:
        digest = digest_of(image.path)
        earlier = first.setdefault(digest, image) if digest else image
        if earlier is image:
            kept.append(image)
        elif words_of(earlier) != words_of(image):
            raise ConfigError(
                f"{image.path} ({words_of(image)}) and {earlier.path} ({words_of(earlier)}) are the same file with "
                "different labels: correct one of them"
            )
    copies = len(images) - len(kept)
    return kept, [f"{copies} copies of other files were left out"] if copies else []


def without_near_duplicates(samples: Sequence[Sample]) -> tuple[list[Sample], list[str]]:
    """Return one sample of each group of near-duplicates with one label, and notes on the others.

    Near-duplicates with different labels, such as frames of one scene, stay: each is the only witness of its label.

    Raises:
        ConfigError: images with the very same hash have different labels.
    """
    groups = groups_of([ScoredImage(one.image, look=one.measured.look) for one in samples])
    seen: set[tuple[int, str]] = set()
    kept: list[Sample] = []
    for group, one in zip(groups, samples, strict=True):
        if (group, words_of(one.image)) not in seen:
            seen.add((group, words_of(one.image)))
            kept.append(one)
    notes = []
    if left := len(samples) - len(kept):
        notes.append(f"{left} near-duplicates of other images were left out")
    labels = Counter(number for number, _ in seen)
    mixed = sorted(number for number, count in labels.items() if count > 1)
    for number in mixed[:MAX_NAMED]:
        names = [one.image.path for group, one in zip(groups, samples, strict=True) if group == number]
        notes.append(f"near-duplicates have different labels, and all count: {', '.join(names[:3])}")
    if len(mixed) > MAX_NAMED:
        notes.append(f"{len(mixed) - MAX_NAMED} more groups of near-duplicates have different labels")
    return kept, notes
