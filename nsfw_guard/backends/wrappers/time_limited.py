"""A backend that must answer in time."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from nsfw_guard.backends.base import Backend
from nsfw_guard.backends.spec import ScoreSpec
from nsfw_guard.errors import ConfigError, ScoringError
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.scores import Scores


class TimeLimited:
    """A backend that must answer within `seconds`. A hung call is left behind; the next one gets a new thread."""

    def __init__(self, backend: Backend, seconds: float) -> None:
        if not 0 < seconds <= threading.TIMEOUT_MAX:
            raise ConfigError(f"timeout must be seconds above 0, or None for no limit, got {seconds}")
        self.backend = backend
        self.seconds = seconds

    @property
    def spec(self) -> ScoreSpec:
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
    """The caller's CUDA stream, so that the thread reads images when they are finished; nothing elsewhere."""
    if stacks and stacks[0].pixels.is_cuda:
        return torch.cuda.stream(torch.cuda.current_stream(stacks[0].pixels.device))
    return nullcontext()
