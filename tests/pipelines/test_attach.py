"""What allowed images look like with a guard on the pipe (the same), and that nothing else ever leaves it."""

from __future__ import annotations

import asyncio
import copy
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("diffusers")
import diffusers
from diffusers.image_processor import VaeImageProcessor

from nsfw_guard.actions import Block, Blur
from nsfw_guard.errors import BlockedError, ConfigError, UncoveredError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.attach import attach, detach
from nsfw_guard.pipelines.checker import SafetyChecker
from nsfw_guard.pipelines.doctor import doctor
from nsfw_guard.pipelines.guarded.processors import GUARD_ATTR
from nsfw_guard.testing import FakeBackend
from nsfw_guard.verdict import Outcome
from tests.pipelines.drawing import PROMPTS, draw, for_threads, stacked
from tests.threads import in_threads


def first_only():
    """Flags the first of every two images that it is shown, after the one that is asked of it at the start."""
    count = iter(range(1000))
    return lambda frame: 1.0 if next(count) % 2 else 0.0


@pytest.mark.parametrize("kind", ["pil", "np", "pt"])
@pytest.mark.parametrize("bare", [True, False])
def test_allowed_images_keep_every_bit(pipe, kind, bare) -> None:
    def images(out):
        return out[0] if bare else out.images

    plain = images(draw(pipe, output_type=kind, return_dict=not bare))
    guard = Guard(FakeBackend(0.0))
    with attach(pipe, guard) as attachment:
        out = draw(pipe, output_type=kind, return_dict=not bare)
        assert [v.outcome for v in attachment.verdicts] == [Outcome.ALLOW] * 2
    assert type(images(out)) is type(plain)
    assert np.array_equal(stacked(images(out)), stacked(plain))
    assert guard.backend.frames == 3  # one at the start, one an image
    assert (out[1] if bare else out.nsfw_content_detected) == [False, False]


@pytest.mark.parametrize("kind", ["pil", "np", "pt"])
def test_a_flagged_image_is_covered_and_its_neighbour_is_not(pipe, kind) -> None:
    plain = draw(pipe, output_type=kind).images
    with attach(pipe, Guard(FakeBackend(first_only()), action=Block(colour=(1.0, 0.5, 0.0)))):
        out = draw(pipe, output_type=kind)
    assert out.nsfw_content_detected == [True, False]
    top = 255 if kind == "pil" else 1.0
    colour = stacked(out.images)[0]
    colour = colour if kind != "pt" else colour.transpose(1, 2, 0)
    assert np.allclose(colour.reshape(-1, 3) / top, (1.0, 128 / 255, 0.0), atol=1e-6)
    assert np.array_equal(stacked(out.images)[1], stacked(plain)[1])


def test_blur_shows_what_the_pixels_say_in_the_right_range(pipe) -> None:
    plain = stacked(draw(pipe, output_type="np").images)
    with attach(pipe, Guard(FakeBackend(1.0), action=Blur())):
        for kind, top in (("np", 1.0), ("pil", 255.0)):
            out = stacked(draw(pipe, output_type=kind).images) / top
            assert np.abs(out.mean((1, 2)) - plain.mean((1, 2))).max() < 0.06
            assert out.std() < plain.std()


def test_observe_mode_flags_and_releases(pipe) -> None:
    plain = draw(pipe, output_type="pt").images
    with attach(pipe, Guard(FakeBackend(1.0), action="flag")):
        out = draw(pipe, output_type="pt")
    assert out.nsfw_content_detected == [True, True]
    assert torch.equal(out.images, plain)


def test_the_callers_latents_are_not_edited(pipe) -> None:
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    before = latents.clone()
    with attach(pipe, Guard(FakeBackend(1.0))):
        draw(pipe, latents=latents)
    assert torch.equal(latents, before)


def test_the_stock_checker_is_not_asked_and_no_image_becomes_pil_for_it(whole) -> None:
    asked = []

    class Stock(torch.nn.Module):
        device, dtype = torch.device("cpu"), torch.float32

        def forward(self, **arguments):
            asked.append(arguments)
            return arguments["images"], [False]

    pipe = copy.copy(whole)
    vars(pipe)["safety_checker"] = Stock()
    with attach(pipe, Guard(FakeBackend(0.0))):
        assert draw(pipe).nsfw_content_detected == [False, False]
    assert asked == []
    assert type(pipe.safety_checker) is Stock


def test_detaching_restores_class_processors_and_model_index(pipe, tmp_path) -> None:
    processor, cls = pipe.image_processor, type(pipe)
    pipe.save_pretrained(tmp_path / "before")
    with attach(pipe, Guard(FakeBackend(0.0))):
        assert type(pipe).__name__ == cls.__name__
        assert isinstance(pipe, cls)
        assert type(processor) is VaeImageProcessor
        pipe.save_pretrained(tmp_path / "with")
    assert type(pipe) is cls
    assert pipe.image_processor is processor
    index = [(tmp_path / d / "model_index.json").read_text() for d in ("before", "with")]
    assert index[0] == index[1]


