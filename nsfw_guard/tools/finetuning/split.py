"""Which images a model is taught on, and which it is measured on: copies are never on both sides."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nsfw_guard.errors import ConfigError


@dataclass(frozen=True)
class Split:
    """Positions of images: those for training, and those for validation."""

    training: tuple[int, ...]
    validation: tuple[int, ...]


def split(groups: Sequence[int], classes: Sequence[int], names: Sequence[str], *, share: float, seed: int = 0) -> Split:
    """Return a split in which every class has about that share of its images in validation, at least one.

    Groups of copies stay together. The same images are split alike, in whatever order runs are made.

    Args:
        groups: for each image the number of its group.
        classes: for each image the number of its class.
        names: of the classes.
        share: of the images that is for validation.
        seed: draws another split.

    Raises:
        ConfigError: a class has no two images that are no copies of each other.
    """
    members: dict[int, list[int]] = {}
    for at, group in enumerate(groups):
        members.setdefault(group, []).append(at)
    order = sorted(members, key=lambda group: hashlib.sha256(f"{seed} {group}".encode()).digest())
    shown = {group: Counter(classes[at] for at in positions) for group, positions in members.items()}
    counts, taken, chosen = Counter(classes), Counter[int](), set[int]()
    for number in sorted(counts, key=lambda number: (counts[number], number)):
        for group in order:
            if taken[number] >= max(1, round(share * counts[number])):
                break
            leaves_some = all(taken[one] + count < counts[one] for one, count in shown[group].items())
            if shown[group][number] and group not in chosen and leaves_some:
                chosen.add(group)
                taken += shown[group]
        if not taken[number]:
            raise ConfigError(
                f"the class {names[number]!r} has no two images that are not copies of each other, of {counts[number]} "
                "in all: it takes one to learn from and one to measure, and twenty to be of use"
            )
    sides = [[at for at, group in enumerate(groups) if (group in chosen) is inside] for inside in (False, True)]
    return Split(tuple(sides[0]), tuple(sides[1]))


def leaks(groups: Sequence[int], training: int) -> dict[int, int]:
    """Return the validation images of the caller's that are copies of images to learn from, each with that image.

    Args:
        groups: of all images, those for training first.
        training: how many of them are for training.
    """
    first = {group: at for at, group in reversed(list(enumerate(groups[:training])))}
    return {at: first[groups[at]] for at in range(training, len(groups)) if groups[at] in first}
