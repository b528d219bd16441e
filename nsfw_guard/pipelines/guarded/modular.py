"""Judges the result of a modular pipeline: one value, some values, or the whole state with latents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from nsfw_guard.errors import UncoveredError
from nsfw_guard.pipelines import seams
from nsfw_guard.pipelines.guarded import layouts
from nsfw_guard.pipelines.guarded.identity import content
from nsfw_guard.pipelines.guarded.inputs import Latents
from nsfw_guard.pipelines.guarded.run import ExitRange, GuardedCall

# Values that an image could be made from, or that control it: numbers that no image model can judge.
_UNDECODED = frozenset({
    "latent", "latents", "embed", "embeds", "embedding", "embeddings", "noise", "timestep", "timesteps", "sigma",
    "sigmas", "id", "ids", "attention", "freqs", "guidance", "keyframes", "depth",
})  # fmt: skip


def came_in(arguments: Mapping[str, Any]) -> frozenset[Any]:
    """Return the content of each argument of a call."""
    return frozenset(content(value) for value in _each(list(arguments.values())))


def _each(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _each(part)
    elif _holds(value):
        yield value


def leave_state(out: Any, run: GuardedCall, latents: Latents, given: frozenset[Any], asked: Any) -> Any:
    """Return a state, a dictionary of its values, or one value, safe.

    Args:
        out: the result of the pipeline.
        given: the arguments; they may be returned if unchanged.
        asked: the name of the requested value.
    """
    values = getattr(out, "values", None)
    if isinstance(values, dict):
        _leave(values, run, latents, given)
        return out
    values = dict(out) if isinstance(out, dict) else {str(asked): out}
    _leave(values, run, latents, given)
    return values if isinstance(out, dict) else values[str(asked)]


def _leave(values: dict[str, Any], run: GuardedCall, latents: Latents, given: frozenset[Any]) -> None:
    new = [name for name, value in values.items() if _holds(value) and not _same(value, given)]
    held = [name for name in new if _undecoded(name, values[name])]
    # The verdicts are those of the first of these.
    for name in sorted((name for name in new if name not in held), key=_place):
        clips = name in seams.CLIPS
        ends: ExitRange = "signed" if _signed(values[name]) else "unit"
        values[name] = run.finish(values[name], clips=clips, value_range=ends, main=not run.verdicts)
    images = run.verdicts or run.judged
    if latents == "refuse" and not images and any("latent" in name for name in held):
        raise UncoveredError(
            "this modular pipeline would return latents unchecked: let it decode them, or attach with latents='allow'"
        )
    if latents == "refuse" and run.flagged:
        for name in held:
            values[name] = None


def _same(value: Any, given: frozenset[Any]) -> bool:
    """Whether its content is that of an argument."""
    return all(content(part) in given for part in _each(value))


def _undecoded(name: str, value: Any) -> bool:
    """Whether it is an undecoded image: known by a word in its name, or by a shape that no image has.

    A value with three channels is an image under any name, since latents have four or more.
    """
    if _has_pil(value):
        return False
    said = not _UNDECODED.isdisjoint(name.split("_"))
    return (said and not _has_colours(value)) or not layouts.looks_like_images(value)


def _has_colours(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_has_colours(part) for part in value)
    return value.ndim >= 4 and 3 in {value.shape[-3], value.shape[-1]} if _holds(value) else False


def _place(name: str) -> int:
    return seams.IMAGES.index(name) if name in seams.IMAGES else len(seams.IMAGES)


def _signed(value: Any) -> bool:
    """Whether tensors contain values below zero, as inputs prepared for a model do."""
    if isinstance(value, (list, tuple)):
        return any(_signed(part) for part in value)
    return isinstance(value, Tensor) and value.is_floating_point() and bool(value.min() < 0)


def _has_pil(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_has_pil(part) for part in value)
    return isinstance(value, Image.Image)


def _holds(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds(part) for part in value)
    return isinstance(value, (Tensor, np.ndarray, Image.Image))
