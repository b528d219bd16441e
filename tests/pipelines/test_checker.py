"""The guard in the slot: every contract of it, with real pipelines; saved, loaded and moved like any other part."""

from __future__ import annotations

import copy
import json
import logging
import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

import diffusers

import nsfw_guard
from nsfw_guard.actions import Blur
from nsfw_guard.errors import BlockedError, ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.checker import NoFeatures, SafetyChecker
from nsfw_guard.testing import FakeBackend, FaultyBackend
from nsfw_guard.verdict import Outcome
from tests.pipelines.drawing import draw, quiet, stacked
from tests.pipelines.zoo import CASES

pytestmark = quiet

SLOTS = ["StableDiffusionPipeline", "StableDiffusionInpaintPipeline", "LatentConsistencyModelPipeline",
         "StableDiffusionUpscalePipeline", "StableDiffusionAdapterPipeline", "StableDiffusionPAGPipeline",
         "HunyuanDiTPipeline", "IFPipeline"]  # fmt: skip
# The tensors of IF are handed out unchecked by IF itself: attach covers them.
PAIRS = [
    (name, kind)
    for name in SLOTS
    for kind in CASES[name].kinds
    if kind != "latent" and (name, kind) != ("IFPipeline", "pt")
]


def slotted(name, guard):
    pipe = CASES[name].build()
    checker = SafetyChecker(guard).for_pipeline(pipe)
    pipe.register_modules(safety_checker=checker, feature_extractor=checker.feature_extractor)
    return pipe


def run(name, pipe, **settings):
    torch.manual_seed(0)
    return pipe(**CASES[name].call(pipe), **settings)


def flags_of(out):
    return out.nsfw_detected if hasattr(out, "nsfw_detected") else out.nsfw_content_detected


# faults


def test_an_object_that_is_not_a_guard_is_refused() -> None:
    with pytest.raises(ConfigError, match="expects a Guard"):
        SafetyChecker(FakeBackend())


@pytest.mark.parametrize("how", ["raises", "nan", "few", "none"])
@pytest.mark.parametrize("kind", ["pil", "np", "pt"])
def test_a_model_that_breaks_lets_nothing_out(how, kind) -> None:
    pipe = slotted("StableDiffusionPipeline", Guard(FaultyBackend(how)))
    out = run("StableDiffusionPipeline", pipe, output_type=kind)
    assert float(stacked(out.images).max()) == 0
    assert out.nsfw_content_detected == [True, True]


def test_nan_is_no_image() -> None:
    checker = SafetyChecker(Guard(FakeBackend(0.0)))
    images = torch.zeros(2, 3, 8, 8)
    images[1, 0, 0, 0] = torch.nan
    out, flags = checker(images=images, clip_input=None)
    assert flags == [False, True]
    assert "NaN or infinite" in checker.verdicts[1].reason
    assert float(out[1].abs().max()) == 0
    assert bool(images[1, 0, 0, 0].isnan())  # the caller's own is not edited


def test_raise_raises_out_of_the_slot() -> None:
    pipe = slotted("StableDiffusionPipeline", Guard(FakeBackend(1.0), action="raise"))
    with pytest.raises(BlockedError):
        run("StableDiffusionPipeline", pipe)


# contracts


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_allowed_images_keep_every_bit(name, kind) -> None:
    free = CASES[name].build()
    before = run(name, free, output_type=kind).images
    guard = Guard(FakeBackend(0.0))
    out = run(name, slotted(name, guard), output_type=kind)
    assert np.array_equal(stacked(out.images), stacked(before))
    assert flags_of(out) == [False] * CASES[name].count
    assert all(type(flag) is bool for flag in flags_of(out))
    assert guard.backend.frames == CASES[name].count


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_flagged_images_leave_as_the_action_says(name, kind) -> None:
    out = run(name, slotted(name, Guard(FakeBackend(1.0))), output_type=kind)
    assert stacked(out.images).max() == 0
    assert flags_of(out) == [True] * CASES[name].count
    blurred = stacked(run(name, slotted(name, Guard(FakeBackend(1.0), action=Blur())), output_type=kind).images)
    assert 0 <= blurred.min() <= blurred.max() <= (255 if kind == "pil" else 1)
    assert blurred.std() < stacked(run(name, CASES[name].build(), output_type=kind).images).std()


