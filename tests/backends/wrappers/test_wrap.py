"""Backends that hold a backend: a wrong calibration never starts, a late answer is none."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence

import pytest
import torch

from nsfw_guard.backends.base import Backend
from nsfw_guard.backends.wrappers.wrap import Calibrated, TimeLimited
from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError, PolicyError, ScoringError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.scores import Scores, Severity
from nsfw_guard.testing import RED, FakeBackend, FaultyBackend
from nsfw_guard.verdict import Outcome

PICTURES = [Frames(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))]
TRIPLED = Calibration(model="red", maps={"red": (1.0, math.log(3))}, source="a test")


def score_of(scores: Sequence[Scores]) -> list[float]:
    return [s.worst["red"][Severity.HIGH] for s in scores]


@pytest.mark.parametrize("model", ["", "blue", "Red", "red "])
def test_a_calibration_of_another_model_is_refused(model: str) -> None:
    with pytest.raises(ConfigError, match=f"fitted on '{model}', not on 'red'"):
        Calibrated(FakeBackend(), Calibration(model=model, maps={}))


def test_a_calibration_of_a_category_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="calibrates 'rad', which the model does not score: did you mean 'red'"):
        Calibrated(FakeBackend(), Calibration(model="red", maps={"rad": (1.0, 0.0)}))


def test_every_score_goes_through_the_calibration() -> None:
    backend = FakeBackend(lambda frame: 0.5)
    made = Calibrated(backend, TRIPLED).score(PICTURES, embeddings=True, digests=True)
    assert score_of(made) == pytest.approx([0.75, 0.75])
    assert made[0].digest == f"{0:064x}"
    assert made[1].embedding.tolist() == [0, 0, 0]
    assert (backend.calls, backend.frames) == (1, 2)


def test_calibrated_cuts_stand_in_for_the_records() -> None:
    thresholds = {"default": Threshold(block=0.875)}
    spec = Calibrated(FakeBackend(), Calibration(model="red", maps={"red": (1.0, 0.0)}, thresholds=thresholds)).spec
    assert spec.thresholds == thresholds
    assert (spec.name, spec.labels) == (RED.name, RED.labels)
    assert Calibrated(FakeBackend(), TRIPLED).spec == RED


def test_a_policy_that_names_a_cut_that_the_calibration_lacks_is_refused() -> None:
    backend = Calibrated(
        FakeBackend(),
        Calibration(model="red", maps={"red": (1.0, 0.0)}, thresholds={"default": Threshold(block=0.875)}),
    )
    with pytest.raises(PolicyError, match="no threshold 'strict'"):
        Guard(backend, policy="strict")


def test_cuts_without_a_map_for_every_category_are_refused() -> None:
    with pytest.raises(ConfigError, match="thresholds but no map for red"):
        Calibrated(FakeBackend(), Calibration(model="red", maps={}, thresholds={"default": Threshold(block=0.875)}))


@pytest.mark.parametrize(("p", "outcome"), [(0.5, Outcome.REVIEW), (0.75, Outcome.BLOCK), (0.1, Outcome.ALLOW)])
def test_a_guard_judges_by_calibrated_scores_and_cuts(p: float, outcome: Outcome) -> None:
    thresholds = {"default": Threshold(block=0.875, review=0.625)}
    backend = Calibrated(
        FakeBackend(lambda frame: p), Calibration(model="red", maps=TRIPLED.maps, thresholds=thresholds)
    )
    assert Guard(backend).check(torch.zeros(1, 3, 8, 8))[0].outcome is outcome


@pytest.mark.parametrize(("source", "said"), [("a test", "a test"), ("", "applied")])
def test_the_state_says_that_scores_are_calibrated(source: str, said: str) -> None:
    state = Calibrated(FakeBackend(), Calibration(model="red", maps={}, source=source)).state()
    assert state == {"self_test": "passed", "calibration": said}


@pytest.mark.parametrize("fault", ["nan", "infinite", "above one"])
def test_a_calibration_hides_no_fault(fault: str) -> None:
    backend = Calibrated(FaultyBackend(fault), TRIPLED)  # type: ignore[arg-type]
    assert not any(s.finite for s in backend.score(PICTURES))


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, 1e12])
def test_a_limit_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match="a time limit of"):
        TimeLimited(FakeBackend(), seconds)


def test_an_answer_in_time_comes_through_whole() -> None:
    backend = FakeBackend(lambda frame: 0.5)
    limited = TimeLimited(backend, 30)
    assert limited.score(PICTURES, embeddings=True, digests=True) == backend.score(PICTURES, digests=True)
    assert limited.score(PICTURES, embeddings=True)[0].embedding is not None
    assert limited.spec is RED


def test_a_late_answer_is_an_error_about_when_the_limit_ends() -> None:
    limited = TimeLimited(FaultyBackend("hangs", seconds=20), 0.1)
    start = time.perf_counter()
    with pytest.raises(ScoringError, match=r"'red' did not answer within 0.1 s"):
        limited.score(PICTURES)
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
        limited.score(PICTURES)
    backend.open.set()
    assert score_of(limited.score(PICTURES)) == [1.0, 1.0]


def test_a_hung_call_does_not_keep_the_process_from_ending() -> None:
    backend = Gate()
    with pytest.raises(ScoringError):
        TimeLimited(backend, 0.05).score(PICTURES)
    hung = [t for t in threading.enumerate() if t.name == "nsfw-guard-score"]
    assert hung
    assert all(thread.daemon for thread in hung)
    backend.open.set()


@pytest.mark.parametrize("error", [RuntimeError("broke"), MemoryError("full"), KeyboardInterrupt("now")], ids=repr)
def test_what_the_model_raises_comes_through(error: BaseException) -> None:
    def broken(frame: torch.Tensor) -> float:
        raise error

    with pytest.raises(type(error)) as caught:
        TimeLimited(FakeBackend(broken), 30).score(PICTURES)
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
