"""Image processors that judge tensors before turning them into images: the seam on the device.

A guarded processor is a copy of the pipe's own, in a subclass of the same name. The original is never changed, since
other pipes may share it.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any, Protocol

from torch import Tensor

from nsfw_guard.errors import ConfigError
from nsfw_guard.pipelines.guarded.run import GuardedCall, current, running
from nsfw_guard.pipelines.seams import LATENT, cached_per_class

GUARD_ATTR = "_nsfw_guard"


class Owner(Protocol):
    """The owner of a guarded processor in a pipe. While it is not `enabled`, the processor judges nothing."""

    enabled: bool

    def run(self, pipe: Any = None) -> GuardedCall:
        """Return a new run, for images made outside any call."""
        ...


def processors_of(pipe: Any) -> dict[str, Any]:
    """Return the processors of a pipe that turn tensors into images, by attribute."""
    from diffusers.image_processor import VaeImageProcessor

    return {
        name: value
        for name, value in vars(pipe).items()
        if isinstance(value, VaeImageProcessor) or isinstance(vars_of(value).get("_image_processor"), VaeImageProcessor)
    }


def guarded(processor: Any, owner: Owner) -> Any:
    """Return a copy of a processor that judges for an owner."""
    twin = copy.copy(processor)
    inner = vars_of(twin).get("_image_processor")
    if inner is not None:
        twin._image_processor = guarded(inner, owner)
        return twin
    twin.__class__ = _subclass(type(processor))
    vars(twin)[GUARD_ATTR] = owner
    return twin


def is_guarded(processor: Any) -> bool:
    """Return whether it, or the one inside it, is a guarded copy."""
    return GUARD_ATTR in vars_of(processor) or GUARD_ATTR in vars_of(vars_of(processor).get("_image_processor"))


def by_hand(guarded: Any) -> GuardedCall | None:
    """Return a run for images made outside any call, or None while the guard is turned off."""
    owner: Owner = vars(guarded)[GUARD_ATTR]
    return owner.run() if owner.enabled else None


def vars_of(value: Any) -> dict[str, Any]:
    """Return the attributes of an object, if it has any of its own."""
    return getattr(value, "__dict__", {})


@cached_per_class
def _subclass(base: Any) -> type:
    body: dict[str, Any] = {"postprocess": _postprocess(base), "__module__": base.__module__, "__doc__": base.__doc__}
    body |= WHOLE
    if hasattr(base, "postprocess_video"):
        body["postprocess_video"] = _postprocess_video(base)
    return type(base.__name__, (base,), body)


def _copy(self: Any) -> Any:
    twin = object.__new__(type(self))
    vars(twin).update(vars(self))
    return twin


def _deepcopy(self: Any, memo: dict[int, Any]) -> Any:
    twin = memo[id(self)] = object.__new__(type(self))
    vars(twin).update(copy.deepcopy(vars(self), memo))
    return twin


def _no_pickle(self: Any, protocol: Any) -> Any:
    raise ConfigError(
        "a guarded pipeline or processor cannot be pickled, since it would lose the guard: detach it first"
    )


# Methods of every guarded class: it is copied with its guard, and never pickled without it.
WHOLE = {"__copy__": _copy, "__deepcopy__": _deepcopy, "__reduce_ex__": _no_pickle}


def _postprocess(base: Any) -> Any:
    original = base.postprocess
    signature = inspect.signature(original)

    def postprocess(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        image = bound.arguments["image"]
        images = isinstance(image, Tensor) and image.ndim == 4 and image.shape[1] in {1, 3, 4}
        run = current() or by_hand(self)
        if run is None or bound.arguments["output_type"] in LATENT or not images:
            return original(self, *args, **kwargs)
        flags = bound.arguments["do_denormalize"]
        bound.arguments["image"], verdicts = _judge(run, image, _signed(self, flags, len(image)))
        output = original(*bound.args, **bound.kwargs)
        run.remember(output, verdicts)
        return output

    postprocess.__wrapped__ = original  # type: ignore[attr-defined]
    return postprocess


def _postprocess_video(base: Any) -> Any:
    original = base.postprocess_video

    def postprocess_video(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = current()
        if run is None:
            handles_clips = by_hand(self)
            if handles_clips is None:
                return original(self, *args, **kwargs)
            with running(handles_clips):
                return postprocess_video(self, *args, **kwargs)
        with run.clips() as clip_frames:
            output = original(self, *args, **kwargs)
        run.remember(output, [verdict for judged in clip_frames for verdict in judged.verdicts.values()])
        return output

    postprocess_video.__wrapped__ = original  # type: ignore[attr-defined]
    return postprocess_video


def _signed(processor: Any, flags: Any, count: int) -> list[bool]:
    """For each image, whether it is in [-1, 1] and will be converted to [0, 1]."""
    return [processor.config.do_normalize] * count if flags is None else list(flags)


def _judge(run: GuardedCall, image: Tensor, signed: list[bool]) -> tuple[Tensor, list[Any]]:
    if all(signed) or not any(signed):
        return run.guard_batch(image, "signed" if signed[0] else "unit")
    out, verdicts = image.clone(), []
    for i, one in enumerate(signed):
        safe, judged = run.guard_batch(image[i : i + 1], "signed" if one else "unit")
        out[i] = safe[0]
        verdicts += judged
    return out, verdicts
