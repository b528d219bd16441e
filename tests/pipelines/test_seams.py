"""Every class of the installed diffusers has a seam or a reason; what is written down of them is true of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

import diffusers

from nsfw_guard.cli.main import main
from nsfw_guard.errors import BlockedError, UncoveredError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines import seams
from nsfw_guard.pipelines.attach import attach
from nsfw_guard.pipelines.guarded import inputs
from nsfw_guard.pipelines.guarded.ranges import tensor_range
from nsfw_guard.pipelines.survey import classes, survey
from nsfw_guard.testing import FakeBackend
from tests.pipelines.zoo import CASES


@pytest.fixture(scope="module")
def surveyed():
    return survey()


@pytest.mark.filterwarnings("ignore")
def test_nearly_all_visual_classes_are_covered_and_the_rest_is_named_with_a_reason(surveyed) -> None:
    visual = {name: one for name, one in surveyed.items() if one.visual}
    bare = {name: one.reason for name, one in visual.items() if not one.seam}
    assert len(visual) >= 300
    assert len(bare) <= 10
    assert all(bare.values())
    assert set(bare) <= set(seams.REFUSED)
    assert {one.seam for one in visual.values()} == {"", *seams.SEAMS} - {"exit"}


@pytest.mark.filterwarnings("ignore")
def test_what_is_not_covered_is_refused_by_attach(surveyed) -> None:
    guard = Guard(FakeBackend())
    refused = {cls.__name__: cls for cls in classes() if not surveyed[cls.__name__].seam}
    assert {"MarigoldDepthPipeline", "KandinskyV22PriorPipeline"} <= set(refused)
    for name, cls in refused.items():
        with pytest.raises(UncoveredError, match=f"{name} cannot be guarded"):
            attach(object.__new__(cls), guard)


@pytest.mark.filterwarnings("ignore")
def test_the_doctor_prints_it(capsys, surveyed) -> None:
    assert main(["doctor", "--diffusers"]) == 0
    printed = capsys.readouterr()
    assert "MarigoldDepthPipeline" in printed.out
    assert f"{sum(one.visual for one in surveyed.values())} visual pipeline classes" in printed.err


@pytest.mark.parametrize("name", sorted({name.split("/")[0] for name in CASES}))
def test_the_zoo_is_classified_as_what_it_is(name) -> None:
    cls = getattr(diffusers, name)
    one = seams.classify(cls)
    assert (one.seam == "modular") is (name == "FluxModularPipeline")
    assert (one.seam == "parts") is name.endswith("CombinedPipeline")
    assert one.slot is any(case.slot for case in CASES.values() if case.name.split("/")[0] == name)


def test_ranges_and_places_are_read_from_the_class() -> None:
    assert tensor_range(diffusers.KandinskyV22Pipeline) == "signed"
    assert tensor_range(diffusers.IFPipeline) == "signed"
    assert tensor_range(diffusers.Kandinsky5T2IPipeline) == "unit"
    assert tensor_range(diffusers.FluxPipeline) == "unit"
    assert seams.tuple_fields(diffusers.LTX2Pipeline, 2) == ("frames", "audio")
    assert seams.tuple_fields(diffusers.StableDiffusionPipeline, 2) == ("images", "nsfw_content_detected")
    assert seams.tuple_fields(diffusers.WanPipeline, 1) == ("frames",)
    assert seams.returns_bare_value(diffusers.StableVideoDiffusionPipeline)
    assert not seams.returns_bare_value(diffusers.FluxPipeline)


def test_callbacks_that_are_handed_images_are_refused() -> None:
    case = CASES["IFPipeline"]
    pipe = case.build()
    seen = []
    with attach(pipe, Guard(FakeBackend(1.0))), pytest.raises(UncoveredError, match="passes unchecked images to"):
        pipe(**case.call(pipe), callback=lambda i, t, images: seen.append(images))
    assert seen == []
    assert seams.pixel_space(diffusers.ConsistencyModelPipeline)
    assert not seams.pixel_space(diffusers.StableDiffusionPipeline)
    assert not seams.pixel_space(diffusers.OnnxStableDiffusionPipeline)


def test_sound_leaves_unchanged_with_its_clip() -> None:
    case = CASES["LTX2Pipeline"]
    pipe = case.build()
    free = pipe(**case.call(pipe), output_type="np")
    with attach(pipe, Guard(FakeBackend(1.0))):
        out = pipe(**case.call(pipe), output_type="np")
        pair = pipe(**case.call(pipe), output_type="np", return_dict=False)
    assert out.frames.max() == 0
    assert torch.equal(torch.as_tensor(out.audio), torch.as_tensor(free.audio))
    assert np.max(pair[0]) == 0
    assert torch.equal(torch.as_tensor(pair[1]), torch.as_tensor(free.audio))


def test_hdr_light_is_judged_as_a_file_would_show_it() -> None:
    from nsfw_guard.pipelines.guarded.leaving import exit_range
    from nsfw_guard.pipelines.guarded.run import Cover, GuardedCall

    assert exit_range(diffusers.LTX2HDRPipeline) == "hdr"
    clip = torch.full((1, 2, 8, 8, 3), 3.0)  # channels last, above 1
    run = GuardedCall(Guard(FakeBackend(0.0)), Cover())
    assert run.finish(clip, clips=True, value_range="hdr") is clip
    blocked = GuardedCall(Guard(FakeBackend(1.0)), Cover()).finish(clip, clips=True, value_range="hdr")
    assert blocked.shape == clip.shape
    assert float(blocked.max()) == 0
    clip[0, 1, 0, 0, 0] = torch.inf
    odd = GuardedCall(Guard(FakeBackend(0.0)), Cover())
    odd.finish(clip, clips=True, value_range="hdr")
    assert "NaN or infinite" in odd.verdicts[0].reason


def test_prompts_and_images_are_found_among_the_arguments() -> None:
    arguments = {
        "prompt": ["a disc", "a ring"], "prompt_2": "a star", "negative_prompt": "a cross", "task_prompt": {"a": "b"},
        "image": CASES, "control_image": np.zeros((8, 8, 3)), "mask_image": np.zeros((8, 8, 3)),
        "ip_adapter_image_embeds": [torch.zeros(1, 3, 8)], "num_images_per_prompt": 1, "video": [torch.zeros(3, 8, 8)],
        "image_guidance_scale": 1.5, "prompt_embeds": torch.zeros(1, 3, 8),
    }  # fmt: skip
    assert inputs.prompts_of(arguments) == ["a disc", "a ring", "a star", "b"]
    assert [name for name, _ in inputs.images_of(arguments)] == ["control_image", "video"]


def test_arguments_are_found_by_name_however_they_are_given() -> None:
    def call(self, prompt=None, steps=3, **more):
        return None

    arguments = inputs.arguments_of(call, object(), ("a disc",), {"output_type": "np"})
    assert {k: v for k, v in arguments.items() if k != "self"} == {"prompt": "a disc", "steps": 3, "output_type": "np"}
    assert inputs.arguments_of(lambda self: None, object(), (1, 2), {"a": 1}) == {"a": 1}  # it will fail by itself


def test_empty_places_among_images_are_skipped() -> None:
    red = np.zeros((8, 8, 3), np.float32)
    red[..., 0] = 0.9
    guard = Guard(FakeBackend())
    inputs.refuse_images(guard, {"image": [[np.zeros((8, 8, 3), np.float32), None]]}, "refuse")
    with pytest.raises(BlockedError):
        inputs.refuse_images(guard, {"image": [[red, None], [None]]}, "refuse")
