"""Scores of every guard for every change of labelled images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from nsfw_guard.errors import ImageError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.decode import Stream
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.tools.evaluate.highest import highest_scores
from nsfw_guard.tools.evaluate.robustness.changes import CHANGES
from nsfw_guard.tools.evaluate.robustness.layouts import LAYOUTS, POOL, small
from nsfw_guard.tools.teaching.labelled import LabelledImage

AS_IT_IS = "as it is"
SIDE = 1024  # of a frame at most, before it is changed: models look at less, and a border makes it larger


@dataclass
class ChangedImage:
    """A labelled image, with the highest score of each category by guard and change; NaN where it was not judged."""

    image: LabelledImage
    scores: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)


def score_changes(
    guards: Mapping[str, Guard], images: Sequence[LabelledImage], *, limits: Limits | None = None
) -> Iterator[ChangedImage]:
    """Yield each image with its scores as it is and in every change. Of a moving image the first frame counts, and
    large ones are made smaller first.

    Args:
        guards: the guards by name.
        images: the images, of which the harmless ones fill collages.
        limits: for decoding.
    """
    used = limits or Limits()
    pool = _pool(images, used)
    for image in images:
        one = ChangedImage(image)
        frame = _frame(image.path, used)
        names, changed = [], []
        if frame is not None:
            fillers = [filler for path, filler in pool.items() if path != image.path]
            for name, result in _changed(frame, image.path, fillers):
                names.append(name)
                changed.append(result)
        for label, guard in guards.items():
            for name, scores in zip(names, highest_scores(guard, changed), strict=True):
                one.scores[label, name] = scores
        yield one


def _changed(frame: Image.Image, path: str, fillers: Sequence[Image.Image]) -> Iterator[tuple[str, Image.Image]]:
    """Every change of a frame by its name."""
    yield AS_IT_IS, frame
    for name, change in CHANGES.items():
        yield name, change(frame, _random(path, name))
    for name, layout in LAYOUTS.items() if fillers else ():
        yield name, layout(frame, fillers, _random(path, name))


def _random(path: str, name: str) -> np.random.Generator:
    """The same numbers for an image and a change each time."""
    digest = hashlib.sha256(f"{name} {path}".encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def _pool(images: Sequence[LabelledImage], limits: Limits) -> dict[str, Image.Image]:
    """Small copies of harmless images, evenly over all of them."""
    harmless = [image.path for image in images if not image.categories]
    count = min(POOL, len(harmless))
    frames = {path: _frame(path, limits) for path in (harmless[i * len(harmless) // count] for i in range(count))}
    return {path: small(frame) for path, frame in frames.items() if frame is not None}


def _frame(path: str, limits: Limits) -> Image.Image | None:
    """The first frame of a file; None where it cannot be decoded, which the report says already."""
    try:
        frame = Image.fromarray(next(iter(Stream(path, limits=limits))))
    except ImageError:
        return None
    frame.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    return frame
