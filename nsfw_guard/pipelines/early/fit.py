"""Learns the thresholds of an EarlyStop from generations that are watched and not stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.early.bounds import CONFIDENCE, Trace, report_of, thresholds_of
from nsfw_guard.pipelines.early.head import LatentHead
from nsfw_guard.pipelines.early.learn import OF_TWO, LatentKeeper, check_prompts, learn_heads
from nsfw_guard.pipelines.early.origin import Origin
from nsfw_guard.pipelines.early.preview import LinearPreview, to_spatial
from nsfw_guard.pipelines.early.steps import clean_latents
from nsfw_guard.pipelines.early.stop import EarlyStop, block_confidence, judge
from nsfw_guard.pipelines.guarded.processors import GUARD_ATTR, vars_of
from nsfw_guard.pipelines.guarded.ranges import tensor_range
from nsfw_guard.pipelines.seams import IMAGES

MAP_PROMPTS = 128  # generations for learning a linear map: 32 saved half as many steps, 512 no more


def fit_early_stop(
    pipe: Any,
    guard: Guard,
    prompts: Sequence[str],
    *,
    at: tuple[float, ...] = (0.3, 0.5),
    rate: float = 0.01,
    decoder: Any = "vae",
    heads: bool = False,
    seed: int = 0,
    batch_size: int = 4,
    call: Mapping[str, Any] | None = None,
) -> EarlyStop:
    """Generate images without stopping, learn thresholds from them, and return an EarlyStop with these thresholds.

    Args:
        pipe, guard: the pipeline and the guard; the pipeline must not have a guard attached.
        prompts: mostly prompts that are allowed, and some that are blocked. About 3 / rate allowed ones prove the rate
            with one look, 5 / rate with two.
        at: fractions of the schedule at which to look.
        rate: the share of allowed images that may be stopped.
        decoder: as in EarlyStop; "linear" first learns a map from latents to colours, which costs almost nothing later
            and shows less.
        heads: also learn from half of the prompts a small network for each look, which reads the latents themselves.
            It replaces the decoder where it would stop more blocked images at the same bound; `report.heads` has both
            numbers. With heads the thresholds are set on the other half, so this takes more prompts.
        seed, batch_size, call: the seed of the first image; images per call; further arguments of the pipeline.

    Example:
        ```python
        prompts = ["a large red disc on white", "a blue star on grey"] * 2
        early = fit_early_stop(pipe, guard, prompts, call={"num_inference_steps": 10, "guidance_scale": 3.0})
        print(early.report.proven)
        ```
    """
    call = call or {}
    if GUARD_ATTR in vars_of(pipe):
        raise ConfigError("this pipeline has a guard, so blocked images cannot be measured: fit before attaching it")
    if not 0 < rate < 1:
        raise ConfigError(f"rate must be a share of allowed images between 0 and 1, such as 0.01, got {rate}")
    origin = Origin.of(pipe, guard) if heads else None
    if heads:
        check_prompts(prompts, len(at), rate)
    if decoder == "linear":
        decoder = learn_map(pipe, prompts[:MAP_PROMPTS], seed=seed, batch_size=batch_size, call=call)
    keeper = LatentKeeper(decoder)
    preview = keeper if heads else decoder
    traces = record(pipe, guard, prompts, at=at, decoder=preview, seed=seed, batch_size=batch_size, call=call)
    kept: tuple[LatentHead | None, ...] = ()
    details: dict[str, Any] = {}
    if heads:
        learnt = learn_heads(prompts, traces, keeper, at=at, rate=rate, seed=seed)
        traces, kept = learnt.traces, learnt.heads
        details = {n: getattr(learnt, n) for n in ("decoder_saved", "heads_saved")} | {"heads": learnt.report}
    confidence = OF_TWO if heads else CONFIDENCE
    thresholds = thresholds_of(traces, len(at), rate, confidence=confidence)
    early = EarlyStop(at=at, thresholds=thresholds, decoder=decoder, heads=kept, origin=origin if any(kept) else None)
    report = report_of(traces, early, rate, chosen=len(at), confidence=confidence)
    return replace(early, report=replace(report, **details))


def record(
    pipe: Any,
    guard: Guard,
    prompts: Sequence[str],
    *,
    at: tuple[float, ...],
    decoder: Any,
    seed: int,
    batch_size: int,
    call: Mapping[str, Any],
) -> list[Trace]:
    """Record the scores at each look for each prompt's image, and its final verdict."""
    watcher = EarlyStop(at=at, decoder=decoder)
    traces: list[Trace] = []
    for start in range(0, len(prompts), batch_size):
        part = list(prompts[start : start + batch_size])
        with watcher.watch(pipe, guard, call, stop=False) as seen:
            images = _draw(pipe, part, seed + start, call)
        if seen.unwatched is not None or len(seen.looks) != len(at):
            raise ConfigError(f"this pipeline cannot be stopped early ({seen.unwatched}): use it without early_stop")
        final = judge(guard, images)
        for i, verdict in enumerate(final):
            traces.append(Trace(tuple(block_confidence(seen.looks[a][i]) for a in at), verdict.flagged))
    return traces


def learn_map(
    pipe: Any, prompts: Sequence[str], *, seed: int, batch_size: int, call: Mapping[str, Any]
) -> LinearPreview:
    """Learn the linear map from the last clean latents to the finished images."""
    kept: list[Tensor] = []
    images: list[Tensor] = []
    for start in range(0, len(prompts), batch_size):
        part = list(prompts[start : start + batch_size])
        with clean_latents(pipe) as latents:
            images.append(_draw(pipe, part, seed + start, call).cpu())
        kept.append(to_spatial(pipe, latents[-1], call).cpu())
    return LinearPreview.fit(torch.cat(kept), torch.cat(images))


def _draw(pipe: Any, prompts: Sequence[str], seed: int, call: Mapping[str, Any]) -> Tensor:
    """Images for prompts, each from its own seed. Shape: (N, 3, H, W) in [0, 1]."""
    seeds = [torch.Generator().manual_seed(seed + i) for i in range(len(prompts))]
    out = pipe(list(prompts), generator=seeds, **{**call, "output_type": "pt", "return_dict": True})
    images: Tensor = next(out[name] for name in IMAGES if name in out)
    if images.ndim == 5:
        images = images[:, 0]
    return images * 0.5 + 0.5 if tensor_range(type(pipe)) == "signed" else images
