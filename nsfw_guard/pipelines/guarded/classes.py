"""Guarded subclasses of pipeline classes, with the same name, since diffusers and users read `type(pipe).__name__`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from nsfw_guard.errors import ConfigError
from nsfw_guard.pipelines.guarded.processors import GUARD_ATTR, WHOLE, by_hand
from nsfw_guard.pipelines.guarded.run import current
from nsfw_guard.pipelines.seams import cached_per_class

BASE = "_nsfw_guard_base"


def plain_class(pipe: Any) -> type:
    """Return the class of a pipe without a guard."""
    plain: type = vars(type(pipe)).get(BASE, type(pipe))
    return plain


@cached_per_class
def guarded_class(base: Any) -> type:
    """Return the guarded class of a pipeline class."""
    body: dict[str, Any] = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    body |= {BASE: base, "__new__": _new(base), "__call__": _call(base), **WHOLE}
    if hasattr(base, "numpy_to_pil"):
        body["numpy_to_pil"] = _numpy_to_pil(base)
    if hasattr(base, "run_safety_checker"):
        body["run_safety_checker"] = _run_safety_checker(base)
    if not hasattr(base, "enable_safety_checker"):
        body |= {"enable_safety_checker": _enable, "disable_safety_checker": _disable}
        body["requires_safety_checker"] = property(_requires)
    return type(base.__name__, (base,), body)


def _outermost(cls: type) -> Any:
    """The plain class of the first guarded class among a class and its bases."""
    return next(vars(one)[BASE] for one in cls.__mro__ if BASE in vars(one))


def _new(base: Any) -> Any:
    """Make the guarded class create plain pipes: `type(pipe)(**pipe.components)`, `from_pipe`, `from_pretrained`."""

    def __new__(cls: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        return base(*args, **kwargs) if BASE in vars(cls) else object.__new__(cls)

    return __new__


def _call(base: Any) -> Any:
    original = base.__call__

    @functools.wraps(original)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        attachment = vars(self).get(GUARD_ATTR)
        # Without a guard, or called by a subclass of this one that has the guard.
        if attachment is None or _outermost(type(self)) is not base:
            return base.__call__(self, *args, **kwargs)
        return attachment.call(original, self, args, kwargs)

    return __call__


def _numpy_to_pil(base: Any) -> Any:
    """Older pipelines make their PIL images with this: judged here, while a NaN is still a NaN."""
    original = base.numpy_to_pil

    def numpy_to_pil(self: Any, images: Any) -> Any:
        run = current() or (by_hand(self) if GUARD_ATTR in vars(self) else None)
        if run is None or not (isinstance(images, np.ndarray) and images.dtype.kind == "f" and images.ndim in {3, 4}):
            return original(images)
        batch = images[None] if images.ndim == 3 else images
        tensor = torch.from_numpy(batch).movedim(-1, 1)
        tensor = tensor if run.device is None else tensor.to(run.device)
        safe, verdicts = run.guard_batch(tensor, "unit")
        if safe is not tensor:
            batch = safe.movedim(1, -1).cpu().numpy()
        output = original(batch)
        run.remember(output, verdicts)
        return output

    return numpy_to_pil


class _EmptySlot:
    """A view of a pipe without its `safety_checker`, for its own methods."""

    safety_checker = None

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)


def _run_safety_checker(base: Any) -> Any:
    """The checker in the slot is not called: the guard judges the same images, without converting them to PIL."""
    original = base.run_safety_checker

    @functools.wraps(original)
    def run_safety_checker(self: Any, *args: Any, **kwargs: Any) -> Any:
        return original(_EmptySlot(self) if _requires(self) else self, *args, **kwargs)

    return run_safety_checker


def _enable(self: Any) -> None:
    """Turn the attached guard on again."""
    _attachment(self).turn(on=True)


def _disable(self: Any) -> None:
    """Turn the attached guard off: every call logs a warning."""
    _attachment(self).turn(on=False)


def _requires(self: Any) -> bool:
    """Whether the attached guard judges."""
    return GUARD_ATTR in vars(self) and bool(_attachment(self).enabled)


def _attachment(self: Any) -> Any:
    if GUARD_ATTR not in vars(self):
        raise ConfigError(f"this {type(self).__name__} has no guard: attach one first")
    return vars(self)[GUARD_ATTR]
