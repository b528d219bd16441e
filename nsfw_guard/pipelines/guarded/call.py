"""One guarded call of a pipeline: what is asked and handed in, the call itself, and what leaves it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from nsfw_guard.actions import Flag
from nsfw_guard.errors import BlockedError, UncoveredError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.early.stop import EarlyStop, Stopped
from nsfw_guard.pipelines.guarded import inputs
from nsfw_guard.pipelines.guarded.leaving import guard_output
from nsfw_guard.pipelines.guarded.modular import came_in
from nsfw_guard.pipelines.guarded.run import Cover, GuardedCall, running
from nsfw_guard.pipelines.guarded.stopped import blocked_output
from nsfw_guard.pipelines.seams import is_modular


@dataclass(frozen=True, kw_only=True)
class AttachOptions:
    """How a pipeline is guarded: what `attach` was told."""

    guard: Guard
    cover: Cover
    latents: inputs.Latents = "refuse"
    check_inputs: bool = False
    text_model: inputs.TextModel | None = None
    early_stop: EarlyStop | None = None


def guarded_call(
    call: Callable[..., Any],
    pipe: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    options: AttachOptions,
    run: GuardedCall,
) -> Any:
    """Return what the call gives, safe; `run` knows the verdicts afterwards."""
    arguments = inputs.arguments_of(call, pipe, args, kwargs)
    inputs.refuse_exits(pipe, arguments, options.latents)
    inputs.refuse_prompts(options.guard, arguments, options.text_model)
    if options.check_inputs:
        inputs.refuse_pictures(options.guard, arguments, options.latents)
    if is_modular(type(pipe)):
        run.given = came_in(arguments)
    try:
        with running(run):
            with _watching(pipe, options, arguments):
                out = call(pipe, *args, **_apart(kwargs, run))
            return guard_output(pipe, out, run, options.latents, arguments)
    except Stopped as stopped:
        _free(pipe)
        return blocked_output(pipe, stopped.verdicts, stopped.size, run, arguments)
    except BlockedError as error:
        verdicts = error.verdicts
    except UncoveredError:
        _free(pipe)
        raise
    _free(pipe)
    # Raised anew: the frames of the one that was caught hold the pictures.
    raise BlockedError(*verdicts)


def _apart(kwargs: Mapping[str, Any], run: GuardedCall) -> dict[str, Any]:
    """The arguments, with callbacks that are plain functions set apart; pipelines look at the class of others."""
    functions = {k: v for k, v in kwargs.items() if k in inputs.CALLBACKS and inspect.isroutine(v)}
    return {**kwargs, **{name: run.apart(function) for name, function in functions.items()}}


def part_call(
    call: Callable[..., Any], pipe: Any, args: Sequence[Any], kwargs: Mapping[str, Any], *, run: GuardedCall
) -> Any:
    """Run an inner pipeline of a guarded one: its images are judged, latents may pass, and the outer call tells of
    it.
    """
    arguments = inputs.arguments_of(call, pipe, args, kwargs)
    out = call(pipe, *args, **kwargs)
    return guard_output(pipe, out, run, "allow", arguments, outermost=False)


def _watching(pipe: Any, options: AttachOptions, arguments: Mapping[str, Any]) -> AbstractContextManager[Any]:
    if options.early_stop is None or isinstance(options.guard.action, Flag):  # marking never stops
        return nullcontext()
    return options.early_stop.watch(pipe, options.guard, arguments)


def _free(pipe: Any) -> None:
    """Takes offloaded parts off the device again, as the end of the call would have."""
    if hasattr(pipe, "maybe_free_model_hooks"):
        pipe.maybe_free_model_hooks()


def device_of(pipe: Any) -> torch.device | None:
    """Return where a pipe runs, or None for the host: pictures that come from the host are judged there too."""
    try:
        device = torch.device(pipe._execution_device)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return None
    return None if device.type in {"cpu", "meta"} else device
