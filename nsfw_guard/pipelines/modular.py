"""What leaves a modular pipeline: one value, some, or the whole state, latents among it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from nsfw_guard.errors import UncoveredError
from nsfw_guard.pipelines import seams
from nsfw_guard.pipelines.inputs import Latents
from nsfw_guard.pipelines.run import Run

# Made of pictures on the way to the user's own: the pictures that were handed in, and their masks.
_INPUTS = frozenset({"image", "mask_image", "control_image", "original_image", "reference_images"})


def leave_state(out: Any, run: Run, latents: Latents, told: Mapping[str, Any]) -> Any:
    """A state, a dictionary of its values, or one value, safe.

    Args:
        out: what the pipeline gave.
        told: the call's own arguments: what came in is not judged when it goes out.
    """
    values = getattr(out, "values", None)
    if isinstance(values, dict):
        _leave(values, run, latents, told)
        return out
    asked = told.get("output")
    if isinstance(out, dict):
        made = dict(out)
        _leave(made, run, latents, told)
        return made
    one = {str(asked): out}
    _leave(one, run, latents, told)
    return one[str(asked)]


def _leave(values: dict[str, Any], run: Run, latents: Latents, told: Mapping[str, Any]) -> None:
    names = [name for name in seams.PICTURES if name in values and name not in told and name not in _INPUTS]
    for name in names:
        clips = name in seams.CLIPS
        values[name] = run.settle(values[name], clips=clips, main=not run.verdicts)
    held = [name for name in _undecoded(values, names) if name not in told]
    pictures = run.verdicts or run.judged
    if latents == "refuse" and not pictures and any("latent" in name for name in held):
        raise UncoveredError(
            "latents would leave this modular pipeline unchecked: let it decode, or attach with latents='allow'"
        )
    if latents == "refuse" and run.flagged:
        for name in held:
            values[name] = None


def _undecoded(values: Mapping[str, Any], pictures: Iterable[str]) -> list[str]:
    """The values that a picture could be made from, beside the pictures themselves."""
    return [name for name, value in values.items() if name not in pictures and _holds(value)]


def _holds(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds(part) for part in value)
    return isinstance(value, (Tensor, np.ndarray, Image.Image))
