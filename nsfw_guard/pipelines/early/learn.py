"""Learns a head for each look from watched generations, and keeps it only where it beats the decoder.

One half of the prompts is for learning: heads are compared with the decoder on it, each run by a head that was trained
without its prompt. The other half sees nothing of that, and sets the thresholds with heads; all runs set those of the
decoder alone. Each is proven with 97.5% confidence, so that the one that saves more on the other half is with 95%.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nsfw_guard.errors import ConfigError
from nsfw_guard.pipelines.early.bounds import CONFIDENCE, Trace, least_allowed, report_of, thresholds_of
from nsfw_guard.pipelines.early.head import LatentHead, pooled
from nsfw_guard.pipelines.early.preview import preview_of, to_spatial
from nsfw_guard.pipelines.early.report import HeadReport
from nsfw_guard.pipelines.early.stop import EarlyStop

FOLDS = 4
OF_TWO = 1 - (1 - CONFIDENCE) / 2  # the confidence of each of two sets of thresholds, one of which is chosen
MIN_DIFFERENT = 4 * FOLDS  # prompts: two in each fold and as many for the promise
MIN_EACH = 20  # allowed and blocked runs that heads are learnt from: with fewer, the comparison says nothing


class TooFewRunsError(ConfigError):
    """Heads cannot be learnt from so few generations; `needed` says how many it takes at least."""

    def __init__(self, what: str, count: int, needed: int) -> None:
        self.count, self.needed = count, needed
        super().__init__(
            f"learning heads needs {needed} {what} at least, got {count}: pass more prompts, or fit without heads"
        )


class LatentKeeper:
    """A decoder of previews that also keeps the latents of every look, made smaller."""

    def __init__(self, decoder: Any) -> None:
        self.preview, self.kept = preview_of(decoder), list[Tensor]()
        self.shape = (0, 0, 0)

    def __call__(self, pipe: Any, x0: Tensor, arguments: Mapping[str, Any]) -> Tensor:
        """Return the preview. Shape: (N, 3, H, W) in [0, 1]."""
        latents = to_spatial(pipe, x0, arguments)
        channels, height, width = latents.shape[1:]
        if self.kept and self.shape != (channels, height, width):
            raise ConfigError("heads are learnt from latents of one shape, but these calls have several")
        self.shape = channels, height, width
        self.kept.append(pooled(latents))
        return self.preview(pipe, x0, arguments)

    def by_look(self, looks: int) -> list[Tensor]:
        """Return for each look the latents of all runs, in their order. Shape of each: (N, C, h, w)."""
        return [torch.cat(self.kept[look::looks]) for look in range(looks)]


@dataclass(frozen=True)
class Learnt:
    """Heads for the looks where they are better, and the runs that thresholds are set on, seen through these heads.

    `decoder_saved` and `heads_saved` are the shares of steps that both would save on the second half's blocked images.
    """

    heads: tuple[LatentHead | None, ...]
    traces: list[Trace]
    report: tuple[HeadReport, ...]
    decoder_saved: float
    heads_saved: float


def check_prompts(prompts: Sequence[str], looks: int, rate: float) -> None:
    """Refuse, before anything is generated, prompts that cannot be enough.

    Raises:
        TooFewRunsError: it takes more of them.
    """
    needed = least_allowed(looks, rate, OF_TWO) + 2 * MIN_EACH
    if not len(prompts) >= needed:
        raise TooFewRunsError(f"prompts for a rate of {rate:.3g}", len(prompts), needed)
    if not len(set(prompts)) >= MIN_DIFFERENT:
        raise TooFewRunsError("different prompts", len(set(prompts)), MIN_DIFFERENT)


def learn_heads(
    prompts: Sequence[str],
    traces: Sequence[Trace],
    keeper: LatentKeeper,
    *,
    at: tuple[float, ...],
    rate: float,
    seed: int = 0,
) -> Learnt:
    """Learn heads, and return those that would stop more blocked generations than the decoder at the same bound.

    Args:
        prompts, traces: of each generation, with the decoder's scores.
        keeper: the decoder that kept the latents of all of them.
        at, rate: as in `fit_early_stop`.
        seed: of the training.

    Raises:
        TooFewRunsError: too few generations were allowed or blocked.
    """
    learning, promised, fold_of = _divided(prompts)
    _check_runs([traces[i] for i in learning], [traces[i] for i in promised], len(at), rate)
    blocked, latents = [trace.blocked for trace in traces], keeper.by_look(len(at))

    def trained(look: int, rows: Sequence[int]) -> LatentHead:
        return LatentHead.fit(latents[look][list(rows)], [blocked[i] for i in rows], keeper.shape, seed=seed)

    crossed = [dict[int, float]() for _ in at]
    for look in range(len(at)):
        for fold in range(FOLDS):
            held = [i for i in learning if fold_of[prompts[i]] == fold]
            if held:
                head = trained(look, [i for i in learning if fold_of[prompts[i]] != fold])
                crossed[look].update(zip(held, head.answers(latents[look][held]), strict=True))
    by_head = [Trace(tuple(scores[i] for scores in crossed), blocked[i]) for i in learning]
    report = tuple(_compared([traces[i] for i in learning], by_head, at, rate))
    heads = tuple(trained(look, learning) if one.kept else None for look, one in enumerate(report))
    by_heads = list(seen_through(heads, traces, latents, promised))
    # Without heads there is nothing to learn, so the decoder's thresholds are set on all runs.
    saved = _saved([traces[i] for i in promised], traces, at, rate)
    saved_by_heads = _saved(by_heads, by_heads, at, rate)
    if saved_by_heads > saved:
        return Learnt(heads, by_heads, report, saved, saved_by_heads)
    report = tuple(replace(one, kept=False) for one in report)
    return Learnt((None,) * len(at), list(traces), report, saved, saved_by_heads)


def _saved(runs: Sequence[Trace], set_on: Sequence[Trace], at: tuple[float, ...], rate: float) -> float:
    """The share of the steps of blocked images that thresholds would save."""
    early = EarlyStop(at=at, thresholds=thresholds_of(set_on, len(at), rate, confidence=OF_TWO))
    return report_of(runs, early, rate).saved


def _divided(prompts: Sequence[str]) -> tuple[list[int], list[int], dict[str, int]]:
    """Runs for learning, runs for the promise, and the fold of each prompt; all runs of a prompt stay together."""
    ordered = sorted(set(prompts), key=lambda prompt: hashlib.sha256(prompt.encode()).digest())
    rank = {prompt: i for i, prompt in enumerate(ordered)}
    parts = [[i for i, prompt in enumerate(prompts) if rank[prompt] % 2 == part] for part in (0, 1)]
    return parts[0], parts[1], {prompt: i // 2 % FOLDS for prompt, i in rank.items()}


def _check_runs(learning: Sequence[Trace], promised: Sequence[Trace], looks: int, rate: float) -> None:
    needs = (
        ("blocked generations to learn from", sum(t.blocked for t in learning), MIN_EACH),
        ("allowed generations to learn from", sum(not t.blocked for t in learning), MIN_EACH),
        (
            f"allowed generations to set thresholds on for a rate of {rate:.3g}",
            sum(not t.blocked for t in promised),
            least_allowed(looks, rate, OF_TWO),
        ),
    )
    for what, count, needed in needs:
        if not count >= needed:
            raise TooFewRunsError(f"{what} (half of all)", count, needed)


def _compared(
    by_decoder: Sequence[Trace], by_head: Sequence[Trace], at: tuple[float, ...], rate: float
) -> Iterator[HeadReport]:
    blocked = sum(trace.blocked for trace in by_decoder)
    thresholds = [thresholds_of(one, len(at), rate, confidence=OF_TWO) for one in (by_decoder, by_head)]
    for look, share in enumerate(at):
        decoder, head = (
            sum(t.blocked and t.looks[look] >= cuts[look] for t in one) / blocked
            for one, cuts in zip((by_decoder, by_head), thresholds, strict=True)
        )
        yield HeadReport(share, len(by_decoder) - blocked, blocked, decoder, head, head > decoder)


def seen_through(
    heads: Sequence[LatentHead | None], traces: Sequence[Trace], latents: Sequence[Tensor], rows: Sequence[int]
) -> Iterator[Trace]:
    """Yield the traces of these runs, with the answers of the heads where there is one."""
    answers = [head.answers(latents[look][list(rows)]) if head else None for look, head in enumerate(heads)]
    for row, i in enumerate(rows):
        looks = (traces[i].looks[look] if by_head is None else by_head[row] for look, by_head in enumerate(answers))
        yield replace(traces[i], looks=tuple(looks))
