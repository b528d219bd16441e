"""What makes the verdicts of a guard hold all that the rows of a scan need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nsfw_guard.backends.base import Backend, checked_scores
from nsfw_guard.backends.spec import ScoreSpec
from nsfw_guard.backends.wrappers.banked import Banked
from nsfw_guard.backends.wrappers.calibrated import Calibrated
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.imaging.pdq import pdq
from nsfw_guard.scores import Scores, ViewScores
from nsfw_guard.verdict import Verdict


def recording(guard: Guard, *, embeddings: bool, hashes: bool) -> Guard:
    """Return the same guard, whose verdicts hold raw scores and digests, and embeddings and hashes where asked for."""
    backend = _kept_raw(guard.backend)
    return Guard(
        Hashed(backend) if hashes else backend,
        policy=guard.policy,
        limits=guard.limits,
        listeners=[Wants(embeddings=embeddings, digests=True)],
        requested=guard.requested,
    )


def _kept_raw(backend: Backend) -> Backend:
    """The backend, with the scores before a calibration among the details."""
    if isinstance(backend, Calibrated):
        return Calibrated(Recording(backend.backend), backend.calibration)
    if isinstance(backend, Banked):
        return Banked(_kept_raw(backend.backend), backend.source)
    return backend


class Wants:
    """A listener that only asks for embeddings or digests."""

    def __init__(self, *, embeddings: bool = False, digests: bool = False) -> None:
        self.wants_embeddings, self.wants_digests = embeddings, digests

    def __call__(self, verdicts: Sequence[Verdict], /) -> None:
        """Do nothing: the verdicts that are returned hold what was asked for."""


class _Around(ABC):
    """A backend around another one."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def spec(self) -> ScoreSpec:
        """The model's record."""
        return self.backend.spec

    def score(self, stacks: Sequence[Frames], *, embeddings: bool = False, digests: bool = False) -> list[Scores]:
        """Return the model's scores, with what this backend adds to each."""
        count = sum(len(stack) for stack in stacks)
        scores = checked_scores(self.backend, stacks, count, embeddings=embeddings, digests=digests)
        frames = (frame for stack in stacks for frame in stack.split())
        return [self.add(one, frame) for one, frame in zip(scores, frames, strict=True)]

    @abstractmethod
    def add(self, scores: Scores, frame: Frames) -> Scores:
        """Return the scores with what this backend adds."""

    def state(self) -> Mapping[str, str]:
        """Return the model's state."""
        return self.backend.state()


class Recording(_Around):
    """A backend whose scores are also kept in the details, so that they survive a calibration around it."""

    def add(self, scores: Scores, frame: Frames) -> Scores:
        """Return the scores with a copy of each in the details."""
        return replace(scores, views=tuple(map(_with_raw, scores.views)))


class Hashed(_Around):
    """A backend whose scores have a perceptual hash of their frame."""

    def add(self, scores: Scores, frame: Frames) -> Scores:
        """Return the scores with the hash."""
        return replace(scores, pdq=str(pdq(frame.to_array())))


def _with_raw(view: ViewScores) -> ViewScores:
    raw = {f"raw {c} {level.name.lower()}": p for c, levels in view.levels.items() for level, p in levels.items()}
    return replace(view, details={**view.details, **raw})
