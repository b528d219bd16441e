"""A pipe is asked, as it stands, what judges its images and what goes round that."""

from __future__ import annotations

import copy
import json

import pytest
import torch

pytest.importorskip("diffusers")

import diffusers
from diffusers.image_processor import VaeImageProcessor

from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.attach import attach
from nsfw_guard.pipelines.checker import SafetyChecker
from nsfw_guard.pipelines.doctor import doctor, skipped
from nsfw_guard.testing import FakeBackend


@pytest.fixture
def guard():
    return Guard(FakeBackend(), requested={"model": "red"})


def test_what_is_no_pipeline_is_an_error(pipe) -> None:
    with pytest.raises(ConfigError, match="not a diffusers pipeline"):
        doctor(pipe.unet)


def test_a_bare_pipe_is_not_covered_and_says_what_would(pipe) -> None:
    report = doctor(pipe)
    assert not report.covered
    assert report.how == "nothing judges"
    assert "attach(pipe, guard) covers it" in report.gaps
    assert "NOT COVERED" in str(report)


def test_a_class_without_a_slot_says_that_the_keyword_is_ignored() -> None:
    report = doctor(object.__new__(diffusers.FluxPipeline))
    assert any("`safety_checker=` is ignored" in gap for gap in report.gaps)
    assert any("from_pipe" in gap for gap in report.gaps)


def test_a_guarded_pipe_is_covered_with_requested_and_effective_state(pipe, guard) -> None:
    with attach(pipe, guard):
        report = doctor(pipe)
    assert report.covered
    assert (report.canary, report.how) == ("answered", "an attached guard")
    assert report.requested["model"] == "red"
    assert report.state["self_test"] == "passed"
    assert json.loads(json.dumps(report.to_dict()))["covered"] is True


def test_every_way_round_a_guard_is_reported(pipe, guard) -> None:
    with attach(pipe, guard, latents="allow"):
        original, pipe.image_processor = pipe.image_processor, VaeImageProcessor()
        pipe.disable_safety_checker()
        report = doctor(pipe)
        pipe.image_processor = original
    assert not report.covered
    assert report.how.endswith("turned off")
    for words in ("latents='allow'", "image_processor was replaced", "enable_safety_checker()"):
        assert any(words in gap for gap in report.gaps), words


def test_a_model_that_stopped_answering_does_not_cover(pipe, guard) -> None:
    with attach(pipe, guard):
        guard.backend.rule = lambda frame: float("nan")
        report = doctor(pipe)
    assert not report.covered
    assert "returns no scores" in report.canary


def test_a_foreign_checker_in_the_slot_is_not_ours(pipe) -> None:
    class Other(torch.nn.Module):
        pass

    other = copy.copy(pipe)
    vars(other)["safety_checker"] = Other()
    report = doctor(other)
    assert not report.covered
    assert "Other in the slot" in report.how


def test_our_checker_in_the_slot_covers_where_it_fits(pipe, guard) -> None:
    checker = SafetyChecker(guard)
    other = copy.copy(pipe)
    vars(other)["safety_checker"] = checker
    report = doctor(other)
    assert report.covered
    assert (report.how, report.canary) == ("a SafetyChecker in the slot", "answered")
    assert any("latent" in gap for gap in report.gaps)
    vars(other)["safety_checker"] = SafetyChecker(guard, watermark=True)
    report = doctor(other)
    assert not report.covered
    assert "checker.for_pipeline(pipe)" in report.gaps[0]


def test_a_checker_that_cosmos_would_skip_is_reported() -> None:
    checker = torch.nn.Module()
    assert skipped(diffusers.Cosmos3OmniPipeline, checker)
    assert not skipped(diffusers.StableDiffusionPipeline, checker)
    pipe = object.__new__(diffusers.Cosmos3OmniPipeline)
    vars(pipe)["safety_checker"] = checker
    report = doctor(pipe)
    assert not report.covered
    assert any("silently skipped" in gap for gap in report.gaps)
