"""Early stopping: looks at the predicted clean image during generation, and stops one that is certain to be blocked."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nsfw_guard.backends.base import checked_scores
from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.jsonfile import read_json
from nsfw_guard.pipelines.early import steps
from nsfw_guard.pipelines.early.head import LatentHead
from nsfw_guard.pipelines.early.origin import Origin
from nsfw_guard.pipelines.early.preview import LinearPreview, preview_of, to_spatial
from nsfw_guard.pipelines.early.report import Report
from nsfw_guard.verdict import Outcome, Verdict

log = logging.getLogger(__name__)

HEAD = "early-stop"  # the category of verdicts by a learnt head, which knows that an image is blocked but not why
MIN_STEPS = 5  # planned steps; with fewer, previews come too late and little is saved


class Stopped(Exception):  # noqa: N818 - not an error: it leaves the pipeline's call with the verdicts
    """Generation was stopped: every image of the call is certain to be blocked."""

    def __init__(self, verdicts: Sequence[Verdict], size: tuple[int, int] | None, step: int, planned: int) -> None:
        super().__init__(f"stopped at step {step} of {planned}")
        self.verdicts = tuple(verdicts)
        self.size, self.step, self.planned = size, step, planned


@dataclass
class Watch:
    """The observation of one call.

    Args:
        step, planned: the current step, and the number of steps.
        looks: the verdicts of each look, by its fraction of the schedule.
        unwatched: why the call is not watched; None while it is.
        fault: the error of the last failed look.
    """

    step: int = 0
    planned: int = 0
    looks: dict[float, list[Verdict]] = field(default_factory=dict)
    unwatched: str | None = None
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class EarlyStop:
    """Settings for early stopping: when to look, and from which score to stop.

    Args:
        at: fractions of the schedule at which to look.
        thresholds: for each look, the score from which a generation is stopped; one number applies to all looks.
            Only `fit_early_stop` measures how often they stop an image that would have been allowed.
        decoder: "vae" uses the pipe's own decoder; an AutoencoderTiny, a LinearPreview (`fit_early_stop` learns
            one) or a callable (pipe, latents, arguments) -> pixels (N, 3, H, W) in [0, 1] costs less.
        heads: for each look, the LatentHead that replaces the decoder there, or None; `fit_early_stop` learns them.
        origin: the pipeline and guard that the heads belong to; others are refused.
        report: the measurements of `fit_early_stop`, if it made this.

    Example:
        ```python
        with attach(pipe, guard, early_stop=EarlyStop(at=(0.3, 0.5), thresholds=0.9)):
            pipe("a large red disc on white", num_inference_steps=10, guidance_scale=3.0)
        ```
    """

    at: tuple[float, ...] = (0.3, 0.5)
    thresholds: tuple[float, ...] | float = 0.98
    decoder: Any = "vae"
    heads: tuple[LatentHead | None, ...] = ()
    origin: Origin | None = None
    report: Report | None = None

    def __post_init__(self) -> None:
        if not self.at or list(self.at) != sorted(set(self.at)) or not all(0 < a < 1 for a in self.at):
            raise ConfigError(
                f"at must be fractions of the schedule between 0 and 1, in order, such as (0.3, 0.5), got {self.at}"
            )
        thresholds = (
            (self.thresholds,) * len(self.at) if isinstance(self.thresholds, (int, float)) else tuple(self.thresholds)
        )
        if len(thresholds) != len(self.at) or not all(threshold > 0 for threshold in thresholds):
            raise ConfigError(
                f"thresholds must be one score above 0 for each of the {len(self.at)} looks, got {self.thresholds}"
            )
        object.__setattr__(self, "thresholds", tuple(float(threshold) for threshold in thresholds))
        preview_of(self.decoder)
        if not (len(self.heads) in {0, len(self.at)} and (self.origin is not None or not any(self.heads))):
            raise ConfigError(f"heads must be one or None for each of the {len(self.at)} looks, with their origin")

    def check(self, pipe: Any, guard: Guard) -> None:
        """Refuse a pipeline or a guard that the heads were not learnt with.

        Raises:
            ConfigError: what they were learnt with, and what was given.
        """
        if self.origin is not None and (reason := self.origin.refusal(pipe, guard)) is not None:
            raise ConfigError(reason)

    @contextmanager
    def watch(self, pipe: Any, guard: Guard, arguments: Mapping[str, Any], *, stop: bool = True) -> Iterator[Watch]:
        """Watch one call, by a temporary wrapper around its scheduler's `step`.

        Raises:
            Stopped: every image of the call is certain to be blocked; not with `stop=False`.
            ConfigError: the heads belong to another pipeline or guard.
        """
        self.check(pipe, guard)
        seen = Watch()
        scheduler = getattr(pipe, "scheduler", None)
        if not steps.watchable(scheduler):
            seen.unwatched = f"not watched: {type(scheduler).__name__} is not supported"
            log.warning(seen.unwatched)
            yield seen
            return
        with steps.around(scheduler, lambda step: self.on_step(pipe, guard, arguments, seen, step, stop=stop)):
            yield seen

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values, without an AutoencoderTiny or a callable: pass it again to `EarlyStop.load`."""
        decoder = self.decoder.to_dict() if isinstance(self.decoder, LinearPreview) else None
        content = {"at": list(self.at), "thresholds": list(self._thresholds()), "linear": decoder}
        return {
            **content,
            "decoder": "vae" if self.decoder == "vae" else "own",
            "heads": [head and head.to_dict() for head in self.heads],
            "origin": self.origin and asdict(self.origin),
            "report": self.report and self.report.to_dict(),
        }

    def save(self, path: str | Path) -> None:
        """Write the settings as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path, *, decoder: Any = None) -> EarlyStop:
        """Read a file that `save` wrote; `decoder` is required if it was an AutoencoderTiny or a callable."""
        try:
            content = read_json(Path(path))
            early = cls(
                at=tuple(content["at"]),
                thresholds=tuple(content.get("thresholds") or content["cuts"]),
                heads=tuple(head and LatentHead.from_dict(head) for head in content.get("heads", ())),
                origin=Origin(**content["origin"]) if content.get("origin") else None,
                report=Report.from_dict(content["report"]) if content["report"] else None,
            )
            linear = LinearPreview.from_dict(content["linear"]) if content["linear"] else None
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{Path(path).name} is not a saved EarlyStop ({error}): fit and save it again") from error
        if content["decoder"] != "vae" and linear is None and decoder is None:
            raise ConfigError(f"{Path(path).name} was fitted with a custom decoder: pass it as decoder=")
        return replace(early, decoder=decoder or linear or "vae")

    def _thresholds(self) -> tuple[float, ...]:
        return self.thresholds  # type: ignore[return-value]  # made a tuple when it was built

    def on_step(
        self, pipe: Any, guard: Guard, arguments: Mapping[str, Any], seen: Watch, step: steps.Step, *, stop: bool = True
    ) -> None:
        """Look after a step where a look is due. A failed look stops nothing, and the next one still takes place.

        Raises:
            Stopped: every image is certain to be blocked; not with `stop=False`.
        """
        seen.step += 1
        scheduler = pipe.scheduler
        if seen.step == 1:
            seen.planned = steps.planned(scheduler, steps.timestep(step))
            if seen.planned < MIN_STEPS:
                seen.unwatched = f"not watched: {seen.planned} steps are too few"
        due = [i for i, share in enumerate(self.at) if seen.step == max(1, math.ceil(share * seen.planned))]
        if seen.unwatched is not None or not due:
            return
        if steps.stray(scheduler, steps.timestep(step), seen.step, seen.planned):
            seen.unwatched = "not watched: its steps do not follow its schedule"
            return
        try:
            verdicts, size = self._look(pipe, guard, arguments, step, due[-1])
        except Exception as error:  # a failed look is harmless, since the finished image is judged anyway
            if not seen.fault:
                log.exception("a look at step %d failed: the image is judged when it is finished", seen.step)
            seen.fault = f"{type(error).__name__}: {error}"
            return
        seen.looks[self.at[due[-1]]] = verdicts
        threshold = self._thresholds()[due[-1]]
        if stop and all(block_confidence(verdict) >= threshold for verdict in verdicts):
            told_of = [replace(_said(v, seen, threshold), **guard._signature) for v in verdicts]
            raise Stopped(told_of, size, seen.step, seen.planned)

    def _look(
        self, pipe: Any, guard: Guard, arguments: Mapping[str, Any], step: steps.Step, look: int
    ) -> tuple[list[Verdict], tuple[int, int]]:
        """The verdicts of a look, by its head or else on previews, and the size of the finished images."""
        clean = steps.clean(pipe.scheduler, step)
        scale = int(getattr(pipe, "vae_scale_factor", 1))  # pixels along a side for one latent pixel
        head = self.heads[look] if self.heads else None
        if head is not None:
            latents = to_spatial(pipe, clean, arguments)
            threshold = self._thresholds()[look]
            return [_by_head(score, threshold) for score in head(latents)], _size(latents, arguments, scale)
        pixels = preview_of(self.decoder)(pipe, clean, arguments)
        grow = scale / self.decoder.grow if isinstance(self.decoder, LinearPreview) else 1
        return judge(guard, pixels), _size(pixels, arguments, grow)


def _by_head(score: float, threshold: float) -> Verdict:
    """The verdict of a learnt head. It never allows: no model has seen this image yet."""
    outcome = Outcome.BLOCK if score >= threshold else Outcome.REVIEW
    return Verdict(outcome, f"{HEAD}: {score:.3g} by a learnt head", category=HEAD, score=score, flags=(HEAD,))


def judge(guard: Guard, pixels: Tensor) -> list[Verdict]:
    """Judge previews, without counting them or calling listeners. Shape: (N, 3, H, W) in [0, 1]."""
    with torch.no_grad():
        scores = checked_scores(guard.backend, [Frames(pixels)], len(pixels), embeddings=False, digests=False)
    return [guard.policy.decide(frame_scores) for frame_scores in scores]


def block_confidence(verdict: Verdict) -> float:
    """Return the score that blocks a preview, or 0 where none does."""
    if verdict.outcome is not Outcome.BLOCK or verdict.score is None or not math.isfinite(verdict.score):
        return 0.0
    return verdict.score


def _size(frames: Tensor, arguments: Mapping[str, Any], grow: float) -> tuple[int, int]:
    """Size of the finished image: as requested, else `grow` times that of the preview or latents."""
    height, width = (arguments.get(name) for name in ("height", "width"))
    if isinstance(height, int) and isinstance(width, int):
        return height, width
    return round(frames.shape[-2] * grow), round(frames.shape[-1] * grow)


def _said(verdict: Verdict, seen: Watch, threshold: float) -> Verdict:
    reason = f"stopped at step {seen.step} of {seen.planned}: {verdict.reason} (preview, sure from {threshold:.3g})"
    return replace(verdict, reason=reason)
