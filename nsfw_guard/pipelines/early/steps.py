"""Observes the steps of a scheduler by a temporary wrapper around `step`."""

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

Step = tuple[tuple[Any, ...], dict[str, Any], Any]  # positional arguments, keyword arguments and result of a step


class _Wrapper:
    """The replacement for a scheduler's `step`, with its signature.

    A copy of the scheduler does not keep it: LTX-2 copies its scheduler within a call, for sound, and the steps of the
    copy must not be counted.
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
        if twin is None:  # only the scheduler's attributes are copied, to be restored later
            return self
        return MethodType(type(twin).step, twin) if self.own is None else copy.deepcopy(self.own, memo)


@contextmanager
def around(scheduler: Any, after: Callable[[Step], None]) -> Iterator[None]:
    """Call `after` with the arguments and result of each step within the context; `step` is restored afterwards."""
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
    """Collect the clean latents of every step within the context."""
    collected: list[Tensor] = []
    with around(pipe.scheduler, lambda step: collected.append(clean(pipe.scheduler, step))):
        yield collected


def watchable(scheduler: Any) -> bool:
    """Return whether a scheduler is supported: its clean latents can be computed, and its results have names."""
    if not hasattr(scheduler, "step") or not x0.known(scheduler):
        return False
    return "return_dict" in inspect.signature(scheduler.step).parameters


def clean(scheduler: Any, step: Step) -> Tensor:
    """Return the clean latents predicted at a step."""
    given = _given(step)
    return x0.predict(scheduler, given["model_output"], given["timestep"], given["sample"], step[2])


def timestep(step: Step) -> float | None:
    """Return the timestep of a step, or None where each image has its own."""
    value = _given(step).get("timestep")
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 else None
    return float(value) if isinstance(value, (int, float)) else None


def planned(scheduler: Any, first: float | None) -> int:
    """Return the number of steps; for a schedule that is entered late (image to image), of the remaining ones."""
    times = _times(scheduler)
    index = getattr(scheduler, "step_index", None)
    if index is not None:
        return len(times) - (int(index) - 1)
    return len(times) - times.index(first) if first in times else len(times)


def stray(scheduler: Any, now: float | None, number: int, of: int) -> bool:
    """Return whether a step does not match its number: some pipelines step twice from the same timestep."""
    times = _times(scheduler)
    index = len(times) - of + number - 1
    return now in times and not (index < len(times) and times[index] == now)


def _given(step: Step) -> dict[str, Any]:
    args, kwargs, _ = step
    return dict(zip(("model_output", "timestep", "sample"), args, strict=False)) | kwargs


def _times(scheduler: Any) -> list[float]:
    times = getattr(scheduler, "timesteps", ())
    return [float(t) for t in (times.tolist() if hasattr(times, "tolist") else times)]  # one wait for the device
