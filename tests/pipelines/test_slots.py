"""The guard in the slot: what is flagged does not leave, what is allowed does not change."""

from __future__ import annotations

import copy
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers", minversion="0.42")
pytest.importorskip("transformers")
import diffusers
from PIL import Image

import nsfw_guard
from nsfw_guard import Guard, SafetyChecker
from nsfw_guard.errors import BlockedError, ConfigError, ImageError, UncoveredError
from nsfw_guard.pipelines.doctor import skipped
from nsfw_guard.scores import Region, Scores, Severity
from nsfw_guard.testing import FAULTS, FakeBackend, FaultyBackend
from nsfw_guard.verdict import Outcome
from tests.images import smooth
from tests.matrix import one_each
from tests.pipelines.drawing import stacked
from tests.pipelines.slots import SD, SHOWN, SLOTS, answers, checker_of, guarded, put, run
from tests.pipelines.zoo import CASES

# What numpy, schedulers and pipelines of diffusers say of each other.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The decode_latents method is deprecated:FutureWarning"),
]


def decoded(count: int = 3) -> torch.Tensor:
    """What a VAE hands over: images around [-1, 1], not clipped. Shape: (count, 3, 24, 24)."""
    return smooth(count, 24, 24) * 3 - 1.4


def reddest(frame: torch.Tensor) -> float:
    return float(frame[0].float().mean() > frame[1].float().mean())


# what must never happen


@pytest.mark.parametrize("action", ["block", "blur", "pixelate", "replace"])
def test_a_covered_image_comes_back_in_unit_range(action) -> None:
    images = decoded()
    images[1, 0] += 2  # red
    images[0, 0] -= 2
    images[2, 0] -= 2
    before = images.clone()

    safe, flags = checker_of(reddest, action=action)(images=images, clip_input=None)

    assert flags == [False, True, False]
    assert all(type(flag) is bool for flag in flags)
    assert torch.equal(images, before)
    assert torch.equal(safe[[0, 2]], before[[0, 2]])
    assert safe[1].min() >= 0
    assert safe[1].max() <= 1
    assert not torch.equal(safe[1], (before[1] * 0.5 + 0.5).clamp(0, 1))


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "hangs"])
def test_a_model_that_fails_holds_every_image_back(fault) -> None:
    checker = SafetyChecker(Guard(FaultyBackend(fault), action="blur"))
    safe, flags = checker(images=decoded(), clip_input=None)
    assert flags == [True] * 3
    assert not safe.any()
    assert {verdict.outcome for verdict in checker.verdicts} == {Outcome.ERROR}


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")  # the pipeline's own, of NaN
def test_an_overflow_of_the_decoder_is_held_back() -> None:
    pipe, checker = guarded(SD, checker_of(0.0))
    latents = torch.zeros(2, 4, 32, 32)
    latents[1] = float("nan")
    made_of = pipe(**{**SD.call(pipe), "latents": latents}, output_type="pt")
    assert made_of.nsfw_content_detected == [False, True]
    assert not made_of.images[1].any()
    assert made_of.images[0].any()
    assert "NaN or infinite" in checker.verdicts[1].reason


def test_too_few_or_too_many_values_fail_before_an_image_leaves() -> None:
    pipe = CASES["IFPipeline"].build()
    pipe.register_modules(safety_checker=checker_of(0.0), feature_extractor=nsfw_guard.NoFeatures())
    with pytest.raises(ValueError, match="expected 3, got 2"):
        run(pipe, CASES["IFPipeline"], "np")
    pipe = SD.build()
    three = SafetyChecker(Guard(FakeBackend()), watermark=True)
    pipe.register_modules(safety_checker=three, feature_extractor=three.feature_extractor)
    with pytest.raises(ValueError, match="too many values"):
        run(pipe, SD, "np")


def test_the_action_raise_lets_no_image_out() -> None:
    pipe, _ = guarded(SD, checker_of(1.0, action="raise"))
    with pytest.raises(BlockedError, match="red"):
        run(pipe, SD, "np")


@pytest.mark.parametrize("images", [[Image.new("RGB", (8, 8))], torch.zeros(1, 3, 8, 8, dtype=torch.uint8), None])
def test_inputs_that_no_pipeline_hands_over_are_refused(images) -> None:
    with pytest.raises(ImageError, match="call the guard"):
        checker_of(0.0)(images=images, clip_input=None)


