"""One guard for all pipelines of a process, on purpose, and off again."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

import diffusers
from diffusers import AudioPipelineOutput

from nsfw_guard.errors import ConfigError, UncoveredError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.attach import attach, detach
from nsfw_guard.pipelines.attach_all import attach_all, detach_all
from nsfw_guard.pipelines.doctor import doctor
from nsfw_guard.pipelines.guarded.processors import GUARD_ATTR
from nsfw_guard.testing import FakeBackend
from tests.pipelines.drawing import draw, stacked


@pytest.fixture
def guard():
    guard = Guard(FakeBackend(1.0))
    attach_all(guard, latents="refuse")
    yield guard
    detach_all()


def test_wrong_settings_are_refused_and_nothing_is_changed(whole) -> None:
    guard = Guard(FakeBackend())
    call = diffusers.StableDiffusionPipeline.__call__
    with pytest.raises(TypeError, match="latents"):
        attach_all(guard)
    with pytest.raises(ConfigError, match="got 'sometimes'"):
        attach_all(guard, latents="sometimes")
    with pytest.raises(ConfigError, match="expects a Guard"):
        attach_all(FakeBackend(), latents="refuse")
    with pytest.raises(ConfigError, match="no installed guard to detach"):
        detach_all()
    assert diffusers.StableDiffusionPipeline.__call__ is call


def test_every_pipe_is_guarded_and_from_pipe_keeps_the_guard(whole, guard) -> None:
    assert stacked(draw(whole).images).max() == 0
    other = diffusers.StableDiffusionPipeline.from_pipe(whole)
    out = draw(other)
    assert stacked(out.images).max() == 0
    assert out.nsfw_content_detected == [True, True]
    third = diffusers.StableDiffusionPipeline(**whole.components, requires_safety_checker=False)
    assert stacked(draw(third).images).max() == 0
    with pytest.raises(UncoveredError, match="latents='allow'"):
        draw(third, output_type="latent")


def test_what_the_class_of_a_guarded_pipe_makes_is_guarded_from_its_next_call(whole, guard) -> None:
    draw(whole)
    again = type(whole)(**whole.components, requires_safety_checker=False)
    assert GUARD_ATTR not in vars(again)
    assert stacked(draw(again).images).max() == 0
    assert stacked(draw(type(whole).from_pipe(whole)).images).max() == 0


def test_diffusers_raises_no_alarm_about_a_checker_that_ours_stands_in_for(whole, guard) -> None:
    handler = logging.getLogger("diffusers").handlers[0]
    alarm, other = (
        logging.makeLogRecord({"msg": text}) for text in ("You have disabled the safety checker for", "else")
    )
    assert not handler.filter(alarm)
    assert handler.filter(other)
    detach_all()
    assert handler.filter(alarm)
    attach_all(Guard(FakeBackend(1.0)), latents="refuse")  # the fixture takes it off


def test_the_cure_that_doctor_names_runs(whole, guard) -> None:
    detach_all()
    with attach(whole, guard):
        (gap,) = [gap for gap in doctor(whole).gaps if "from_pipe" in gap]
    line = re.search(r"attach_all\(.*?\)", gap)
    assert line
    exec(line[0], {"attach_all": attach_all, "guard": guard})  # noqa: S102 - our own words
    assert stacked(draw(diffusers.StableDiffusionPipeline.from_pipe(whole)).images).max() == 0


def test_installing_twice_is_an_error(guard) -> None:
    with pytest.raises(ConfigError, match=r"detach_all\(\) first"):
        attach_all(guard, latents="refuse")


def test_a_class_that_comes_later_is_guarded_too(whole, guard) -> None:
    class Mine(diffusers.StableDiffusionPipeline):
        def __call__(self, *args, **kwargs):
            return super().__call__(*args, **kwargs)

    assert stacked(draw(Mine(**whole.components, requires_safety_checker=False)).images).max() == 0


def test_a_pipes_own_guard_is_kept(whole, guard) -> None:
    pipe = diffusers.StableDiffusionPipeline(**whole.components, requires_safety_checker=False)
    with attach(pipe, Guard(FakeBackend(0.0))):
        assert draw(pipe).nsfw_content_detected == [False, False]
    assert draw(pipe).nsfw_content_detected == [True, True]
    detach(pipe)


def test_uninstalling_restores_everything(whole) -> None:
    call = diffusers.StableDiffusionPipeline.__call__
    plain = draw(whole, output_type="pt").images
    attach_all(Guard(FakeBackend(1.0)), latents="allow")
    assert float(draw(whole, output_type="pt").images.max()) == 0
    assert draw(whole, output_type="latent").images.shape[1] == 4
    detach_all()
    assert diffusers.StableDiffusionPipeline.__call__ is call
    assert GUARD_ATTR not in vars(whole)
    assert "__init_subclass__" not in vars(diffusers.DiffusionPipeline)
    assert torch.equal(draw(whole, output_type="pt").images, plain)


def test_a_pipeline_without_images_is_left_alone(guard) -> None:
    class Text(diffusers.DiffusionPipeline):
        def __call__(self):
            return AudioPipelineOutput(audios=np.zeros((1, 1, 8)))

    pipe = Text()
    assert pipe().audios.shape == (1, 1, 8)
    assert GUARD_ATTR not in vars(pipe)
