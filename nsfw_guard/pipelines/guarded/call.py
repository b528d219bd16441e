"""One guarded call of a pipeline: checks of its inputs, the call itself, and its outputs."""

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
    """The options of `attach`."""

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
    """Run the call and return its judged output; the verdicts are in `run`."""
    arguments = inputs.arguments_of(call, pipe, args, kwargs)
    inputs.refuse_exits(pipe, arguments, options.latents)
    inputs.refuse_prompts(options.guard, arguments, options.text_model)
    if options.check_inputs:
        inputs.refuse_images(options.guard, arguments, options.latents)
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
    # A new exception, since the traceback of the caught one holds the images.
    raise BlockedError(*verdicts)


def _apart(kwargs: Mapping[str, Any], run: GuardedCall) -> dict[str, Any]:
    """The arguments, with plain-function callbacks wrapped; pipelines check the class of other callbacks."""
    functions = {k: v for k, v in kwargs.items() if k in inputs.CALLBACKS and inspect.isroutine(v)}
    return {**kwargs, **{name: run.apart(function) for name, function in functions.items()}}


def part_call(
    call: Callable[..., Any], pipe: Any, args: Sequence[Any], kwargs: Mapping[str, Any], *, run: GuardedCall
) -> Any:
    """Run the inner pipeline of a guarded one: its images are judged, latents may pass, and the outer call reports."""
    arguments = inputs.arguments_of(call, pipe, args, kwargs)
    out = call(pipe, *args, **kwargs)
    return guard_output(pipe, out, run, "allow", arguments, outermost=False)


def _watching(pipe: Any, options: AttachOptions, arguments: Mapping[str, Any]) -> AbstractContextManager[Any]:
    if options.early_stop is None or isinstance(options.guard.action, Flag):  # `flag` never stops a generation
        return nullcontext()
    return options.early_stop.watch(pipe, options.guard, arguments)


def _free(pipe: Any) -> None:
    """Move offloaded parts off the device, as the end of the call would have done."""
    if hasattr(pipe, "maybe_free_model_hooks"):
        pipe.maybe_free_model_hooks()


def device_of(pipe: Any) -> torch.device | None:
    """Return the device of a pipe, or None for the host: images from the host are judged there."""
    try:
        device = torch.device(pipe._execution_device)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return None
    return None if device.type in {"cpu", "meta"} else device
