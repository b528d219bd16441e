"""A backend whose images are also compared with examples."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nsfw_guard.backends.base import Backend, checked_scores
from nsfw_guard.backends.examples.bank import HEAD, Bank
from nsfw_guard.backends.examples.example import CATEGORY
from nsfw_guard.backends.examples.matching import Like, Matcher, said_of
from nsfw_guard.backends.spec import Label, ScoreSpec
from nsfw_guard.backends.wrappers.calibrated import Calibrated
from nsfw_guard.errors import ConfigError, ScoringError
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.scores import Scores, Severity, ViewScores


class Banked:
    """A backend with one more category, "example": 1 for an image that is like a block-example, else 0.

    What is like an allow-example gets the score 0 in every category; what the model said stays in the details.

    Args:
        backend: the model.
        bank: a bank, which stays as it is; or its folder, which is read again when it changes.

    Example:
        ```python
        bank = Bank(examples=[Example(kind="block", reason="reported", pdq="f8" * 32)])
        guard = Guard(Banked(load_model("demo-shapes"), bank))
        ```
    """

    def __init__(self, backend: Backend, bank: Bank | str | Path) -> None:
        if CATEGORY in backend.spec.levels:
            raise ConfigError(f"{backend.spec.name!r} scores a category {CATEGORY!r} itself: map its label elsewhere")
        self.backend = backend
        self.source = bank
        self._lock = threading.Lock()
        self._read: tuple[object, Bank, Matcher] | None = None
        self.matcher()  # an unusable bank is an error now, and not at the first image

    @property
    def spec(self) -> ScoreSpec:
        """The model's record, with the category of examples, which every policy must judge."""
        spec = self.backend.spec
        return replace(spec, labels={**spec.labels, CATEGORY: Label(CATEGORY)}, required=(*spec.required, CATEGORY))

    @property
    def bank(self) -> Bank:
        """The examples that are in effect."""
        return self._current()[0]

    def matcher(self) -> Matcher:
        """Return what compares, made of the examples that count today."""
        return self._current()[1]

    def score(self, stacks: Sequence[Frames], *, embeddings: bool = False, digests: bool = False) -> list[Scores]:
        """Return the scores of each frame, with what the examples say."""
        matcher = self.matcher()
        count = sum(len(stack) for stack in stacks)
        wanted = embeddings or matcher.likeness is not None
        scores = checked_scores(self.backend, stacks, count, embeddings=wanted, digests=digests)
        frames = (frame for stack in stacks for frame in stack.split())
        judged = [self._compared(one, frame, matcher) for one, frame in zip(scores, frames, strict=True)]
        return judged if embeddings else [replace(one, embedding=None) for one in judged]

    def state(self) -> Mapping[str, str]:
        """Return the model's state, and which examples are in effect."""
        followed = "" if isinstance(self.source, Bank) else "; read again when it changes"
        return {**self.backend.state(), "bank": self.bank.describe(today()) + followed}

    def _compared(self, scores: Scores, frame: Frames, matcher: Matcher) -> Scores:
        if scores.fault or not scores.finite:
            return scores  # an ERROR, whatever it is like
        if scores.embedding is None and matcher.likeness is not None:
            raise ScoringError(f"{self.backend.spec.name!r} returned no embedding to compare with the bank")
        pixels = frame.to_array() if matcher.wants_pixels else None
        # Ceilings are what the model itself said. Calibrated scores are others: then only identical pixels are allowed.
        said = {"calibrated": 1.0} if isinstance(self.backend, Calibrated) else said_of(scores)
        like, nearest = matcher.compared(pixels, scores.embedding, said)
        return _with(scores, like, {} if nearest is None else {"nearest block-example": nearest})

    def _current(self) -> tuple[Bank, Matcher]:
        with self._lock:
            mark = (today(), None if isinstance(self.source, Bank) else _identity(Path(self.source)))
            if self._read is None or self._read[0] != mark:
                bank = self.source if isinstance(self.source, Bank) else Bank.load(self.source)
                self._fits(bank)
                self._read = (mark, bank, Matcher(bank, today()))
            return self._read[1], self._read[2]

    def _fits(self, bank: Bank) -> None:
        spec = self.backend.spec
        if bank.of_model and (bank.model, bank.revision) != (spec.name, spec.version):
            raise ConfigError(
                f"the bank holds {bank.of_model} of {bank.model!r} {bank.revision!r}, not of {spec.name!r} "
                f"{spec.version!r}, and these cannot be compared: build a bank with this model"
            )


def _with(scores: Scores, like: Like | None, details: Mapping[str, float]) -> Scores:
    """The scores of an image that is like an example, or like none."""
    if like is None:
        return replace(scores, views=tuple(_view(view, 0.0, details) for view in scores.views))
    if like.example.kind == "block":  # the whole image is covered, not what the model has found in it
        views = tuple(_view(view, 1.0, details) for view in scores.views)
        return replace(scores, views=views, regions=(), note=str(like))
    return replace(scores, views=tuple(_view(_nothing(view), 0.0, details) for view in scores.views), note=str(like))


def _view(view: ViewScores, p: float, details: Mapping[str, float]) -> ViewScores:
    levels = {**view.levels, CATEGORY: {Severity.HIGH: p}}
    return replace(view, levels=levels, details={**view.details, **details})


def _nothing(view: ViewScores) -> ViewScores:
    """The view with no score, and what was there among the details."""
    said = {f"model {c} {level.name.lower()}": p for c, levels in view.levels.items() for level, p in levels.items()}
    levels = {category: dict.fromkeys(levels, 0.0) for category, levels in view.levels.items()}
    return replace(view, levels=levels, details={**view.details, **said})


def _identity(folder: Path) -> object:
    try:
        status = (folder / HEAD).stat()
    except OSError as error:
        raise ConfigError(f"the bank {str(folder)!r} cannot be read ({error.strerror}): bring it back") from error
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def today() -> datetime.date:
    """Return the day in UTC, by which examples expire."""
    return datetime.datetime.now(datetime.timezone.utc).date()
