"""What the tests of wrappers share: models that say what the blue channel says, images, a calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from nsfw_guard.backends.base import Backend
from nsfw_guard.backends.spec import Label
from nsfw_guard.calibration import Calibration
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.scores import Scores, Severity, View, ViewScores
from nsfw_guard.testing import RED, FakeBackend

IMAGES = [Frames(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))]
TRIPLED = Calibration(model="red", maps={"red": (1.0, math.log(3))}, source="a test")


def score_of(scores: Sequence[Scores]) -> list[float]:
    return [s.worst["red"][Severity.HIGH] for s in scores]


class Saying(FakeBackend):
    """Says of each frame what its blue channel says, times `times`; threshold at `threshold`."""

    def __init__(
        self, name: str, threshold: float = 0.5, times: float = 1.0, categories: Sequence[str] = ("red",)
    ) -> None:
        super().__init__(lambda levels: min(1.0, float(levels[2, 0, 0]) / 200 * times))
        thresholds = {n: Threshold(block=threshold, source="chosen") for n in ("default", "strict", "lenient")}
        labels = {category: Label(category) for category in categories}
        self.spec = replace(RED, name=name, labels=labels, thresholds=thresholds)

    def _of(self, stack: Frames, embeddings: bool, digests: bool) -> list[Scores]:
        scores = super()._of(stack, embeddings, digests)
        (level,) = {level for levels in self.spec.levels.values() for level in levels}
        said_levels = [{category: {level: next(s.numbers())} for category in self.spec.levels} for s in scores]
        return [replace(s, views=(ViewScores(View("full"), one),)) for s, one in zip(scores, said_levels, strict=True)]


class Broken(Saying):
    """Says NaN of every second frame."""

    def score(self, stacks: Sequence[Frames], *, embeddings: bool = False, digests: bool = False) -> list[Scores]:
        scores = super().score(stacks, embeddings=embeddings, digests=digests)
        bad = Scores.single({"red": {Severity.HIGH: float("nan")}})
        return [bad if i % 2 else one for i, one in enumerate(scores)]


def frames(*values: int) -> Frames:
    """One frame for each value of the blue channel, of 200."""
    return Frames(torch.stack([torch.full((3, 8, 8), v, dtype=torch.uint8) for v in values]))


def said(backend: Backend, *values: int) -> list[float]:
    return [next(s.numbers()) for s in backend.score([frames(*values)])]
