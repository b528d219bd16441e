"""Another try with a fresh seed, for the blocked pictures only."""

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
    """What came of it, and what it took.

    `images` are of the kind that the pipeline gives, one entry a picture or clip; `tries` says how often each was
    drawn; `drawn` is all that was drawn.
    """

    images: Any
    verdicts: tuple[Verdict, ...]
    tries: tuple[int, ...]
    seeds: tuple[int, ...]
    calls: int
    seconds: float

    @property
    def drawn(self) -> int:
        """Pictures that were drawn, all together."""
        return sum(self.tries)

    @property
    def nsfw_content_detected(self) -> list[bool]:
        """Which are still blocked after the last try."""
        return [verdict.flagged for verdict in self.verdicts]


def regenerate(pipe: Any, guard: Guard, *, attempts: int = 3, seed: int = 0, **call: Any) -> Regenerated:
    """Draws, and draws those that were blocked again with fresh seeds, up to `attempts` times in all.

    Args:
        pipe: the pipeline. If it is not guarded yet, `guard` is attached for the duration of the call.
        guard: what judges and acts. What is still blocked after the last attempt leaves as it says.
        attempts: calls at most that any one picture may take.
        seed: of the first picture; picture i of try t has the seed `seed + i + 1000003 * t`.
        call: the pipeline's own arguments. It takes its seeds from here: leave `generator` and `latents` out.

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
        raise ConfigError(f"attempts={attempts}: at least one is needed to draw anything")
    for name in ("generator", "latents"):
        if call.get(name) is not None:
            raise ConfigError(f"{name} is set: leave it out and give `seed`, or every try draws the same again")
    if not call.get("return_dict", True):
        raise ConfigError("return_dict=False: leave it out, what is given back has the pictures and the verdicts")


@contextmanager
def _guarded(pipe: Any, guard: Guard) -> Iterator[None]:
    attachment = vars_of(pipe).get(GUARD_ATTR)
    if isinstance(attachment, Attachment):
        if attachment.guard is not guard:
            raise ConfigError(f"this {type(pipe).__name__} has another guard: detach it, or regenerate with that one")
        yield
        return
    with attach(pipe, guard):
        yield


def _first(pipe: Any, call: Mapping[str, Any], seed: int) -> tuple[Any, int]:
    """The first try, and how many entries it gave."""
    count = _prompts(call) * int(call.get("num_images_per_prompt") or call.get("num_videos_per_prompt") or 1)
    out = pipe(**call, generator=_generators(pipe, [seed + i for i in range(count)]))
    if len(out.verdicts) != count:
        raise ConfigError(
            f"{type(pipe).__name__} gave {len(out.verdicts)} entries where {count} were asked for: give `prompt`, or "
            "call it yourself"
        )
    return out, count


def _prompts(call: Mapping[str, Any]) -> int:
    """How many prompts there are."""
    prompt, embeds = call.get("prompt"), call.get("prompt_embeds")
    if isinstance(prompt, (list, tuple)):
        return len(prompt)
    if prompt is None and isinstance(embeds, (Tensor, list, tuple)):
        return len(embeds)
    return int(call.get("batch_size") or 1)


def _only(call: Mapping[str, Any], places: Sequence[int], count: int) -> dict[str, Any]:
    """The call for some of its pictures: one a prompt, what comes in one a prompt cut down to theirs."""
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
    """An argument cut down to some prompts, where it has one part for each."""
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
    return next(name for name in seams.PICTURES if name in out)


def _merged(images: Any, redone: Any, places: Sequence[int]) -> Any:
    """The new ones at their places: the others stay the objects that they are."""
    if isinstance(images, list):
        merged = list(images)
        for i, new in zip(places, redone, strict=True):
            merged[i] = new
        return merged
    out = images.clone() if isinstance(images, Tensor) else images.copy()
    for i, new in zip(places, redone, strict=True):
        out[i] = new
    return out
