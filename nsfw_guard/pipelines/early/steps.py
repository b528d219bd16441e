"""A scheduler's steps as they are taken: seen from a wrapper around `step` that is gone afterwards."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

from torch import Tensor

from nsfw_guard.pipelines.early import x0

Step = tuple[tuple[Any, ...], dict[str, Any], Any]  # what a step was given, by place and by name, and what it gave


class _Wrapper:
    """What stands in for one scheduler's `step`, with its signature.

    It is not taken along into a copy of the scheduler: LTX-2 copies it in the middle of a call, for sound, and the
    copy's steps must be its own.
    """

    def __init__(self, scheduler: Any, after: Callable[[Step], None]) -> None:
        self.scheduler, self.after = scheduler, after
        self.own = vars(scheduler).get("step")
        self.original = scheduler.step
        functools.update_wrapper(self, self.original)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        named = kwargs.pop("return_dict", True)
        result = self.original(*args, **kwargs, return_dict=True)
        self.after((args, kwargs, result))
        return result if named else result.to_tuple()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        twin = memo.get(id(self.scheduler))
        if twin is None:  # only what the scheduler holds is copied, to be put back
            return self
        return MethodType(type(twin).step, twin) if self.own is None else copy.deepcopy(self.own, memo)


@contextmanager
def around(scheduler: Any, after: Callable[[Step], None]) -> Iterator[None]:
    """Calls `after` with what each step was given and gave. What stood there before stands there again afterwards."""
    step = _Wrapper(scheduler, after)
    vars(scheduler)["step"] = step
    try:
        yield
    finally:
        if vars(scheduler).get("step") is step:
            del vars(scheduler)["step"]
            if step.own is not None:
                vars(scheduler)["step"] = step.own


@contextmanager
def clean_latents(pipe: Any) -> Iterator[list[Tensor]]:
    """Collect the clean latents of every step that is taken within."""
    collected: list[Tensor] = []
    with around(pipe.scheduler, lambda step: collected.append(clean(pipe.scheduler, step))):
        yield collected


def watchable(scheduler: Any) -> bool:
    """Return whether the clean latents of a scheduler's steps can be told, and its results by name."""
    if not hasattr(scheduler, "step") or not x0.known(scheduler):
        return False
    return "return_dict" in inspect.signature(scheduler.step).parameters


def clean(scheduler: Any, step: Step) -> Tensor:
    """Return the clean latents that a step foresees."""
    given = _given(step)
    return x0.predict(scheduler, given["model_output"], given["timestep"], given["sample"], step[2])


def timestep(step: Step) -> float | None:
    """Return the one timestep of a step, or nothing where each picture has its own."""
    value = _given(step).get("timestep")
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 else None
    return float(value) if isinstance(value, (int, float)) else None


def planned(scheduler: Any, first: float | None) -> int:
    """Return how many steps there will be: of a schedule that is entered late (picture to picture), what is left of
    it.
    """
    times = _times(scheduler)
    index = getattr(scheduler, "step_index", None)
    if index is not None:
        return len(times) - (int(index) - 1)
    return len(times) - times.index(first) if first in times else len(times)


def stray(scheduler: Any, now: float | None, number: int, of: int) -> bool:
    """Return whether this is another step than its number says: some pipelines step twice from the same timestep."""
    times = _times(scheduler)
    index = len(times) - of + number - 1
    return now in times and not (index < len(times) and times[index] == now)


def _given(step: Step) -> dict[str, Any]:
    args, kwargs, _ = step
    return dict(zip(("model_output", "timestep", "sample"), args, strict=False)) | kwargs


def _times(scheduler: Any) -> list[float]:
    times = getattr(scheduler, "timesteps", ())
    return [float(t) for t in (times.tolist() if hasattr(times, "tolist") else times)]  # one wait for the device