def test_a_checker_without_a_guard_is_an_error() -> None:
    bare = SafetyChecker(nsfw_guard.GuardConfig())
    for ask in (lambda: bare(images=decoded(), clip_input=None), lambda: bare.check_text_safety("a disc")):
        with pytest.raises(ConfigError, match="this checker has no guard"):
            ask()


def test_an_object_that_is_not_a_guard_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expects a Guard, got FakeBackend: use Guard\.from_pretrained"):
        SafetyChecker(FakeBackend())


def test_a_pipeline_without_a_slot_is_named() -> None:
    with pytest.raises(UncoveredError, match=r"StableDiffusionXLPipeline has no slot.*attach"):
        checker_of(0.0).for_pipeline(diffusers.StableDiffusionXLPipeline)


def test_a_slot_does_not_see_latents_and_deepfloyds_tensors() -> None:
    """Known, and why `attach` is there: the pipelines ask nobody."""
    for case, kind in ((SD, "latent"), (CASES["IFPipeline"], "pt")):
        pipe, checker = guarded(case, checker_of(1.0))
        run(pipe, case, kind)
        with pytest.raises(ConfigError, match="there was no guarded call"):
            _ = checker.verdicts


# every class of the zoo that has a slot


@pytest.mark.parametrize(("name", "kind"), one_each(SHOWN, lambda shown: shown[0]))
def test_an_allowed_image_is_untouched(name, kind) -> None:
    case = SLOTS[name]
    pipe = case.build()
    plain = stacked(run(pipe, case, kind))
    checker = put(pipe, checker_of(0.0))
    out = pipe(**case.call(pipe), output_type=kind)
    np.testing.assert_array_equal(stacked(out[case.field]), plain)
    assert [verdict.outcome for verdict in checker.verdicts] == [Outcome.ALLOW] * case.count
    flags = out.get("nsfw_content_detected", out.get("nsfw_detected"))
    assert flags == ([False] * case.count if case.family != "cosmos" else None)


@pytest.mark.parametrize(
    ("name", "kind", "action"),
    one_each([(*shown, action) for shown in SHOWN for action in ("block", "blur")], lambda shown: shown[0]),
)
def test_a_flagged_image_is_covered(name, kind, action) -> None:
    case = SLOTS[name]
    pipe = case.build()
    plain = stacked(run(pipe, case, kind))
    put(pipe, checker_of(1.0, action=action))
    out = pipe(**case.call(pipe), output_type=kind)
    released = stacked(out[case.field])
    flags = out.get("nsfw_content_detected", out.get("nsfw_detected"))

    assert flags == ([True] * case.count if case.family != "cosmos" else None)
    assert all(type(flag) is bool for flag in flags or [])
    assert released.shape == plain.shape
    if case.name.endswith("/crop"):  # the user's own image is pasted around what was drawn: attach covers that too
        drawn = slice(16, 32)
        assert action == "blur" or not released[:, drawn, drawn].any()
    elif action == "block":
        assert not released.any()
    else:
        assert released.min() >= 0
        assert released.max() <= (255 if kind == "pil" else 1)
        assert detail(released) < 0.5 * detail(plain)


def detail(images: np.ndarray) -> float:
    """How much neighbouring pixels differ, whichever two axes are the image's."""
    values = images.astype(np.float64)
    return min(np.abs(np.diff(values, axis=axis)).mean() for axis in (-1, -2) if values.shape[axis] > 4)


def test_one_of_a_batch_is_covered_and_the_other_is_not() -> None:
    pipe = SD.build()
    plain = run(pipe, SD, "pt")
    lighter = [float(one.mean()) for one in plain]
    threshold = sum(lighter) / 2 * 255
    put(pipe, checker_of(lambda frame: float(frame.float().mean() > threshold)))
    out = pipe(**SD.call(pipe), output_type="pt")
    expected = [value * 255 > threshold for value in lighter]
    assert sorted(expected) == [False, True]
    assert out.nsfw_content_detected == expected
    held = expected.index(True)
    assert not out.images[held].any()
    assert torch.equal(out.images[1 - held], plain[1 - held])


# shapes and settings


def test_arrays_are_read_in_unit_range() -> None:
    images = np.ascontiguousarray(smooth(2, 24, 24).permute(0, 2, 3, 1).numpy())
    before = images.copy()
    safe, flags = checker_of(1.0)(images=images, clip_input=None)
    assert flags == [True, True]
    assert not safe.any()
    np.testing.assert_array_equal(images, before)
    safe, flags = checker_of(0.0)(clip_input=np.zeros((1, 1)), images=images[:1])  # one by one, as ONNX pipelines do
    assert flags == [False]
    np.testing.assert_array_equal(safe, before[:1])


