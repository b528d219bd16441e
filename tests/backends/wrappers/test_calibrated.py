"""Calibrated scores: all of them, with the calibration's own thresholds, and no fault hidden."""

from __future__ import annotations

import pytest
import torch

from nsfw_guard.backends.wrappers.calibrated import Calibrated
from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError, PolicyError
from nsfw_guard.guard import Guard
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.testing import RED, FakeBackend, FaultyBackend
from nsfw_guard.verdict import Outcome
from tests.backends.wrappers.members import IMAGES, TRIPLED, score_of


@pytest.mark.parametrize("model", ["", "blue", "Red", "red "])
def test_a_calibration_of_another_model_is_refused(model: str) -> None:
    with pytest.raises(ConfigError, match=f"fitted on '{model}', not on 'red'"):
        Calibrated(FakeBackend(), Calibration(model=model, maps={}))


def test_a_calibration_of_a_category_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="maps 'rad', which the model does not score: did you mean 'red'"):
        Calibrated(FakeBackend(), Calibration(model="red", maps={"rad": (1.0, 0.0)}))


def test_every_score_goes_through_the_calibration() -> None:
    backend = FakeBackend(0.5)
    scores = Calibrated(backend, TRIPLED).score(IMAGES, embeddings=True, digests=True)
    assert score_of(scores) == pytest.approx([0.75, 0.75])
    assert scores[0].digest == f"{0:064x}"
    assert scores[1].embedding.tolist() == [0, 0, 0]
    assert (backend.calls, backend.frames) == (1, 2)


def test_calibrated_thresholds_replace_the_records() -> None:
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
    backend = Calibrated(FakeBackend(p), Calibration(model="red", maps=TRIPLED.maps, thresholds=thresholds))
    assert Guard(backend).check(torch.zeros(1, 3, 8, 8))[0].outcome is outcome


@pytest.mark.parametrize(("source", "said"), [("a test", "a test"), ("", "applied")])
def test_the_state_says_that_scores_are_calibrated(source: str, said: str) -> None:
    state = Calibrated(FakeBackend(), Calibration(model="red", maps={}, source=source)).state()
    assert state == {"self_test": "passed", "calibration": said}


@pytest.mark.parametrize("fault", ["nan", "infinite", "above one"])
def test_a_calibration_hides_no_fault(fault: str) -> None:
    backend = Calibrated(FaultyBackend(fault), TRIPLED)  # type: ignore[arg-type]
    assert not any(s.finite for s in backend.score(IMAGES))
