"""Which images are copies of each other."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nsfw_guard.errors import ConfigError
from nsfw_guard.imaging.pdq import LEAST_QUALITY, pdq
from nsfw_guard.tools.screening.reporting.duplicates import near_duplicates

SIDE = 8  # of the colours, in pixels
NEAR, SAME = 40.0, 8.0  # largest difference of the colours of near-duplicates and of copies, in levels


@dataclass(frozen=True)
class Look:
    """What an image looks like: enough to know a copy of it.

    Args:
        hashed: its perceptual hash, which knows no colours; empty where there is too little in it.
        colours: the image in 8 x 8 pixels.
    """

    hashed: str
    colours: NDArray[np.uint8]


def look_at(pixels: NDArray[np.uint8]) -> Look:
    """Return what an image looks like. Shape: (H, W, 3)."""
    hashed = pdq(pixels)
    small = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX)
    return Look(hashed.hex if hashed.quality >= LEAST_QUALITY else "", np.asarray(small))


def grouped(looks: Sequence[Look | None], labels: Sequence[Hashable], names: Sequence[str]) -> list[int]:
    """Return for each image the number of the first one in its group: copies and near-duplicates share one.

    Images with too little in them for a perceptual hash are copies when their colours are the same.

    Args:
        looks: what each image looks like; None where nobody knows.
        labels: what each image is labelled as.
        names: what each image is called in an error.

    Raises:
        ConfigError: copies have different labels.
    """
    numbers = list(range(len(looks)))
    for group in _groups(looks):
        first = group[0]
        for at in group[1:]:
            numbers[at] = first
            one, other = looks[at], looks[first]
            if one and other and labels[at] != labels[first] and _same(one, other):
                raise ConfigError(
                    f"{names[at]} ({_words(labels[at])}) and {names[first]} ({_words(labels[first])}) are the same "
                    "image with different labels: correct one of them"
                )
    return numbers


def _same(one: Look, other: Look) -> bool:
    apart = np.abs(one.colours.astype(np.int16) - other.colours).max()
    return one.hashed == other.hashed and bool(apart <= SAME)


def _groups(looks: Sequence[Look | None]) -> Iterator[list[int]]:
    hashed = [at for at, look in enumerate(looks) if look and look.hashed]
    for group in near_duplicates([look.hashed for look in looks if look and look.hashed]):
        yield from _of_one_colour([hashed[position] for position in group], looks)
    plain: dict[bytes, list[int]] = {}
    for at, look in enumerate(looks):
        if look and not look.hashed:
            plain.setdefault(look.colours.tobytes(), []).append(at)
    yield from (group for group in plain.values() if len(group) > 1)


def _of_one_colour(group: Sequence[int], looks: Sequence[Look | None]) -> Iterator[list[int]]:
    """Split a group of images of the same brightness by their colours: a red disc is no copy of a blue one."""
    heads: list[NDArray[np.float32]] = []
    members: list[list[int]] = []
    for at in group:
        look = looks[at]
        if look is None:
            continue
        colours = look.colours.astype(np.float32)
        apart = np.abs(np.array(heads) - colours).max((1, 2, 3)) if heads else np.empty(0)
        if len(apart) and apart.min() <= NEAR:
            members[int(apart.argmin())].append(at)
        else:
            heads.append(colours)
            members.append([at])
    yield from (one for one in members if len(one) > 1)


def _words(label: Hashable) -> str:
    if isinstance(label, frozenset):
        return ", ".join(sorted(label)) or "harmless"
    return str(label)
