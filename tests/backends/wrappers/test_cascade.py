"""A second opinion where the first is in doubt, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nsfw_guard.backends.wrappers.cascade import Cascade
from nsfw_guard.errors import ConfigError, PolicyError
from nsfw_guard.guard import Guard
from nsfw_guard.testing import RED, FaultyBackend
from nsfw_guard.verdict import Outcome
from tests.backends.wrappers.members import Broken, Saying, frames, said


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cascade(Saying("a"), Saying("b"), band=(0.6, 0.9)), "on both sides of its threshold 0.5"),
        (lambda: Cascade(Saying("a"), Saying("b"), band=(0.9, 0.1)), "on both sides of its threshold 0.5"),
        (lambda: Cascade(Saying("a"), Saying("b"), band=(float("nan"), 1)), "on both sides of its threshold 0.5"),
        (lambda: Cascade(Saying("a"), Saying("b", categories=("loud",)), band=(0.1, 0.9)), "does not score red"),
    ],
)
def test_a_cascade_that_makes_no_sense_is_refused_with_the_cure(make, message) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_cascade_asks_the_second_model_only_in_doubt_and_takes_its_answer() -> None:
    second = Saying("b", times=0.0)
    both = Cascade(Saying("a"), second, band=(0.3, 0.8))
    assert said(both, 20, 100, 140, 180) == pytest.approx([0.1, 0.0, 0.0, 0.9])
    assert second.frames == 2
    assert (both.asked, both.seen) == (2, 4)
    (sure, doubtful) = both.score([frames(20), frames(100)])
    assert dict(sure.views[0].details) == {"a: red": 0.1}
    assert dict(doubtful.views[0].details) == {"a: red": 0.5, "b: red": 0.0}


def test_a_cascade_that_is_sure_never_runs_the_second_model() -> None:
    second = FaultyBackend("raises")
    second.spec = replace(RED, name="b")
    assert said(Cascade(Saying("a"), second, band=(0.3, 0.8)), 0, 200) == [0.0, 1.0]
    assert second.calls == 0


@pytest.mark.parametrize("fault", ["few", "many", "none", "raises", "nan"])
def test_a_second_model_that_fails_is_an_error_never_the_first_models_answer(fault) -> None:
    second = FaultyBackend(fault)
    second.spec = replace(RED, name="b")
    verdicts = Guard(Cascade(Saying("a"), second, band=(0.3, 0.8))).check(frames(100).pixels)
    assert [v.outcome for v in verdicts] == [Outcome.ERROR]


def test_a_nan_of_the_first_model_stays_an_error_without_asking_the_second() -> None:
    verdicts = Guard(Cascade(Broken("a"), Saying("b", times=0.0), band=(0.3, 0.8))).check(frames(100, 100).pixels)
    assert [v.outcome for v in verdicts] == [Outcome.ALLOW, Outcome.ERROR]


def test_the_guard_checks_the_band_against_the_policy() -> None:
    both = Cascade(Saying("a"), Saying("b"), band=(0.3, 0.8))
    assert Guard(both, policy={"rules": {"red": {"block": 0.7}}}).policy.rules["red"].block == 0.7
    with pytest.raises(PolicyError, match=r"blocked from 0\.9, but the second model is asked only from 0\.3 to 0\.8"):
        Guard(both, policy={"rules": {"red": {"block": 0.9}}})
    assert Guard(both).state["second_opinion"] == "b from 0.3 to 0.8"
