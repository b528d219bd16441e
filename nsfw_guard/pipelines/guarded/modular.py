"""What leaves a modular pipeline: one value, some, or the whole state, latents among it."""

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

# What a picture could be made from, and what steers how: numbers that no model of pictures can judge.
_UNDECODED = frozenset({
    "latent", "latents", "embed", "embeds", "embedding", "embeddings", "noise", "timestep", "timesteps", "sigma",
    "sigmas", "id", "ids", "attention", "freqs", "guidance", "keyframes", "depth",
})  # fmt: skip


def came_in(arguments: Mapping[str, Any]) -> frozenset[Any]:
    """Return what a call was handed, by what each thing held then."""
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
        out: what the pipeline gave.
        given: what came in: unchanged, it may go out again.
        asked: what the call was asked for: the name of the one value.
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
    # The first of these is what verdicts are given for.
    for name in sorted((name for name in new if name not in held), key=_place):
        clips = name in seams.CLIPS
        ends: ExitRange = "signed" if _signed(values[name]) else "unit"
        values[name] = run.finish(values[name], clips=clips, value_range=ends, main=not run.verdicts)
    pictures = run.verdicts or run.judged
    if latents == "refuse" and not pictures and any("latent" in name for name in held):
        raise UncoveredError(
            "latents would leave this modular pipeline unchecked: let it decode, or attach with latents='allow'"
        )
    if latents == "refuse" and run.flagged:
        for name in held:
            values[name] = None


def _same(value: Any, given: frozenset[Any]) -> bool:
    """Whether it holds just what something held that came in."""
    return all(content(part) in given for part in _each(value))


def _undecoded(name: str, value: Any) -> bool:
    """Whether a picture could only be made from it: known by a word of its name, or by a shape that no picture has.

    What has three channels is a picture under any name: latents have four or more.
    """
    if _has_pil(value):
        return False
    said = not _UNDECODED.isdisjoint(name.split("_"))
    return (said and not _has_colours(value)) or not layouts.looks_like_pictures(value)


def _has_colours(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_has_colours(part) for part in value)
    return value.ndim >= 4 and 3 in {value.shape[-3], value.shape[-1]} if _holds(value) else False


def _place(name: str) -> int:
    return seams.PICTURES.index(name) if name in seams.PICTURES else len(seams.PICTURES)


def _signed(value: Any) -> bool:
    """Whether tensors hold values below zero, as what a processor prepared for a model does."""
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
