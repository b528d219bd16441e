"""Generates blocked images again, with new seeds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines import seams
from nsfw_guard.pipelines.attach import Attachment, attach
from nsfw_guard.pipelines.guarded.processors import GUARD_ATTR, vars_of
from nsfw_guard.verdict import Verdict


@dataclass(frozen=True)
class Regenerated:
    """The result of `regenerate`.

    `images` have the pipeline's own type, with one entry per image or clip; `tries` is the number of tries for each;
    `drawn` is the number of all images generated.
    """

    images: Any
    verdicts: tuple[Verdict, ...]
    tries: tuple[int, ...]
    seeds: tuple[int, ...]
    calls: int
    seconds: float

    @property
    def drawn(self) -> int:
        """The number of all images generated."""
        return sum(self.tries)

    @property
    def nsfw_content_detected(self) -> list[bool]:
        """For each entry, whether it is still blocked after the last try."""
        return [verdict.flagged for verdict in self.verdicts]


def regenerate(pipe: Any, guard: Guard, *, attempts: int = 3, seed: int = 0, **call: Any) -> Regenerated:
    """Generate images, and generate blocked ones again with new seeds, up to `attempts` times in all.

    Args:
        pipe: the pipeline. If it is not guarded yet, `guard` is attached for the duration of the call.
        guard: the guard. Its action applies to images that are still blocked after the last attempt.
        attempts: the most tries for each image.
        seed: the seed of the first image; image i of try t has the seed `seed + i + 1000003 * t`.
        call: the pipeline's own arguments, without `generator` and `latents`, since seeds are set here.

    Example:
        ```python
        result = regenerate(pipe, guard, attempts=2, prompt=["a blue star on grey"], num_inference_steps=10)
        ```
    """
    _check(attempts, call)
    started = time.perf_counter()
    with _guarded(pipe, guard):
        out, count = _first(pipe, call, seed)
        field = _field(out)
        images, verdicts = out[field], list(out.verdicts)
        tries, seeds = [1] * count, [seed + i for i in range(count)]
        calls = 1
        for attempt in range(1, attempts):
            again = [i for i, verdict in enumerate(verdicts) if verdict.flagged]
            if not again:
                break
            fresh = [seed + i + 1_000_003 * attempt for i in again]
            redone = pipe(**_only(call, again, count), generator=_generators(pipe, fresh))
            calls += 1
            images = _merged(images, redone[field], again)
            for place, i in enumerate(again):
                verdicts[i], seeds[i] = redone.verdicts[place], fresh[place]
                tries[i] += 1
    return Regenerated(images, tuple(verdicts), tuple(tries), tuple(seeds), calls, time.perf_counter() - started)


def _check(attempts: int, call: Mapping[str, Any]) -> None:
    if attempts < 1:
        raise ConfigError(f"attempts must be at least 1, got {attempts}")
    for name in ("generator", "latents"):
        if call.get(name) is not None:
            raise ConfigError(f"{name} is set, so every try would give the same images: omit it and pass `seed`")
    if not call.get("return_dict", True):
        raise ConfigError("return_dict=False is not supported: omit it, since the result has images and verdicts")


@contextmanager
def _guarded(pipe: Any, guard: Guard) -> Iterator[None]:
    attachment = vars_of(pipe).get(GUARD_ATTR)
    if isinstance(attachment, Attachment):
        if attachment.guard is not guard:
            raise ConfigError(f"this {type(pipe).__name__} has another guard: detach it, or pass that one")
        yield
        return
    with attach(pipe, guard):
        yield


def _first(pipe: Any, call: Mapping[str, Any], seed: int) -> tuple[Any, int]:
    """The output of the first try, and its number of entries."""
    count = _prompts(call) * int(call.get("num_images_per_prompt") or call.get("num_videos_per_prompt") or 1)
    out = pipe(**call, generator=_generators(pipe, [seed + i for i in range(count)]))
    if len(out.verdicts) != count:
        raise ConfigError(
            f"{type(pipe).__name__} returned {len(out.verdicts)} entries, expected {count}: pass `prompt`, or call the "
            "pipeline yourself"
        )
    return out, count


def _prompts(call: Mapping[str, Any]) -> int:
    """The number of prompts."""
    prompt, embeds = call.get("prompt"), call.get("prompt_embeds")
    if isinstance(prompt, (list, tuple)):
        return len(prompt)
    if prompt is None and isinstance(embeds, (Tensor, list, tuple)):
        return len(embeds)
    return int(call.get("batch_size") or 1)


def _only(call: Mapping[str, Any], places: Sequence[int], count: int) -> dict[str, Any]:
    """The arguments for some of the images: one per prompt, with per-prompt arguments reduced to theirs."""
    prompts = _prompts(call)
    each = count // prompts
    owners = [place // each for place in places]
    arguments = {name: _slice(name, value, owners, prompts) for name, value in call.items()}
    for name in ("num_images_per_prompt", "num_videos_per_prompt"):
        if name in arguments:
            arguments[name] = 1
    if "batch_size" in arguments:
        arguments["batch_size"] = len(owners)
    if isinstance(arguments.get("prompt"), str):
        arguments["prompt"] = [arguments["prompt"]] * len(owners)
    return arguments


def _slice(name: str, value: Any, owners: Sequence[int], prompts: int) -> Any:
    """An argument reduced to some prompts, where it has one part for each."""
    parted = any(word in name for word in ("prompt", "image", "label", "embed", "mask", "video"))
    if not parted or isinstance(value, str) or not isinstance(value, (list, tuple, Tensor)) or len(value) != prompts:
        return value
    if isinstance(value, Tensor):
        return value[torch.tensor(list(owners))]
    return [value[i] for i in owners]


def _generators(pipe: Any, seeds: Sequence[int]) -> Any:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return generators[0] if len(generators) == 1 else generators


def _field(out: Any) -> str:
    return next(name for name in seams.IMAGES if name in out)


def _merged(images: Any, redone: Any, places: Sequence[int]) -> Any:
    """The images with new ones at their places; the others stay the same objects."""
    if isinstance(images, list):
        merged = list(images)
        for i, new in zip(places, redone, strict=True):
            merged[i] = new
        return merged
    out = images.clone() if isinstance(images, Tensor) else images.copy()
    for i, new in zip(places, redone, strict=True):
        out[i] = new
    return out
