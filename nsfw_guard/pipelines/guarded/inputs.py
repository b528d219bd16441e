"""Checks of a call's arguments before any step runs: requested outputs, prompts and images."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image
from torch import Tensor

from nsfw_guard.actions import Flag
from nsfw_guard.errors import BlockedError, UncoveredError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.guarded import layouts
from nsfw_guard.pipelines.seams import LATENT, pixel_space
from nsfw_guard.verdict import Outcome, Verdict

log = logging.getLogger(__name__)

Latents = Literal["refuse", "allow"]
CALLBACKS = ("callback", "callback_on_step_end")
TextModel = Callable[[Sequence[str]], Sequence[str | None]]

_PROMPT = re.compile(r"(^|_)prompts?(_\d+)?$")
_IMAGE = re.compile(r"image|video|frame|image|reference")
_NO_IMAGE = re.compile(r"embed|latent|mask|guidance|strength|scale|num_|per_|size|noise|seed|negative|cond_")


def arguments_of(call: Any, pipe: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, with defaults. An invalid call is left to fail by itself."""
    signature = inspect.signature(call)
    try:
        bound = signature.bind(pipe, *args, **kwargs)
    except TypeError:
        return dict(kwargs)
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    rest = [name for name, one in signature.parameters.items() if one.kind is inspect.Parameter.VAR_KEYWORD]
    return {**(arguments.pop(rest[0]) if rest else {}), **arguments}


def refuse_exits(pipe: Any, arguments: Mapping[str, Any], latents: Latents) -> None:
    """Raise an error where an output is requested that nothing would judge."""
    name = type(pipe).__name__
    if latents == "allow":
        return
    asked = arguments.get("output_type")
    if asked in LATENT:
        raise UncoveredError(
            f"{name} would return output_type={asked!r} unchecked: use 'pil', 'np' or 'pt', or attach with "
            "latents='allow' where a later, guarded stage decodes it"
        )
    watched = [key for key in CALLBACKS if arguments.get(key) is not None]
    if watched and pixel_space(type(pipe)):
        raise UncoveredError(f"{name} passes unchecked images to {watched[0]}: omit it, or attach with latents='allow'")


def refuse_prompts(guard: Guard, arguments: Mapping[str, Any], text_model: TextModel | None) -> None:
    """Raise a BlockedError where a prompt is refused, before the first step."""
    texts = prompts_of(arguments)
    if not texts:
        return
    verdicts = guard.check_prompts(texts) if guard.policy.prompts else []
    if text_model is not None:
        verdicts = [*verdicts, *_asked(guard, texts, text_model)]
    held = [verdict for verdict in verdicts if not _goes_on(guard, verdict)]
    if held:
        raise BlockedError(*held)


def refuse_images(guard: Guard, arguments: Mapping[str, Any], latents: Latents) -> None:
    """Raise a BlockedError where an input image is refused, before the first step."""
    held: list[Verdict] = []
    for name, value in images_of(arguments):
        if _latent(value):
            if latents == "allow":
                continue
            raise UncoveredError(f"{name} contains latents, which cannot be judged: attach with latents='allow'")
        for frame in map(layouts.channels_for_guard, _frames(value)):
            verdicts = guard.check([frame], value_range=_range(frame))
            (safe,) = guard.apply([frame], verdicts, value_range=_range(frame))
            held += verdicts if safe is not frame else []
    if held:
        raise BlockedError(*held)


def prompts_of(arguments: Mapping[str, Any]) -> list[str]:
    """Return every prompt among the arguments, except negative ones."""
    named = [v for k, v in arguments.items() if _PROMPT.search(k) and not k.startswith("negative")]
    return [text for value in named for text in _texts(value)]


def images_of(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every argument that contains images, with its name."""
    for name, value in arguments.items():
        if _IMAGE.search(name) and not _NO_IMAGE.search(name) and _images(value):
            yield name, value


def _asked(guard: Guard, texts: Sequence[str], text_model: TextModel) -> list[Verdict]:
    """The verdicts of a text model: for each prompt a reason to refuse it, or None. If it fails, all are refused."""
    state = {"prompts": "text model"}
    try:
        reasons = list(text_model(texts))
    except Exception as error:
        log.exception("the text model failed: the prompt is refused")
        return [Verdict(Outcome.ERROR, f"{type(error).__name__}: {error}", category="prompt", state=state)]
    if len(reasons) != len(texts):
        why = f"the text model returned {len(reasons)} answers for {len(texts)} prompts"
        return [Verdict(Outcome.ERROR, why, category="prompt", state=state)]
    given = [reason for reason in reasons if reason is not None]
    return [Verdict(Outcome.BLOCK, f"prompt: {reason}", category="prompt", state=state) for reason in given]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)


def _images(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_images(part) for part in value)
    return isinstance(value, Image.Image) or (isinstance(value, (np.ndarray, Tensor)) and value.ndim >= 3)


def _frames(value: Any) -> list[Any]:
    """Every frame of an argument; an empty place, for an image to be generated, has none."""
    if isinstance(value, (list, tuple)):
        return [frame for part in value if part is not None for frame in _frames(part)]
    return layouts.frames(value)


def _latent(value: Any) -> bool:
    """Whether it is an encoded image, which some pipelines accept: a tensor without colour channels."""
    if not isinstance(value, Tensor) or value.ndim < 3:
        return False
    return not {value.shape[-3], value.shape[-1]} & {1, 3}


def _range(frame: Any) -> Literal["unit", "signed"]:
    """The range of a frame, by the pipelines' own rule: a float image with a value below zero is in [-1, 1]."""
    floats = frame.is_floating_point() if isinstance(frame, Tensor) else getattr(frame, "dtype", np.uint8) != np.uint8
    return "signed" if isinstance(frame, (np.ndarray, Tensor)) and floats and bool(frame.min() < 0) else "unit"


def _goes_on(guard: Guard, verdict: Verdict) -> bool:
    """Whether a prompt may be used: it was allowed, or the guard only marks, or it fails open."""
    if not verdict.flagged:
        return verdict.outcome in {Outcome.ALLOW, Outcome.REVIEW}
    unjudged = verdict.outcome is Outcome.ERROR
    goes = guard.fail_open and not verdict.flags if unjudged else isinstance(guard.action, Flag)
    if goes:
        log.warning("a flagged prompt is used (%s): %r", verdict.outcome.name, verdict.reason)
    return goes