def test_an_image_postprocessed_by_hand_is_judged_too(pipe) -> None:
    with attach(pipe, Guard(FakeBackend(1.0))):
        (image,) = pipe.image_processor.postprocess(torch.ones(1, 3, 8, 8))
    assert np.asarray(image).max() == 0


def test_a_pipe_that_shares_the_processor_goes_on_unguarded(whole) -> None:
    other = diffusers.StableDiffusionPipeline(**whole.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    other.image_processor = whole.image_processor
    plain = draw(other, output_type="pt").images
    with attach(whole, Guard(FakeBackend(1.0))):
        assert torch.equal(draw(other, output_type="pt").images, plain)
        assert float(draw(whole, output_type="pt").images.max()) == 0


def test_a_deep_copy_has_the_same_guard_and_is_independent(pipe) -> None:
    guard = Guard(FakeBackend(1.0))
    attach(pipe, guard)
    twin = copy.deepcopy(pipe)
    assert vars(twin)[GUARD_ATTR] is not vars(pipe)[GUARD_ATTR]
    assert vars(twin)[GUARD_ATTR].guard is guard
    assert vars(twin)[GUARD_ATTR].pipe is twin
    detach(pipe)
    assert draw(twin).nsfw_content_detected == [True, True]
    assert stacked(draw(pipe).images).max() > 0
    detach(twin)
    assert type(twin) is diffusers.StableDiffusionPipeline
    assert stacked(draw(twin).images).max() > 0


def test_a_processor_replaced_meanwhile_is_kept_and_the_exit_judges(pipe) -> None:
    original = pipe.image_processor
    guard = Guard(FakeBackend(1.0))
    with attach(pipe, guard):
        mine = pipe.image_processor = VaeImageProcessor(vae_scale_factor=4)
        out = draw(pipe)
        assert stacked(out.images).max() == 0
        assert out.nsfw_content_detected == [True, True]
    assert pipe.image_processor is mine
    pipe.image_processor = original


def test_two_threads_keep_their_verdicts_apart(whole) -> None:
    pipes = for_threads(whole, 2)
    guard = Guard(FakeBackend())  # by redness
    attachments = [attach(pipe, guard) for pipe in pipes]
    verdicts = {}

    def work(i):
        got = []
        for _ in range(5):
            out = pipes[i](PROMPTS[i], guidance_scale=3.0, num_inference_steps=2, output_type="pt",
                           generator=torch.Generator().manual_seed(i))  # fmt: skip
            got.append((out.images.clone(), out.verdicts == attachments[i].verdicts, len(out.verdicts)))
        verdicts[i] = got

    in_threads(work, 2)
    for i in range(2):
        assert all(torch.allclose(image, verdicts[i][0][0], atol=1e-5) for image, _, _ in verdicts[i])
        assert all(same and count == 1 for _, same, count in verdicts[i])
    for attachment in attachments:
        with pytest.raises(ConfigError, match=r"out\.verdicts"):  # no call was made in this thread
            _ = attachment.verdicts
        attachment.detach()


def test_two_tasks_keep_their_verdicts_apart(pipe) -> None:
    attachment = attach(pipe, Guard(FakeBackend(first_only())))

    async def one(prompts):
        out = draw(pipe, *prompts)
        await asyncio.sleep(0.01)
        return attachment.verdicts == out.verdicts, len(out.verdicts)

    async def both():
        return await asyncio.gather(one(PROMPTS), one(PROMPTS[:1]))

    assert asyncio.run(both()) == [(True, 2), (True, 1)]


def test_a_callback_that_runs_another_guarded_pipe_leaks_nothing(whole) -> None:
    inner = copy.copy(whole)
    inner.scheduler = copy.deepcopy(whole.scheduler)
    seen = []

    def callback(pipe, i, t, kwargs):
        seen.append(draw(inner, PROMPTS[0]).images[0])
        return {}

    with attach(whole, Guard(FakeBackend(0.0))), attach(inner, Guard(FakeBackend(1.0))):
        out = draw(whole, callback_on_step_end=callback)
    assert all(np.asarray(image).max() == 0 for image in seen)
    assert out.nsfw_content_detected == [False, False]


@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
def test_compiled_parts_tiling_and_offload_go_with_a_guard(whole) -> None:
    pipe = copy.deepcopy(whole)
    plain = draw(pipe, output_type="pt").images
    with attach(pipe, Guard(FakeBackend(0.0))):
        pipe.unet = torch.compile(pipe.unet, backend="eager")
        assert torch.equal(draw(pipe, output_type="pt").images, plain)
        pipe.vae.enable_tiling()
        assert torch.equal(draw(pipe, output_type="pt").images, plain)
        pipe.enable_model_cpu_offload(device="cpu")
        assert torch.equal(draw(pipe, output_type="pt").images, plain)


def test_inference_mode_and_half_precision_go_with_a_guard(whole) -> None:
    pipe = copy.deepcopy(whole).to(torch.bfloat16)
    with torch.inference_mode():
        plain = draw(pipe, output_type="pt").images
        with attach(pipe, Guard(FakeBackend(0.0))):
            assert torch.equal(draw(pipe, output_type="pt").images, plain)
        with attach(pipe, Guard(FakeBackend(1.0))):
            assert float(draw(pipe, output_type="pt").images.max()) == 0


def test_the_cosmos_methods_turn_the_guard_off_and_on(pipe, caplog) -> None:
    with attach(pipe, Guard(FakeBackend(1.0))) as attachment:
        assert pipe.requires_safety_checker is True
        pipe.disable_safety_checker()
        assert pipe.requires_safety_checker is False
        assert stacked(draw(pipe).images).max() > 0
        assert "runs unguarded" in caplog.text
        assert attachment.state["enabled"] == "false"
        pipe.enable_safety_checker()
        assert stacked(draw(pipe).images).max() == 0


def test_the_state_says_what_is_in_effect(pipe) -> None:
    with attach(pipe, Guard(FakeBackend(0.0)), latents="allow", check_inputs=True) as attachment:
        state = attachment.state
    assert state["seam"] == "processor"
    assert state["processors"] == "image_processor"
    assert (state["latents"], state["check_inputs"], state["self_test"]) == ("allow", "true", "passed")


def test_images_handed_in_are_judged_before_any_step(whole) -> None:
    pipe = diffusers.StableDiffusionImg2ImgPipeline(**whole.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    red, blue = Image.new("RGB", (64, 64), (220, 30, 30)), Image.new("RGB", (64, 64), (30, 30, 220))
    steps = []
    settings = {"num_inference_steps": 4, "callback_on_step_end": lambda *a: steps.append(1) or {}}
    with attach(pipe, Guard(FakeBackend()), check_inputs=True):
        for image in (
            red,
            [blue, red],
            np.asarray(red) / 255,
            torch.tensor([0.9, 0.1, 0.1]).view(1, 3, 1, 1).expand(1, 3, 64, 64),
        ):
            with pytest.raises(BlockedError, match="red"):
                pipe(["a star on white"] * (2 if isinstance(image, list) else 1), image, **settings)
        assert steps == []
        out = pipe("a blue star on white", blue, **settings)
        assert out.nsfw_content_detected == [False]
        with pytest.raises(UncoveredError, match="contains latents"):
            pipe("a star", torch.zeros(1, 4, 16, 16), **settings)
    with attach(pipe, Guard(FakeBackend())):
        pipe("a blue star on white", red, **settings)


def prompt_guard(**settings):
    policy = {"rules": {"red": {"block": 0.5}}, "prompts": {"words": ["ring"]}}
    return Guard(FakeBackend(0.0), policy=policy, **settings)


def test_a_refused_prompt_costs_no_step(pipe) -> None:
    steps = []
    with attach(pipe, prompt_guard()):
        for prompts in (["a blue r.i.n.g"], ["a star", "a RING"]):
            with pytest.raises(BlockedError, match="prompt: word 'ring'"):
                draw(pipe, *prompts, callback_on_step_end=lambda *a: steps.append(1) or {})
        assert steps == []
        assert draw(pipe, "a ringed star", negative_prompt=["a ring"]).nsfw_content_detected == [False]


def test_a_refused_prompt_still_runs_in_observe_mode(pipe, caplog) -> None:
    with attach(pipe, prompt_guard(action="flag")):
        assert draw(pipe, "a ring").nsfw_content_detected == [False]
    assert "a flagged prompt is used" in caplog.text


def test_a_text_model_may_refuse_and_a_failing_one_refuses_everything(pipe) -> None:
    def asked(texts):
        return ["too blue" if "blue" in text else None for text in texts]

    def fails(texts):
        raise RuntimeError("no text model")

    with attach(pipe, Guard(FakeBackend(0.0)), text_model=asked):
        assert draw(pipe, "a red star").nsfw_content_detected == [False]
        with pytest.raises(BlockedError, match="prompt: too blue"):
            draw(pipe)
    for broken in (fails, lambda texts: [], lambda texts: None):
        with attach(pipe, Guard(FakeBackend(0.0)), text_model=broken), pytest.raises(BlockedError):
            draw(pipe)


def test_requested_shapes_are_judged_by_their_pixels(whole) -> None:
    prompts = ["a large red disc on white", "a blue star on grey", "a red square on black", "a red disc on sky"]
    with attach(whole, Guard.from_pretrained("demo-shapes", action="blur")):
        out = draw(whole, *prompts, num_inference_steps=20)
    assert out.nsfw_content_detected == [True, False, False, True]


# what is made of a guarded pipe


def test_the_class_of_a_guarded_pipe_makes_unguarded_pipes(pipe) -> None:
    with attach(pipe, Guard(FakeBackend(1.0))):
        again = type(pipe)(**pipe.components, requires_safety_checker=False)
        other = type(pipe).from_pipe(pipe)
        sibling = diffusers.StableDiffusionImg2ImgPipeline.from_pipe(pipe, requires_safety_checker=False)
        for unguarded in (again, other, sibling):
            unguarded.set_progress_bar_config(disable=True)
            assert GUARD_ATTR not in vars(unguarded)
            assert type(unguarded).__call__ in (diffusers.StableDiffusionPipeline.__call__, type(sibling).__call__)
        assert np.asarray(draw(again).images[0]).max() > 0
        with attach(again, Guard(FakeBackend(1.0))):
            assert np.asarray(draw(again).images[0]).max() == 0


def test_the_class_of_a_guarded_pipe_loads_a_folder(pipe, tmp_path) -> None:
    pipe.save_pretrained(tmp_path)
    with attach(pipe, Guard(FakeBackend(1.0))):
        loaded = pipe.from_pretrained(tmp_path, requires_safety_checker=False)
    assert type(loaded) is diffusers.StableDiffusionPipeline
    assert len(draw(loaded).images) == 2


def test_a_subclass_of_a_guarded_pipes_class_can_be_guarded_too(pipe) -> None:
    with attach(pipe, Guard(FakeBackend(1.0))):
        subclassed = type("Own", (type(pipe),), {})(**pipe.components, requires_safety_checker=False)
    subclassed.set_progress_bar_config(disable=True)
    assert np.asarray(draw(subclassed).images[0]).max() > 0
    assert not subclassed.requires_safety_checker
    with pytest.raises(ConfigError, match="attach one first"):
        subclassed.disable_safety_checker()
    with attach(subclassed, Guard(FakeBackend(1.0))):
        assert np.asarray(draw(subclassed).images[0]).max() == 0
    assert np.asarray(draw(subclassed).images[0]).max() > 0


def test_guarded_processors_and_checkers_are_not_pickled(pipe) -> None:
    with attach(pipe, Guard(FakeBackend(0.0))):
        with pytest.raises(ConfigError, match="detach it first"):
            pickle.dumps(pipe.image_processor)
        twin = copy.deepcopy(pipe.image_processor)
        assert type(twin) is type(pipe.image_processor)
    with pytest.raises(ConfigError, match="save_pretrained"):
        pickle.dumps(SafetyChecker(Guard(FakeBackend(0.0))))
    assert copy.copy(SafetyChecker(Guard(FakeBackend(0.0)))).guard is not None


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        (diffusers.StableDiffusionPipeline, "StableDiffusionPipeline is a class, not a pipeline"),
        (type("Mega", (diffusers.DiffusionPipeline,), {})(), "Mega is a pipeline that cannot be called"),
        (object(), "object is not a diffusers pipeline"),
    ],
)
def test_what_cannot_be_guarded_is_named(thing, says) -> None:
    with pytest.raises(UncoveredError, match=says):
        attach(thing, Guard(FakeBackend(0.0)))
    with pytest.raises(ConfigError, match=says):
        doctor(thing)


@pytest.mark.filterwarnings("ignore:.*callback:FutureWarning")  # the older of the two
@pytest.mark.parametrize("name", ["callback_on_step_end", "callback"])
def test_a_flagged_preview_is_covered_and_decides_nothing_else(pipe, name) -> None:
    shown = []

    def preview(*given):
        held = given[-1] if isinstance(given[-1], dict) else {"latents": given[-1]}
        shown.extend(pipe.image_processor.postprocess(torch.zeros(1, 3, 8, 8) + 1, output_type="np"))
        return held if name == "callback_on_step_end" else None

    plain = draw(pipe)
    with attach(pipe, Guard(FakeBackend(lambda frame: float(frame.min() > 250)))):
        out = draw(pipe, **{name: preview}, **({"callback_steps": 1} if name == "callback" else {}))
    assert len(shown) == 2
    assert max(float(frame.max()) for frame in shown) == 0
    assert out.nsfw_content_detected == [False, False]
    assert all(np.array_equal(a, b) for a, b in zip(out.images, plain.images, strict=True))
