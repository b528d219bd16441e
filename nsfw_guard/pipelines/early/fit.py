"""Learns the thresholds of an EarlyStop from generations that are watched and not stopped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.early.preview import LinearPreview, to_spatial
from nsfw_guard.pipelines.early.report import Report
from nsfw_guard.pipelines.early.steps import clean_latents
from nsfw_guard.pipelines.early.stop import EarlyStop, block_confidence, judge
from nsfw_guard.pipelines.guarded.processors import GUARD_ATTR, vars_of
from nsfw_guard.pipelines.guarded.ranges import tensor_range
from nsfw_guard.pipelines.seams import IMAGES

MAP_PROMPTS = 128  # generations for learning a linear map: 32 saved half as many steps, 512 no more
MIN_THRESHOLD = 0.5  # a preview with a lower score never stops a generation


@dataclass(frozen=True)
class Trace:
    """One generation: the score at each look, and whether the finished image was blocked."""

    looks: tuple[float, ...]
    blocked: bool


def fit_early_stop(
    pipe: Any,
    guard: Guard,
    prompts: Sequence[str],
    *,
    at: tuple[float, ...] = (0.3, 0.5),
    rate: float = 0.01,
    decoder: Any = "vae",
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
    if decoder == "linear":
        decoder = learn_map(pipe, prompts[:MAP_PROMPTS], seed=seed, batch_size=batch_size, call=call)
    traces = record(pipe, guard, prompts, at=at, decoder=decoder, seed=seed, batch_size=batch_size, call=call)
    thresholds = thresholds_of(traces, len(at), rate)
    early = EarlyStop(at=at, thresholds=thresholds, decoder=decoder)
    return EarlyStop(
        at=at, thresholds=thresholds, decoder=decoder, report=report_of(traces, early, rate, chosen=len(at))
    )


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


def thresholds_of(traces: Sequence[Trace], looks: int, rate: float) -> tuple[float, ...]:
    """Return for each look the lowest threshold that stops allowed images no more often than the rate.

    The stops that the rate allows, with 95% confidence, are shared by the looks, the last and best informed one first.
    Where there are too few allowed images to prove the rate, none of them may be stopped.
    """
    allowed = [trace for trace in traces if not trace.blocked]
    if not allowed:
        raise ConfigError(
            "no image of these prompts was allowed: pass prompts of allowed images, at least a few hundred"
        )
    # Each threshold is set by a different allowed image, and images above any of them count (Tukey's blocks).
    spare = max(0, most_stops(len(allowed), rate) - (looks - 1))
    thresholds: list[float] = []
    for look in range(looks):
        share = spare // looks + (1 if look >= looks - spare % looks else 0)
        seen = sorted((trace.looks[look] for trace in allowed), reverse=True)
        highest = seen[share] if share < len(seen) else 0.0
        thresholds.append(max(MIN_THRESHOLD, (1 + 2 * highest) / 3 if highest < 1 else math.nextafter(1.0, 2.0)))
    return tuple(thresholds)


def report_of(traces: Sequence[Trace], early: EarlyStop, rate: float, *, chosen: int = 1) -> Report:
    """Return the effect of these thresholds on these images; `chosen`: how many of them were chosen on these images."""
    allowed = [trace for trace in traces if not trace.blocked]
    blocked = [trace for trace in traces if trace.blocked]
    false_stops = sum(stop_at(trace, early) is not None for trace in allowed)
    stops = [stop_at(trace, early) for trace in blocked]
    saved = sum(1 - stop for stop in stops if stop is not None) / len(blocked) if blocked else 0.0
    bound = upper_bound(false_stops + chosen - 1, len(allowed))
    stopped = sum(stop is not None for stop in stops)
    return Report(len(allowed), len(blocked), false_stops, stopped, saved, rate, bound, bound <= rate)


def stop_at(trace: Trace, early: EarlyStop) -> float | None:
    """Return the fraction of the schedule at which an image would have been stopped, or None."""
    thresholds: Any = early.thresholds
    return next(
        (a for a, sure, threshold in zip(early.at, trace.looks, thresholds, strict=True) if sure >= threshold), None
    )


def upper_bound(stops: int, of: int, confidence: float = 0.95) -> float:
    """Return the upper bound of the rate, with this confidence (one-sided Clopper-Pearson)."""
    if stops >= of:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(stops, of, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def most_stops(of: int, rate: float) -> int:
    """Return the most stops among `of` images that still prove the rate; 0 also where none prove it."""
    stops = 0
    while upper_bound(stops + 1, of) <= rate:
        stops += 1
    return stops


def _at_most(stops: int, of: int, rate: float) -> float:
    """Probability of at most `stops` among `of` at this rate."""
    if rate in {0.0, 1.0}:
        return 1.0 if rate == 0.0 else float(stops >= of)
    terms = (
        math.lgamma(of + 1)
        - math.lgamma(i + 1)
        - math.lgamma(of - i + 1)
        + i * math.log(rate)
        + (of - i) * math.log1p(-rate)
        for i in range(stops + 1)
    )
    return sum(math.exp(term) for term in terms)


def _draw(pipe: Any, prompts: Sequence[str], seed: int, call: Mapping[str, Any]) -> Tensor:
    """Images for prompts, each from its own seed. Shape: (N, 3, H, W) in [0, 1]."""
    seeds = [torch.Generator().manual_seed(seed + i) for i in range(len(prompts))]
    out = pipe(list(prompts), generator=seeds, **{**call, "output_type": "pt", "return_dict": True})
    images: Tensor = next(out[name] for name in IMAGES if name in out)
    if images.ndim == 5:
        images = images[:, 0]
    return images * 0.5 + 0.5 if tensor_range(type(pipe)) == "signed" else images
