"""Models, listeners and pipes that fail while a guard is attached: nothing leaves, and the pipe stays whole."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")
import diffusers

from nsfw_guard.actions import Raise
from nsfw_guard.errors import BlockedError, ConfigError, SelfTestError, UncoveredError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.attach import attach, detach
from nsfw_guard.pipelines.guarded.processors import GUARD_ATTR
from nsfw_guard.testing import FakeBackend, FaultyBackend
from nsfw_guard.verdict import Outcome
from tests.matrix import latin
from tests.pipelines.drawing import draw, stacked


class BreaksLater(FakeBackend):
    """Answers the first question, which is asked when it is attached, and then breaks in some way."""

    def __init__(self, how):
        super().__init__(0.0)
        self.how = how

    def score(self, stacks, *, embeddings=False, digests=False):
        if self.calls:
            self.calls += 1
            return FaultyBackend(self.how).score(stacks, embeddings=embeddings, digests=digests)
        return super().score(stacks, embeddings=embeddings, digests=digests)


def locals_of(error):
    """Every value in the frames that an error still holds."""
    step, values = error.__traceback__, []
    while step is not None:
        values += step.tb_frame.f_locals.values()
        step = step.tb_next
    return values


WAYS = ["raises", "nan", "infinite", "above one", "few", "many", "none", "generator", "wrong kind"]


@pytest.mark.parametrize(("how", "kind", "action"), latin(WAYS, ["pil", "np", "pt"], ["block", "blur", "flag"]))
def test_a_model_that_breaks_lets_nothing_out_and_leaves_the_pipe_whole(pipe, how, kind, action) -> None:
    plain = draw(pipe, output_type=kind).images
    with attach(pipe, Guard(BreaksLater(how), action=action)):
        out = draw(pipe, output_type=kind)
    assert float(stacked(out.images).max()) == 0
    assert out.nsfw_content_detected == [True, True]
    assert {v.outcome for v in out.verdicts} == {Outcome.ERROR}
    assert np.array_equal(stacked(draw(pipe, output_type=kind).images), stacked(plain))


@pytest.mark.parametrize("how", ["raises", "nan", "few", "none"])
def test_a_model_that_does_not_answer_is_not_attached(pipe, how) -> None:
    with pytest.raises(SelfTestError, match="no guard was attached"):
        attach(pipe, Guard(FaultyBackend(how)))
    assert type(pipe) is diffusers.StableDiffusionPipeline
    assert GUARD_ATTR not in vars(pipe)


def test_nan_latents_are_an_error_and_not_flagged_as_nsfw(pipe) -> None:
    latents = torch.full((1, 4, 16, 16), torch.nan)
    with attach(pipe, Guard(FakeBackend(0.0))):
        out = pipe("a red disc on white", latents=latents, num_inference_steps=1)
    (verdict,) = out.verdicts
    assert verdict.outcome is Outcome.ERROR
    assert "NaN or infinite" in verdict.reason
    assert np.asarray(out.images[0]).max() == 0


def test_a_listener_that_fails_holds_the_images_back(pipe) -> None:
    def fails(verdicts):
        raise OSError("disk full")

    with attach(pipe, Guard(FakeBackend(0.0), listeners=[fails])):
        out = draw(pipe)
    assert stacked(out.images).max() == 0
    assert [v.outcome for v in out.verdicts] == [Outcome.ERROR] * 2


def test_raising_leaks_no_image_and_the_pipe_still_works(pipe) -> None:
    plain = draw(pipe, output_type="pt").images
    with attach(pipe, Guard(FakeBackend(1.0), action=Raise())), pytest.raises(BlockedError) as caught:
        draw(pipe, output_type="pt")
    assert [v.outcome for v in caught.value.verdicts] == [Outcome.BLOCK] * 2
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert [v for v in locals_of(caught.value) if isinstance(v, torch.Tensor) and v is not plain] == []
    assert torch.equal(draw(pipe, output_type="pt").images, plain)


def test_an_error_of_the_pipe_itself_passes_and_leaves_it_whole(pipe) -> None:
    def stop(*args):
        raise KeyError("mine")

    with attach(pipe, Guard(FakeBackend(0.0))):
        with pytest.raises(KeyError, match="mine"):
            draw(pipe, callback_on_step_end=stop)
        assert draw(pipe).nsfw_content_detected == [False, False]


def test_latents_are_refused_with_the_cure_before_the_first_step(pipe) -> None:
    steps = []
    guard = Guard(FakeBackend(0.0))
    with attach(pipe, guard), pytest.raises(UncoveredError, match="latents='allow'"):
        draw(pipe, output_type="latent", callback_on_step_end=lambda *a: steps.append(1) or {})
    assert steps == []
    with attach(pipe, guard, latents="allow"):
        assert draw(pipe, output_type="latent").images.shape == (2, 4, 16, 16)


def test_what_is_no_pipeline_is_refused(pipe) -> None:
    for thing in (object(), pipe.unet, pipe.image_processor, "a pipe", None):
        with pytest.raises(UncoveredError, match="not a diffusers pipeline"):
            attach(thing, Guard(FakeBackend(0.0)))
    with pytest.raises(ConfigError, match="expects a Guard"):
        attach(pipe, FakeBackend())


def test_attaching_twice_and_detaching_out_of_order_are_errors(pipe) -> None:
    guard = Guard(FakeBackend(0.0))
    attachment = attach(pipe, guard)
    with pytest.raises(ConfigError, match="already has a guard"):
        attach(pipe, guard)
    attachment.detach()
    with pytest.raises(ConfigError, match="has no guard"):
        detach(pipe)
    with pytest.raises(ConfigError, match="has no guard"):
        attachment.detach()
    attach(pipe, guard)
    guarded, pipe.__class__ = type(pipe), diffusers.StableDiffusionPipeline
    with pytest.raises(ConfigError, match="was changed after"):
        detach(pipe)
    pipe.__class__ = guarded
    detach(pipe)


@pytest.mark.parametrize("settings", [{"latents": "maybe"}, {"clips": "some"}, {"margin": -1}])
def test_settings_are_checked(pipe, settings) -> None:
    with pytest.raises(ConfigError):
        attach(pipe, Guard(FakeBackend(0.0)), **settings)
    assert GUARD_ATTR not in vars(pipe)


def test_a_guarded_pipe_is_not_pickled(pipe) -> None:
    with attach(pipe, Guard(FakeBackend(0.0))), pytest.raises(ConfigError, match="detach it first"):
        pickle.dumps(pipe)