def test_observe_mode_and_review_release_the_drawn_image() -> None:
    before = run("StableDiffusionPipeline", CASES["StableDiffusionPipeline"].build(), output_type="pt").images
    for score, flag in ((1.0, True), (0.3, False)):
        pipe = slotted("StableDiffusionPipeline", Guard(FakeBackend(score), action="flag"))
        out = run("StableDiffusionPipeline", pipe, output_type="pt")
        assert torch.equal(out.images, before)
        assert out.nsfw_content_detected == [flag, flag]


def test_a_covered_review_is_not_flagged_and_in_the_right_range() -> None:
    pipe = slotted("StableDiffusionPipeline", Guard(FakeBackend(0.3), on_review="block"))
    out = run("StableDiffusionPipeline", pipe, output_type="pt")
    assert float(out.images.max()) == 0
    assert out.nsfw_content_detected == [False, False]


def test_onnx_pipelines_call_it_image_by_image_with_arrays() -> None:
    checker = SafetyChecker(Guard(FakeBackend()))
    images = np.zeros((2, 8, 8, 3), np.float32)
    images[0, ..., 0] = 0.9
    answers = [checker(clip_input=np.zeros((1, 1)), images=images[i : i + 1]) for i in range(2)]
    assert [flags for _, flags in answers] == [[True], [False]]
    assert answers[0][0].dtype == np.float32
    assert answers[0][0].max() == 0
    assert np.array_equal(answers[1][0], images[1:])


def test_pipelines_that_want_three_values_get_three() -> None:
    checker = SafetyChecker(Guard(FakeBackend(0.0)))
    assert len(checker(images=torch.zeros(1, 3, 8, 8))) == 2
    three = checker.for_pipeline(diffusers.IFPipeline)
    assert three(images=np.zeros((1, 8, 8, 3), np.float32))[1:] == ([False], [False])
    assert three.guard is checker.guard
    assert not checker.for_pipeline(diffusers.StableDiffusionPipeline).config.watermark


def test_cosmos_pipelines_call_it_with_text_and_clips() -> None:
    policy = {"rules": {"red": {"block": 0.5}}, "prompts": {"words": ["dragon"]}}
    checker = SafetyChecker(Guard(FakeBackend(), policy=policy))
    assert checker.to("cpu") is checker
    assert checker.check_text_safety("a star") is True
    assert checker.check_text_safety("a d.r.a.g.o.n") is False
    clip = np.full((3, 8, 8, 3), 40, np.uint8)
    assert checker.check_video_safety(clip) is clip
    clip[1, ..., 0] = 220
    out = checker.check_video_safety(clip)
    assert out.shape == clip.shape
    assert out.dtype == np.uint8
    assert out.max() == 0  # one frame, and all of the clip
    assert checker.verdicts[0].outcome is Outcome.BLOCK


def test_cosmos_pipelines_get_an_instance_of_their_own_class() -> None:
    from diffusers.pipelines.cosmos import pipeline_cosmos3_omni as omni

    checker = SafetyChecker(Guard(FakeBackend(0.0)))
    assert not isinstance(checker, omni.CosmosSafetyChecker)
    assert isinstance(checker.for_pipeline(diffusers.Cosmos3OmniPipeline), omni.CosmosSafetyChecker)
    assert isinstance(checker.for_pipeline(diffusers.Cosmos3OmniPipeline), SafetyChecker)


def test_a_cosmos_pipeline_runs_with_it() -> None:
    name = "CosmosTextToWorldPipeline"
    for score in (0.0, 1.0):
        pipe = CASES[name].build()
        vars(pipe)["safety_checker"] = SafetyChecker(Guard(FakeBackend(score)))
        clip = run(name, pipe, output_type="np").frames
        assert (float(clip.max()) == 0) is (score == 1.0)


# as a part of a pipeline


@pytest.fixture(scope="module")
def saved(tiny, whole, tmp_path_factory):
    """A pipeline with a real model in its slot, in a folder, and what that model says of two images."""
    policy = {"name": "mine", "rules": {"sexual": {"block": 0.4}}, "prompts": {"words": ["dragon"]}}
    guard = Guard.from_pretrained(tiny, labels={"NSFW": "sexual", "SFW": None}, policy=policy, action="pixelate")
    checker = SafetyChecker(guard)
    pipe = diffusers.StableDiffusionPipeline(**whole.components)
    pipe.register_modules(safety_checker=checker, feature_extractor=checker.feature_extractor)
    folder = tmp_path_factory.mktemp("saved") / "pipe"
    pipe.save_pretrained(folder)
    images = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    return folder, images, guard.check(images)


