"""Backends that hold a backend: what a guard can do grows here, the guard does not."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch

from nsfw_guard.backends.base import Backend, ModelSpec
from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError, ScoringError, suggest
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.scores import Scores


class Calibrated:
    """A backend whose scores go through a calibration, with the calibration's thresholds where it has any.

    Example:
        ```python
        calibration = Calibration(model="demo-shapes", maps={"red-disc": (1.2, -0.3)})
        guard = Guard(Calibrated(load_model("demo-shapes"), calibration))
        ```
    """

    def __init__(self, backend: Backend, calibration: Calibration) -> None:
        if calibration.model != backend.spec.name:
            raise ConfigError(
                f"this calibration was fitted on {calibration.model!r}, not on {backend.spec.name!r}: fit one for it"
            )
        for category in calibration.maps:
            if category not in backend.spec.levels:
                raise ConfigError(
                    f"this calibration calibrates {category!r}, which the model does not score: "
                    f"{suggest(category, backend.spec.levels)}"
                )
        left = sorted(set(backend.spec.levels) - set(calibration.maps))
        if calibration.thresholds and left:
            raise ConfigError(
                f"this calibration brings thresholds but no map for {', '.join(left)}: fit that category too"
            )
        self.backend = backend
        self.calibration = calibration

    @property
    def spec(self) -> ModelSpec:
        """The model's record, with the calibrated thresholds."""
        return replace(self.backend.spec, thresholds=dict(self.calibration.thresholds) or self.backend.spec.thresholds)

    def score(self, stacks: Sequence[Frames], *, embeddings: bool = False, digests: bool = False) -> list[Scores]:
        """Return the calibrated scores of each frame."""
        scores = self.backend.score(stacks, embeddings=embeddings, digests=digests)
        return [self.calibration.apply(s) for s in scores]

    def state(self) -> Mapping[str, str]:
        """Return the model's state, and that it is calibrated."""
        return {**self.backend.state(), "calibration": self.calibration.source or "applied"}


class TimeLimited:
    """A backend that must answer within `seconds`. A hung call is left behind; the next one gets a new thread."""

    def __init__(self, backend: Backend, seconds: float) -> None:
        if not 0 < seconds <= threading.TIMEOUT_MAX:
            raise ConfigError(f"a time limit of {seconds} s is none: give seconds above 0, or None for no limit")
        self.backend = backend
        self.seconds = seconds

    @property
    def spec(self) -> ModelSpec:
        """The model's record."""
        return self.backend.spec

    def score(self, stacks: Sequence[Frames], *, embeddings: bool = False, digests: bool = False) -> list[Scores]:
        """Return the scores, or a ScoringError when they come too late."""
        answer: list[list[Scores]] = []
        raised: list[BaseException] = []

        stream = _stream_of(stacks)

        def work() -> None:
            try:
                with stream:
                    answer.append(self.backend.score(stacks, embeddings=embeddings, digests=digests))
            except BaseException as error:  # noqa: BLE001  (it is raised again in the caller's thread)
                raised.append(error)

        # A daemon: a call that never returns must not keep the process from ending.
        worker = threading.Thread(target=work, name="nsfw-guard-score", daemon=True)
        worker.start()
        worker.join(self.seconds)
        if raised:
            raise raised[0]
        if not answer:
            raise ScoringError(f"{self.spec.name!r} did not answer within {self.seconds:g} s")
        return answer[0]

    def state(self) -> Mapping[str, str]:
        """Return the model's state, and its limit."""
        return {**self.backend.state(), "timeout": f"{self.seconds:g} s"}


def _stream_of(stacks: Sequence[Frames]) -> AbstractContextManager[object]:
    """The caller's CUDA stream, so that the thread reads pictures when they are finished; nothing elsewhere."""
    if stacks and stacks[0].pixels.is_cuda:
        return torch.cuda.stream(torch.cuda.current_stream(stacks[0].pixels.device))
    return nullcontext()