def test_the_third_value_reports_no_watermark() -> None:
    three = SafetyChecker(Guard(FakeBackend(1.0)), watermark=True)
    safe, flags, marks = three(images=decoded(), clip_input=None)
    assert (flags, marks) == ([True] * 3, [False] * 3)
    assert not safe.any()


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("StableDiffusionPipeline", ""),
        ("StableDiffusionAdapterPipeline", ""),
        ("HunyuanDiTPipeline", ""),
        ("StableDiffusionUpscalePipeline", "watermark"),
        ("IFInpaintingSuperResolutionPipeline", "watermark"),
        ("CosmosTextToWorldPipeline", "cosmos"),
        ("Cosmos2_5_PredictBasePipeline", "cosmos"),
        ("Cosmos3OmniPipeline", "cosmos"),
    ],
)
def test_the_kind_of_answer_is_found_from_the_class(name, asked) -> None:
    assert answers(checker_of(0.0).for_pipeline(getattr(diffusers, name))) == asked


def test_observing_changes_nothing_but_the_flags() -> None:
    pipe = SD.build()
    plain = run(pipe, SD, "pt")
    put(pipe, checker_of(1.0, action="flag"))
    out = pipe(**SD.call(pipe), output_type="pt")
    assert out.nsfw_content_detected == [True, True]
    assert torch.equal(out.images, plain)
    images = decoded()
    before = images.clone()
    safe, _ = checker_of(1.0, action="flag")(images=images, clip_input=None)
    assert torch.equal(images, before)
    assert torch.equal(safe, (before * 0.5 + 0.5).clamp(0, 1))


def test_an_image_under_review_is_not_flagged() -> None:
    pipe, checker = guarded(SD, checker_of(0.3, on_review="blur"))
    plain = run(SD.build(), SD, "pt")
    out = pipe(**SD.call(pipe), output_type="pt")
    assert out.nsfw_content_detected == [False, False]
    assert [verdict.outcome for verdict in checker.verdicts] == [Outcome.REVIEW] * 2
    assert detail(out.images.numpy()) < 0.5 * detail(plain.numpy())


def test_verdicts_are_those_of_this_thread() -> None:
    checker, both = checker_of(reddest), Barrier(2, timeout=60)  # else one thread may do the work of both

    def judge(red: float) -> list[Outcome]:
        both.wait()
        with pytest.raises(ConfigError, match="there was no guarded call"):
            _ = checker.verdicts
        for _ in range(20):
            images = decoded(1)
            images[:, 0] += red
            checker(images=images, clip_input=None)
            expected = Outcome.BLOCK if red > 0 else Outcome.ALLOW
            assert [verdict.outcome for verdict in checker.verdicts] == [expected]
        return [verdict.outcome for verdict in checker.verdicts]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(judge, (3.0, -3.0))) == [[Outcome.BLOCK], [Outcome.ALLOW]]


# Cosmos


def test_cosmos_skips_checkers_of_other_classes() -> None:
    plain = checker_of(0.0)
    for cls in (diffusers.Cosmos2_5_PredictBasePipeline, diffusers.Cosmos3OmniPipeline):
        wanted = sys.modules[cls.__module__].CosmosSafetyChecker
        assert not isinstance(plain, wanted)
        assert skipped(cls, plain)
        fitted = plain.for_pipeline(cls)
        assert isinstance(fitted, wanted)
        assert isinstance(fitted, SafetyChecker)
        assert not skipped(cls, fitted)
        assert fitted.guard is plain.guard


def test_one_frame_covers_the_clip() -> None:
    frames = (smooth(4, 24, 24).permute(0, 2, 3, 1) * 255).to(torch.uint8).numpy()
    frames[2, ..., 0], frames[2, ..., 1:] = 255, 0
    before = frames.copy()
    checker = checker_of(lambda frame: float(frame[1].max() == 0))
    covered = checker.check_video_safety(frames)
    assert covered.shape == frames.shape
    assert covered.dtype == np.uint8
    assert not covered.any()
    np.testing.assert_array_equal(frames, before)
    assert [verdict.outcome for verdict in checker.verdicts] == [Outcome.BLOCK]
    np.testing.assert_array_equal(checker_of(0.0).check_video_safety(frames), before)


