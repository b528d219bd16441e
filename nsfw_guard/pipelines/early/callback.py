"""EarlyStop as an official callback of diffusers. Imported on first use, since it subclasses a class of diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Literal

import torch
from diffusers.callbacks import PipelineCallback

from nsfw_guard.errors import BlockedError, ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.early.steps import Step, around, planned, watchable
from nsfw_guard.pipelines.early.stop import MIN_STEPS, EarlyStop, Stopped, Watch
from nsfw_guard.verdict import Verdict


class EarlyStopCallback(PipelineCallback):  # type: ignore[misc]  # diffusers has no types
    """An EarlyStop for `callback_on_step_end`, without an attached guard. It does not judge finished images.

    Args:
        early: when to look, and from which score to stop.
        guard: the guard.
        on_stop: "raise" raises a BlockedError; "blank" continues with latents of zeros, so that no unfinished image is
            returned, and asks the pipeline to skip its remaining steps, which most do.
        arguments: `height` and `width` of the call, where latents do not show them (FLUX and others that pack them).
    """

    __module__ = "nsfw_guard"

    def __init__(
        self,
        early: EarlyStop,
        guard: Guard,
        *,
        on_stop: Literal["raise", "blank"] = "raise",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        if on_stop not in {"raise", "blank"}:
            raise ConfigError(f"on_stop must be 'raise' or 'blank', got {on_stop!r}")
        self.early, self.guard, self.on_stop = early, guard, on_stop
        self.arguments = dict(arguments or {})
        self.verdicts: tuple[Verdict, ...] = ()
        self._seen = Watch()
        self._steps: list[Step] = []
        self._hook = ExitStack()

    @property
    def tensor_inputs(self) -> list[str]:
        """The names of the tensors that it receives."""
        return ["latents"]

    def callback_fn(self, pipeline: Any, step_index: int, timesteps: Any, callback_kwargs: Any) -> dict[str, Any]:
        """Look after a step where a look is due. The first step ends before the first callback."""
        if step_index == 0:
            self._start(pipeline, float(timesteps))
        elif self._steps and not self.verdicts:
            try:
                self.early.on_step(pipeline, self.guard, self.arguments, self._seen, self._steps.pop())
            except Stopped as stopped:
                self._stop(pipeline, stopped)
        if step_index + 1 >= self._seen.planned:
            self._hook.close()
        return {"latents": torch.zeros_like(callback_kwargs["latents"])} if self.verdicts else {}

    def _start(self, pipeline: Any, timestep: float) -> None:
        """Begin a new generation, and remove the remains of one that was interrupted."""
        self._hook.close()
        self.early.check(pipeline, self.guard)
        self.verdicts, self._steps = (), []
        self._seen = Watch(step=1, planned=planned(pipeline.scheduler, timestep))
        if self._seen.planned < MIN_STEPS or not watchable(pipeline.scheduler):
            self._seen.unwatched = "not watched: too few steps, or an unsupported scheduler"
            return
        self._hook.enter_context(around(pipeline.scheduler, self._keep))

    def _keep(self, step: Step) -> None:
        self._steps[:] = [step]

    def _stop(self, pipeline: Any, stopped: Stopped) -> None:
        self._hook.close()
        self.verdicts = stopped.verdicts
        if self.on_stop == "raise":
            if hasattr(pipeline, "maybe_free_model_hooks"):
                pipeline.maybe_free_model_hooks()
            raise BlockedError(*stopped.verdicts) from None
        pipeline._interrupt = True
