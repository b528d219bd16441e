"""The guard as a block of a modular pipeline, and attached to one."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from nsfw_guard.errors import ConfigError, UncoveredError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.attach import attach
from nsfw_guard.pipelines.blocks import GuardStep
from nsfw_guard.testing import FakeBackend
from tests.pipelines.drawing import quiet
from tests.pipelines.zoo.flux import flux_call
from tests.pipelines.zoo.modular import blocks, modular_flux

pytestmark = quiet


def stepped(guard, **settings):
    modular = blocks()
    modular.sub_blocks.insert("guard", GuardStep(guard, **settings), len(modular.sub_blocks))
    return modular_flux(modular)


def test_a_key_that_holds_no_images_is_refused() -> None:
    with pytest.raises(ConfigError, match="'images' or 'videos'"):
        GuardStep(Guard(FakeBackend(0.0)), key="latents")


def test_a_step_before_anything_is_decoded_fails() -> None:
    modular = blocks()
    modular.sub_blocks.insert("guard", GuardStep(Guard(FakeBackend(0.0))), 0)
    pipe = modular_flux(modular)
    with pytest.raises(ValueError, match="images"):
        pipe(**flux_call(1))


@pytest.mark.parametrize("kind", ["pil", "np", "pt"])
def test_a_step_judges_the_images_that_leave(kind) -> None:
    plain = modular_flux()(**flux_call(2), output_type=kind, output="images")
    guard = Guard(FakeBackend(0.0))
    state = stepped(guard)(**flux_call(2), output_type=kind)
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(state.values["images"], plain, strict=True))
    assert state.values["nsfw_content_detected"] == [False, False]
    assert guard.backend.frames == 2
    state = stepped(Guard(FakeBackend(1.0)))(**flux_call(2), output_type=kind)
    assert max(float(np.asarray(image).max()) for image in state.values["images"]) == 0
    assert [v.flagged for v in state.values["verdicts"]] == [True, True]


def test_clips_are_judged_under_their_own_key() -> None:
    step = GuardStep(Guard(FakeBackend(1.0)), key="videos")
    assert [p.name for p in step.inputs] == ["videos"]
    assert [p.name for p in step.intermediate_outputs] == ["videos", "nsfw_content_detected", "verdicts"]
    assert "images" in step.description
    twin = copy.deepcopy(step)
    assert twin.guard is step.guard
    assert twin.key == "videos"


@pytest.mark.parametrize("output", ["images", ["images", "latents"], None])
def test_an_attached_guard_judges_every_requested_output(output) -> None:
    pipe = modular_flux()
    with attach(pipe, Guard(FakeBackend(1.0))) as attachment:
        out = pipe(**flux_call(2), output=output)
    images = out if output == "images" else out["images"] if isinstance(out, dict) else out.values["images"]
    assert max(np.asarray(image).max() for image in images) == 0
    assert [v.flagged for v in attachment.verdicts] == [True, True]
    if isinstance(out, dict):
        assert out["latents"] is None
    elif output is None:
        assert out.values["latents"] is None
        assert not any(isinstance(v, torch.Tensor) for k, v in out.values.items() if "latent" in k)


def test_allowed_latents_leave_with_their_images_and_never_alone() -> None:
    pipe = modular_flux()
    with attach(pipe, Guard(FakeBackend(0.0))):
        out = pipe(**flux_call(1), output=["images", "latents"])
        assert isinstance(out["latents"], torch.Tensor)
        with pytest.raises(UncoveredError, match="latents='allow'"):
            pipe(**flux_call(1), output_type="latent", output="images")


def test_prompts_handed_in_stay_in_the_state() -> None:
    pipe = modular_flux()
    call = flux_call(1)
    with attach(pipe, Guard(FakeBackend(1.0))):
        state = pipe(**call)
    assert torch.equal(state.values["prompt_embeds"], call["prompt_embeds"])
