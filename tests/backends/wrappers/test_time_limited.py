"""A model that must answer in time: late, hung and broken ones."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence

import pytest
import torch

from nsfw_guard.backends.base import Backend
from nsfw_guard.backends.wrappers.calibrated import Calibrated
from nsfw_guard.backends.wrappers.time_limited import TimeLimited
from nsfw_guard.errors import ConfigError, ScoringError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.scores import Scores, Severity
from nsfw_guard.testing import RED, FakeBackend, FaultyBackend
from nsfw_guard.verdict import Outcome
from tests.backends.wrappers.members import IMAGES, TRIPLED, score_of


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, 1e12])
def test_an_invalid_limit_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match="timeout must be seconds"):
        TimeLimited(FakeBackend(), seconds)


def test_an_answer_in_time_is_passed_on_unchanged() -> None:
    backend = FakeBackend(0.5)
    limited = TimeLimited(backend, 30)
    assert limited.score(IMAGES, embeddings=True, digests=True) == backend.score(IMAGES, digests=True)
    assert limited.score(IMAGES, embeddings=True)[0].embedding is not None
    assert limited.spec is RED


def test_a_late_answer_is_an_error_about_when_the_limit_ends() -> None:
    limited = TimeLimited(FaultyBackend("hangs", seconds=20), 0.1)
    start = time.perf_counter()
    with pytest.raises(ScoringError, match=r"'red' did not answer within 0.1 s"):
        limited.score(IMAGES)
    assert 0.09 < time.perf_counter() - start < 5


class Gate(FakeBackend):
    """Waits until it is let through, at the first call only."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()

    def score(self, stacks: Sequence[Frames], *, embeddings: bool = False, digests: bool = False) -> list[Scores]:
        if self.calls == 0:
            self.calls = 1
            self.open.wait(20)
            return [Scores.single({"red": {Severity.HIGH: 0.0}})] * 2
        return [Scores.single({"red": {Severity.HIGH: 1.0}})] * 2


def test_an_answer_that_comes_later_is_not_taken_for_the_next_one() -> None:
    backend = Gate()
    limited = TimeLimited(backend, 0.05)
    with pytest.raises(ScoringError):
        limited.score(IMAGES)
    backend.open.set()
    assert score_of(limited.score(IMAGES)) == [1.0, 1.0]


def test_a_hung_call_does_not_keep_the_process_from_ending() -> None:
    backend = Gate()
    with pytest.raises(ScoringError):
        TimeLimited(backend, 0.05).score(IMAGES)
    hung = [t for t in threading.enumerate() if t.name == "nsfw-guard-score"]
    assert hung
    assert all(thread.daemon for thread in hung)
    backend.open.set()


@pytest.mark.parametrize("error", [RuntimeError("broke"), MemoryError("full"), KeyboardInterrupt("now")], ids=repr)
def test_an_error_of_the_model_is_passed_on(error: BaseException) -> None:
    def broken(frame: torch.Tensor) -> float:
        raise error

    with pytest.raises(type(error)) as caught:
        TimeLimited(FakeBackend(broken), 30).score(IMAGES)
    assert caught.value is error


def test_the_state_says_the_limit_and_wrappers_stack() -> None:
    backend = TimeLimited(Calibrated(FakeBackend(), TRIPLED), 2.5)
    assert isinstance(backend, Backend)
    assert backend.state() == {"self_test": "passed", "calibration": "a test", "timeout": "2.5 s"}


@pytest.mark.parametrize("fault", ["few", "many", "none", "wrong kind", "generator", "hangs", "raises"])
def test_a_guard_with_a_limit_still_fails_closed(fault: str) -> None:
    guard = Guard(FaultyBackend(fault, seconds=20), timeout=0.2)  # type: ignore[arg-type]
    safe, verdicts = guard(torch.ones(2, 3, 8, 8))
    assert [v.outcome for v in verdicts] == [Outcome.ERROR] * 2
    assert safe.sum() == 0