class Cornered(FakeBackend):
    """Finds white squares, and says where they are."""

    def score(self, stacks: Any, **_: Any) -> list[Scores]:
        return [self._found(frame) for stack in stacks for frame in stack.pixels]

    def _found(self, frame: torch.Tensor) -> Scores:
        rows, columns = torch.where(frame[0] == 255)
        if not len(rows):
            return Scores.single({"red": {Severity.HIGH: 0.0}})
        box = [float(edge) / 32 for edge in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]
        return Scores.single({"red": {Severity.HIGH: 0.9}}, regions=(Region(*box, category="red"),))


def test_each_frame_is_covered_where_its_own_regions_are() -> None:
    frames = np.full((3, 32, 32, 3), 90, np.uint8)
    frames[0, :6, :6] = frames[1, 24:30, 24:30] = 255
    covered = SafetyChecker(Guard(Cornered())).check_video_safety(frames)
    assert (covered < 255).all()
    assert covered[0, 31, 31].all(), "outside its region a frame stays"
    assert not covered[2].any(), "a frame that shows nothing goes with its clip"


@pytest.mark.parametrize("name", ["IFPipeline", "Cosmos2_5_PredictBasePipeline"])
def test_a_subclass_of_a_pipeline_is_answered_like_the_pipeline(name) -> None:
    base = getattr(diffusers, name)
    subclass = type("Own", (base,), {})
    assert answers(checker_of(0.0).for_pipeline(subclass)) == answers(checker_of(0.0).for_pipeline(base)) != ""


def test_cosmos_asks_about_the_prompt_first() -> None:
    policy = {"rules": {"*": {"block": 0.5}}, "prompts": {"words": ["dragon"]}}
    checker = checker_of(0.0, policy=policy)
    assert checker.check_text_safety("a red disc")
    assert not checker.check_text_safety("a red dr4gon")
    assert checker_of(0.0).check_text_safety("a red dragon"), "without rules there is nothing to refuse"
    case = CASES["CosmosTextToWorldPipeline"]
    pipe, _ = guarded(case, checker)
    given = {k: v for k, v in case.call(pipe).items() if "prompt" not in k}
    with pytest.raises(ValueError, match="detected unsafe text"):
        pipe(**given, prompt="a dragon")


# with what is done to pipelines


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scores_do_not_depend_on_the_dtype_of_the_pipeline(tiny_guard, dtype) -> None:
    pipe, checker = guarded(SD, SafetyChecker(tiny_guard))
    checker(images=decoded(), clip_input=None)
    before = [verdict.score for verdict in checker.verdicts]
    pipe.to(dtype)
    assert (checker.dtype, pipe.dtype) == (dtype, dtype)
    checker(images=decoded(), clip_input=None)
    assert [verdict.score for verdict in checker.verdicts] == before
    out = pipe(**SD.call(pipe), output_type="pt")
    assert out.nsfw_content_detected == [verdict.flagged for verdict in checker.verdicts]


@pytest.mark.parametrize("offload", ["model", "block_level", "leaf_level"])
def test_offloading_changes_no_verdict(tiny_guard, offload) -> None:
    pipe, checker = guarded(SD, SafetyChecker(tiny_guard))
    run(pipe, SD, "np")
    before = [verdict.score for verdict in checker.verdicts]
    if offload == "model":
        pipe.enable_model_cpu_offload(device="cpu")
    else:
        blocks = {"num_blocks_per_group": 1} if offload == "block_level" else {}
        pipe.enable_group_offload(onload_device=torch.device("cpu"), offload_type=offload, **blocks)
    run(pipe, SD, "np")
    assert [verdict.score for verdict in checker.verdicts] == before


def test_pipelines_made_from_a_pipeline_keep_it(tiny_guard) -> None:
    pipe, checker = guarded(SD, SafetyChecker(tiny_guard))
    assert diffusers.StableDiffusionImg2ImgPipeline.from_pipe(pipe).safety_checker is checker
    assert diffusers.AutoPipelineForInpainting.from_pipe(pipe).safety_checker is checker
    assert diffusers.StableDiffusionPipeline(**pipe.components, requires_safety_checker=False).safety_checker is checker
    copied = copy.deepcopy(pipe).safety_checker
    assert copied is not checker
    assert copied.guard is tiny_guard
