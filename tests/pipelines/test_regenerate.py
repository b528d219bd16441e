"""Only what was blocked is drawn again, with seeds that can be named."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.attach import attach, detach
from nsfw_guard.pipelines.guarded.processors import GUARD_ATTR
from nsfw_guard.pipelines.regenerate import regenerate
from nsfw_guard.testing import FakeBackend
from tests.pipelines.drawing import PROMPTS

CALL = {"num_inference_steps": 2, "guidance_scale": 3.0}


def answers(*scores):
    """A guard whose model gives these scores, one an image, after the image that is asked of it at the start."""
    given = iter((0.0, *scores))
    return Guard(FakeBackend(lambda frame: next(given)))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"attempts": 0}, "attempts must be at least 1, got 0"),
        ({"generator": torch.Generator()}, "generator is set"),
        ({"latents": torch.zeros(1)}, "latents is set"),
        ({"return_dict": False}, "return_dict=False"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_drawn(pipe, settings, says) -> None:
    guard = answers()
    with pytest.raises(ConfigError, match=says):
        regenerate(pipe, guard, prompt=PROMPTS, **settings)
    assert guard.backend.calls == 0


def test_a_pipe_with_another_guard_is_an_error(pipe) -> None:
    attach(pipe, answers())
    with pytest.raises(ConfigError, match="another guard"):
        regenerate(pipe, answers(), prompt=PROMPTS, **CALL)
    detach(pipe)


def test_nothing_blocked_is_drawn_once(pipe) -> None:
    result = regenerate(pipe, answers(0.0, 0.0), prompt=PROMPTS, seed=7, **CALL)
    seeds = [torch.Generator().manual_seed(s) for s in (7, 8)]
    plain = pipe(PROMPTS, generator=seeds, **CALL).images
    assert all(np.array_equal(a, b) for a, b in zip(result.images, plain, strict=True))
    assert (result.tries, result.seeds, result.calls, result.drawn) == ((1, 1), (7, 8), 1, 2)
    assert GUARD_ATTR not in vars(pipe)


@pytest.mark.parametrize("kind", ["pil", "np", "pt"])
def test_only_the_blocked_image_is_redrawn_with_a_reported_seed(pipe, kind) -> None:
    result = regenerate(pipe, answers(0.0, 1.0, 1.0, 0.0), prompt=PROMPTS, output_type=kind, **CALL)
    assert result.tries == (1, 3)
    assert (result.calls, result.drawn) == (3, 4)
    assert result.seeds == (0, 1 + 2 * 1_000_003)
    assert result.nsfw_content_detected == [False, False]
    for i in range(2):
        again = torch.Generator().manual_seed(result.seeds[i])
        alone = pipe([PROMPTS[i]], generator=[again], output_type=kind, **CALL).images[0]
        # Alone and in a batch are rounded otherwise: a level at most.
        near = 1.0 if kind == "pil" else 1 / 255
        assert np.allclose(np.asarray(result.images[i], float), np.asarray(alone, float), atol=near)


def test_several_images_a_prompt_are_redrawn_with_their_prompt(pipe) -> None:
    guard = answers(0, 0, 1, 0, 0)  # the third is the second prompt's first
    result = regenerate(pipe, guard, prompt=PROMPTS, num_images_per_prompt=2, output_type="pt", **CALL)
    assert result.tries == (1, 1, 2, 1)
    alone = pipe(PROMPTS[1], generator=torch.Generator().manual_seed(result.seeds[2]), output_type="pt", **CALL).images
    assert torch.allclose(result.images[2], alone[0], atol=1e-4)


def test_an_image_that_stays_blocked_leaves_covered(pipe) -> None:
    result = regenerate(pipe, answers(*[1.0] * 9), prompt="a red disc on white", attempts=3, **CALL)
    assert result.nsfw_content_detected == [True]
    assert (result.tries, result.calls) == ((3,), 3)
    assert np.asarray(result.images[0]).max() == 0
    assert result.seconds > 0


def test_arguments_given_per_prompt_are_reduced_with_the_prompts(pipe) -> None:
    negative = ["a ring", "a cross"]
    result = regenerate(pipe, answers(0, 1, 0), prompt=PROMPTS, negative_prompt=negative, output_type="pt", **CALL)
    again = torch.Generator().manual_seed(result.seeds[1])
    alone = pipe(PROMPTS[1], negative_prompt="a cross", generator=again, output_type="pt", **CALL).images
    assert torch.allclose(result.images[1], alone[0], atol=1e-4)


def test_embeddings_work_in_place_of_prompts(pipe) -> None:
    embeds, _ = pipe.encode_prompt(PROMPTS, "cpu", 1, False)
    result = regenerate(pipe, answers(1, 0, 0), prompt_embeds=embeds, negative_prompt_embeds=embeds * 0, **CALL)
    assert result.tries == (2, 1)