@pytest.mark.parametrize("cls", ["StableDiffusionPipeline", "DiffusionPipeline", "AutoPipelineForText2Image"])
def test_a_folder_brings_the_guard_back(saved, cls, caplog) -> None:
    folder, images, said = saved
    index = json.loads((folder / "model_index.json").read_text())
    assert index["safety_checker"] == ["nsfw_guard", "SafetyChecker"]
    assert index["feature_extractor"] == ["nsfw_guard", "NoFeatures"]
    with caplog.at_level(logging.WARNING):
        pipe = getattr(diffusers, cls).from_pretrained(folder)
    assert "safety_checker" not in caplog.text
    assert type(pipe.safety_checker) is SafetyChecker
    assert type(pipe.feature_extractor) is NoFeatures
    guard = pipe.safety_checker.guard
    assert (guard.policy.name, guard.action.name) == ("mine", "pixelate")
    assert [v.score for v in guard.check(images)] == [v.score for v in said]


def test_a_fresh_process_that_imports_us_loads_it(saved) -> None:
    code = (
        "import sys, nsfw_guard, diffusers; p = diffusers.StableDiffusionPipeline.from_pretrained(sys.argv[1]);"
        "print(type(p.safety_checker).__name__, p.safety_checker.guard.policy.name)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(saved[0])], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["SafetyChecker", "mine"]


def test_a_folder_without_a_guard_is_refused_with_the_cure(tmp_path) -> None:
    with pytest.raises(ConfigError, match="contains no saved guard"):
        SafetyChecker.from_pretrained(tmp_path)


def test_loading_a_stock_folder_with_it_says_nothing_of_types(saved, whole, tmp_path, caplog) -> None:
    whole.save_pretrained(tmp_path)
    checker = SafetyChecker(Guard(FakeBackend(1.0)))
    with caplog.at_level(logging.WARNING):
        pipe = diffusers.StableDiffusionPipeline.from_pretrained(
            tmp_path, safety_checker=checker, feature_extractor=checker.feature_extractor
        )
    assert "Expected types" not in caplog.text
    assert draw(pipe).nsfw_content_detected == [True, True]


@pytest.fixture
def guarded(whole):
    checker = SafetyChecker(Guard(FakeBackend(1.0)))
    parts = {**whole.components, "safety_checker": checker, "feature_extractor": checker.feature_extractor}
    pipe = diffusers.StableDiffusionPipeline(**copy.deepcopy(parts))
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_moves_do_not_change_it(guarded, dtype) -> None:
    guarded.to(dtype)
    assert guarded.safety_checker.dtype == dtype
    assert guarded.device == torch.device("cpu")
    assert draw(guarded).nsfw_content_detected == [True, True]


def test_it_is_shared_by_pipes_made_from_its_pipe(guarded) -> None:
    guard = guarded.safety_checker.guard
    others = [
        diffusers.StableDiffusionImg2ImgPipeline.from_pipe(guarded),
        diffusers.StableDiffusionPipeline(**guarded.components),
        diffusers.AutoPipelineForImage2Image.from_pipe(guarded),
        copy.deepcopy(guarded),
    ]
    assert all(other.safety_checker.guard is guard for other in others)


def test_it_works_with_model_offload(guarded) -> None:
    guarded.enable_model_cpu_offload(device="cpu")
    assert draw(guarded).nsfw_content_detected == [True, True]


def test_it_works_with_group_offload(guarded) -> None:
    cpu = torch.device("cpu")
    guarded.enable_group_offload(onload_device=cpu, offload_device=cpu, offload_type="leaf_level")
    assert draw(guarded).nsfw_content_detected == [True, True]


def test_the_names_that_diffusers_looks_for_are_there() -> None:
    import transformers

    assert nsfw_guard.PreTrainedModel is transformers.PreTrainedModel
    assert nsfw_guard.ImageProcessingMixin is transformers.ImageProcessingMixin
    assert nsfw_guard.SafetyChecker.__module__ == nsfw_guard.NoFeatures.__module__ == "nsfw_guard"


def test_no_features_gives_one_row_an_image() -> None:
    none = NoFeatures()
    assert none([1, 2, 3], return_tensors="pt").pixel_values.shape == (3, 1)
    assert none(np.zeros((2, 8, 8, 3)), return_tensors="np").pixel_values.shape == (2, 1)
    assert none(np.zeros((8, 8, 3))).pixel_values.shape == (1, 1)
