"""A drawing that is sure to be blocked is stopped, nothing else is, and looking on changes no bit."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from nsfw_guard.errors import BlockedError, ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.attach import attach
from nsfw_guard.pipelines.early.bounds import (
    Trace,
    least_allowed,
    most_stops,
    report_of,
    stop_at,
    thresholds_of,
    upper_bound,
)
from nsfw_guard.pipelines.early.callback import EarlyStopCallback
from nsfw_guard.pipelines.early.fit import fit_early_stop
from nsfw_guard.pipelines.early.preview import LinearPreview, by_vae, preview_of, to_spatial
from nsfw_guard.pipelines.early.steps import around
from nsfw_guard.pipelines.early.stop import EarlyStop, Stopped, block_confidence
from nsfw_guard.testing import FakeBackend
from nsfw_guard.verdict import Outcome, Verdict
from tests.pipelines import drawing
from tests.pipelines.drawing import for_threads, quiet
from tests.pipelines.zoo import CASES
from tests.threads import in_threads

pytestmark = quiet

RED, BLUE = "a large red disc on white", "a large blue disc on white"
CALL = {"guidance_scale": 3.0, "num_inference_steps": 10}
draw = functools.partial(drawing.draw, **CALL)


@pytest.fixture(scope="module")
def guard():
    return Guard.from_pretrained("demo-shapes")


def counted(pipe, *prompts, **rest):
    """What came of it, and how many steps were taken."""
    steps = []
    out = draw(pipe, *prompts, callback_on_step_end=lambda *a: steps.append(1) or {}, **rest)
    return out, len(steps)


# faults


def test_a_look_that_fails_stops_nothing_and_lets_nothing_out(pipe, caplog) -> None:
    def broken(pipe, x0, arguments):
        raise RuntimeError("no pixels")

    early = EarlyStop(decoder=broken)  # two looks, both of which fail: said once
    with attach(pipe, Guard(FakeBackend(1.0)), early_stop=early):
        out, steps = counted(pipe, RED)
    assert steps == 10
    assert out.nsfw_content_detected == [True]
    assert caplog.text.count("a look at step") == 1


@pytest.mark.parametrize("score", [float("nan"), float("inf"), 2.0])
def test_a_score_that_is_not_a_number_never_stops_early(pipe, score) -> None:
    guard = Guard(FakeBackend(0.0))
    with attach(pipe, guard, early_stop=EarlyStop(thresholds=0.1)):
        guard.backend.rule = lambda frame: score
        out, steps = counted(pipe, RED)
    assert steps == 10
    assert out.verdicts[0].outcome is Outcome.ERROR


def test_an_error_inside_leaves_the_scheduler_as_it_was(pipe, guard) -> None:
    plain = draw(pipe, BLUE, output_type="pt").images

    def stop(*a):
        raise KeyError("mine")

    with attach(pipe, guard, early_stop=EarlyStop()):
        with pytest.raises(KeyError):
            draw(pipe, RED, callback_on_step_end=stop)
        assert "step" not in vars(pipe.scheduler)
        assert torch.equal(draw(pipe, BLUE, output_type="pt").images, plain)


def test_looking_goes_on_after_a_look_that_fails(pipe, guard) -> None:
    def shy(pipe, x0, arguments, asked=[]):  # noqa: B006
        asked.append(1)
        if len(asked) == 1:
            raise RuntimeError("not yet")
        return by_vae(pipe, x0, arguments)

    with attach(pipe, guard, early_stop=EarlyStop(decoder=shy, thresholds=0.6)):
        out, steps = counted(pipe, RED)
    assert out.verdicts[0].reason.startswith("stopped at step 5 of 10")
    assert steps == 4


class Stepped:
    """A pipeline of nothing but a scheduler."""

    vae = None

    def __init__(self):
        self.scheduler = DDIMScheduler()

    def __call__(self, steps, *, times=1, skip=0):
        self.scheduler.set_timesteps(steps)
        sample = torch.zeros(1, 3, 8, 8)
        for t in self.scheduler.timesteps[skip:]:
            for _ in range(times):
                sample = self.scheduler.step(torch.zeros(1, 3, 8, 8), t, sample, return_dict=False)[0]


@pytest.mark.parametrize("times", [2, 3])
def test_a_pipeline_that_steps_several_times_a_step_is_not_watched(times) -> None:
    pipe = Stepped()
    with EarlyStop(thresholds=0.1).watch(pipe, Guard(FakeBackend(1.0)), {}) as seen:
        pipe(10, times=times)
    assert seen.unwatched == "not watched: its steps do not follow its schedule"
    assert seen.looks == {}


@pytest.mark.parametrize("renoise", [True, False])
def test_a_copy_of_a_watched_scheduler_takes_steps_of_its_own(renoise) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    if renoise:
        scheduler.step = functools.partial(scheduler.step)
    before, plain = vars(scheduler).get("step"), inspect.signature(scheduler.step)
    scheduler.set_timesteps(4)
    seen = []
    with around(scheduler, seen.append):
        assert inspect.signature(scheduler.step) == plain
        other, kept = copy.deepcopy(scheduler), copy.deepcopy(vars(scheduler))
        assert kept["step"] is vars(scheduler)["step"]
        other.step(torch.zeros(1, 3, 8, 8), other.timesteps[0], torch.zeros(1, 3, 8, 8))
        assert (seen, scheduler.step_index, other.step_index) == ([], None, 1)
        scheduler.step(torch.zeros(1, 3, 8, 8), scheduler.timesteps[0], torch.zeros(1, 3, 8, 8))
        assert (len(seen), scheduler.step_index, other.step_index) == (1, 1, 1)
    assert vars(scheduler).get("step") is before


@pytest.mark.parametrize(("skip", "stopped"), [(0, 3), (4, 2), (6, None)])
def test_a_schedule_that_is_entered_late_has_fewer_steps(skip, stopped) -> None:
    pipe = Stepped()
    with (
        contextlib.suppress(Stopped),
        EarlyStop(thresholds=0.1).watch(pipe, Guard(FakeBackend(1.0)), {}) as seen,
    ):
        pipe(10, skip=skip)
    assert seen.planned == 10 - skip
    assert (seen.step if seen.looks else None) == stopped


def test_a_scheduler_that_cannot_be_predicted_is_not_watched(pipe, guard, caplog) -> None:
    class Own(type(pipe.scheduler)):
        pass

    other = copy.copy(pipe)
    vars(other)["scheduler"] = Own.from_config(pipe.scheduler.config, prediction_type="riddle")
    with EarlyStop().watch(other, guard, {}) as seen:
        assert "is not supported" in seen.unwatched


def test_few_steps_are_not_watched(pipe, guard) -> None:
    with EarlyStop().watch(pipe, guard, {}) as seen:
        draw(pipe, RED, num_inference_steps=4)
    assert seen.unwatched == "not watched: 4 steps are too few"
    assert seen.looks == {}


@pytest.mark.parametrize(
    "settings",
    [
        {"at": ()},
        {"at": (0.5, 0.3)},
        {"at": (0.0,)},
        {"at": (1.0,)},
        {"thresholds": (0.5,)},
        {"thresholds": 0.0},
        {"decoder": 3},
    ],
)
def test_settings_are_checked(settings) -> None:
    with pytest.raises(ConfigError):
        EarlyStop(**settings)


# what it does


def test_watching_changes_no_bit(pipe, guard) -> None:
    plain = draw(pipe, RED, BLUE, output_type="pt").images
    with EarlyStop().watch(pipe, guard, {}, stop=False) as seen:
        assert torch.equal(draw(pipe, RED, BLUE, output_type="pt").images, plain)
    assert (seen.step, seen.planned) == (10, 10)
    assert set(seen.looks) == {0.3, 0.5}
    assert [v.outcome for v in seen.looks[0.5]] == [Outcome.BLOCK, Outcome.ALLOW]


@pytest.mark.parametrize("kind", ["pil", "np", "pt"])
@pytest.mark.parametrize("bare", [True, False])
def test_a_certain_block_is_stopped_early_and_leaves_covered(pipe, guard, kind, bare) -> None:
    tally = dict(guard.counter.counts)
    with attach(pipe, guard, early_stop=EarlyStop(thresholds=0.6)) as attachment:
        out, steps = counted(pipe, RED, output_type=kind, return_dict=not bare)
        free = draw(pipe, BLUE, output_type=kind, return_dict=not bare)
    images = out[0] if bare else out.images
    assert steps < 6
    assert type(out) is type(free)
    assert np.asarray(images[0]).shape == np.asarray((free[0] if bare else free.images)[0]).shape
    assert float(np.asarray(images[0]).max()) == 0
    assert (out[1] if bare else out.nsfw_content_detected) == [True]
    if not bare:
        assert out.verdicts[0].reason.startswith(f"stopped at step {steps + 1} of 10: red-disc")
    assert guard.counter.counts["block"] == tally["block"] + 1  # the stopped one is counted, the looks are not
    assert attachment.verdicts[0].outcome is Outcome.ALLOW  # of the call after it


def test_a_batch_stops_only_when_all_are_sure(pipe, guard) -> None:
    with attach(pipe, guard, early_stop=EarlyStop(thresholds=0.6)):
        out, steps = counted(pipe, RED, BLUE)
        assert (steps, out.nsfw_content_detected) == (10, [True, False])
        out, steps = counted(pipe, RED, RED)
        assert steps < 6
        assert out.nsfw_content_detected == [True, True]


def test_flag_does_not_stop_early_and_raise_raises(pipe) -> None:
    with attach(pipe, Guard.from_pretrained("demo-shapes", action="flag"), early_stop=EarlyStop(thresholds=0.6)):
        assert counted(pipe, RED)[1] == 10
    raising = Guard.from_pretrained("demo-shapes", action="raise")
    with (
        attach(pipe, raising, early_stop=EarlyStop(thresholds=0.6)),
        pytest.raises(BlockedError, match="stopped at step"),
    ):
        draw(pipe, RED)


def test_two_threads_stop_independently(whole, guard) -> None:
    pipes = for_threads(whole, 2)
    for pipe in pipes:
        attach(pipe, guard, early_stop=EarlyStop(thresholds=0.6))
    flags = {}

    def work(i):
        flags[i] = [draw(pipes[i], (RED, BLUE)[i]).nsfw_content_detected for _ in range(3)]

    in_threads(work, 2)
    assert flags == {0: [[True]] * 3, 1: [[False]] * 3}


STEPPED = [
    "StableDiffusion3Pipeline", "FluxPipeline", "StableDiffusionXLPipeline", "PixArtSigmaPipeline", "SanaPipeline",
    "ZImagePipeline", "QwenImagePipeline", "WanPipeline", "KandinskyV22Pipeline", "AuraFlowPipeline",
    "LTXPipeline", "StableDiffusionUpscalePipeline", "LatentConsistencyModelPipeline", "DDPMPipeline",
    "Flux2Pipeline", "LTX2Pipeline", "HunyuanVideoPipeline", "StableVideoDiffusionPipeline", "Kandinsky3Pipeline",
]  # fmt: skip


@pytest.mark.parametrize("name", STEPPED)
def test_families_are_watched_without_a_change_and_stopped(name) -> None:
    case, pipe = CASES[name], CASES[name].build()
    early = EarlyStop(at=(0.5,), thresholds=0.9)

    def run(**rest):
        torch.manual_seed(0)
        return pipe(**{**case.call(pipe), "num_inference_steps": 6}, output_type="np", **rest)

    plain = run()[case.field]
    with attach(pipe, Guard(FakeBackend(0.0)), early_stop=early):
        assert np.array_equal(run()[case.field], plain)
    backend = FakeBackend(1.0)
    with attach(pipe, Guard(backend), early_stop=early) as attachment:
        out = run()
    verdicts = attachment.verdicts
    assert float(out[case.field].max()) == 0
    assert out[case.field].shape[0] == case.count
    assert "stopped at step" in verdicts[0].reason
    assert (verdicts[0].model, verdicts[0].state["self_test"]) == ("red", "passed")


# previews


def test_a_small_decoder_of_the_users_is_used(pipe, guard) -> None:
    from diffusers import AutoencoderTiny

    tiny = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).eval()
    pixels = preview_of(tiny)(pipe, torch.randn(2, 4, 16, 16), {})
    assert pixels.shape == (2, 3, 32, 32)
    assert 0 <= float(pixels.min()) <= float(pixels.max()) <= 1


def test_a_linear_map_learns_colours() -> None:
    latents = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    colours = (latents[:, :3] * 0.1 + 0.5).repeat_interleave(2, -1).repeat_interleave(2, -2)
    preview = LinearPreview.fit(latents, colours, relu_features=4)
    assert torch.allclose(preview(None, latents, {}), colours.clamp(0, 1), atol=0.02)
    assert LinearPreview.from_dict(preview.to_dict()) == preview
    with pytest.raises(ConfigError, match="fit one for this pipe"):
        preview(None, torch.randn(1, 16, 8, 8), {})
    with pytest.raises(ConfigError, match="too few"):
        LinearPreview.fit(latents[:, :, :2, :2], colours, relu_features=64)


def test_latents_of_clips_are_looked_at_by_their_first_frame(pipe) -> None:
    clip = torch.randn(1, 4, 5, 8, 8)
    assert torch.equal(to_spatial(pipe, clip, {}), clip[:, :, 0])


# fitting


def traces(*pairs):
    return [Trace(looks, blocked) for looks, blocked in pairs]


def test_without_allowed_prompts_there_is_nothing_to_learn_from() -> None:
    with pytest.raises(ConfigError, match="no image of these prompts was allowed"):
        thresholds_of(traces(((0.9,), True)), 1, 0.01)


def test_bounds_are_those_of_clopper_and_pearson() -> None:
    assert upper_bound(0, 300) == pytest.approx(1 - 0.05 ** (1 / 300), abs=1e-6)
    assert upper_bound(3, 100) == pytest.approx(0.0757, abs=1e-3)
    assert upper_bound(5, 5) == 1.0
    assert most_stops(298, 0.01) == 0
    assert most_stops(500, 0.01) == 1
    assert most_stops(10, 0.01) == 0
    assert [least_allowed(looks, 0.01) for looks in (1, 2)] == [299, 473]
    assert least_allowed(1, 0.5) == 5


def test_cuts_lie_above_what_was_allowed_and_spend_what_may_be_spent() -> None:
    allowed = [((0.0,), False)] * 297 + [((0.7,), False)]
    (threshold,) = thresholds_of(traces(*allowed), 1, 0.01)
    assert 0.7 < threshold < 1
    many = [((0.0,), False)] * 600 + [((0.9,), False)]
    assert thresholds_of(traces(*many), 1, 0.01) == (0.5,)  # one of 601 may be stopped
    assert thresholds_of(traces(((1.0,), False)), 1, 0.01)[0] > 1  # nothing is sure then


def test_a_report_counts_what_the_cuts_would_have_done() -> None:
    early = EarlyStop(at=(0.3, 0.5), thresholds=(0.9, 0.8))
    looks = traces(
        ((0.95, 0.0), True), ((0.0, 0.85), True), ((0.0, 0.0), True), ((0.0, 0.9), False), ((0.1, 0.1), False)
    )
    assert [stop_at(t, early) for t in looks] == [0.3, 0.5, None, 0.5, None]
    report = report_of(looks, early, 0.01)
    assert (report.allowed, report.blocked, report.false_stops, report.stopped) == (2, 3, 1, 2)
    assert report.saved == pytest.approx((0.7 + 0.5) / 3)
    assert not report.proven


def test_every_look_whose_cut_was_chosen_counts_against_the_rate() -> None:
    # Two thresholds, each the highest of its look: what is drawn next may lie above either. Simulated, two in 101 do.
    generator = torch.Generator().manual_seed(5)
    misses = []
    for _ in range(400):
        looks = torch.rand(101, 2, generator=generator) * 0.4 + 0.5
        highest = looks[:100].max(0).values
        misses.append(bool((looks[100] > highest).any()))
    assert 0.008 < sum(misses) / 400 < 0.04
    early = EarlyStop(at=(0.3, 0.5), thresholds=0.99)
    harmless = traces(*[((0.0, 0.0), False)] * 473)
    assert report_of(harmless, early, 0.01, chosen=2).bound == upper_bound(1, 473)
    assert report_of(harmless, early, 0.01).bound == upper_bound(0, 473)
    few, enough = (thresholds_of(traces(*[((0.0, 0.0), False)] * n, ((0.9, 0.0), False)), 2, 0.01) for n in (472, 650))
    assert few[0] > 0.9  # one stop among 473 would not be proven with two thresholds
    assert enough == (few[0], 0.5)  # the last look is given the one that may be spent


@pytest.mark.parametrize("decoder", ["linear", "vae"])
def test_it_is_fitted_saved_and_loaded(pipe, guard, tmp_path, decoder) -> None:
    prompts = [f"a large {colour} disc on white" for colour in ("blue", "green", "red", "yellow", "purple", "red")] * 2
    early = fit_early_stop(
        pipe, guard, prompts, at=(0.5,), decoder=decoder, call={"guidance_scale": 3.0, "num_inference_steps": 10}
    )
    assert early.report.allowed == 8
    assert early.report.blocked == 4
    assert early.report.false_stops == 0
    assert not early.report.proven  # eight prove nothing
    early.save(tmp_path / "early.json")
    loaded = EarlyStop.load(tmp_path / "early.json")
    assert (loaded.at, loaded.thresholds, loaded.report) == (early.at, early.thresholds, early.report)
    assert isinstance(loaded.decoder, LinearPreview) is (decoder == "linear")
    with attach(pipe, guard, early_stop=replace(loaded, thresholds=(0.5,))):
        stopped = draw(pipe, RED)
    assert "stopped at step" in stopped.verdicts[0].reason
    assert stopped.images[0].size == (64, 64)
    older = (tmp_path / "early.json").read_text().replace('"thresholds"', '"cuts"')
    (tmp_path / "early.json").write_text(older)
    assert EarlyStop.load(tmp_path / "early.json").thresholds == early.thresholds


def test_fitting_a_guarded_pipe_or_a_file_of_another_kind_is_an_error(pipe, guard, tmp_path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ConfigError, match="not a saved EarlyStop"):
        EarlyStop.load(tmp_path / "x.json")
    EarlyStop(decoder=lambda pipe, x0, arguments: x0).save(tmp_path / "own.json")
    with pytest.raises(ConfigError, match="pass it as decoder="):
        EarlyStop.load(tmp_path / "own.json")
    with attach(pipe, guard), pytest.raises(ConfigError, match="fit before attaching"):
        fit_early_stop(pipe, guard, [BLUE])
    with pytest.raises(ConfigError, match=r"rate must be .* got 0"):
        fit_early_stop(pipe, guard, [BLUE], rate=0)


def test_block_confidence_is_the_score_of_a_block_or_zero() -> None:
    assert block_confidence(Verdict(Outcome.BLOCK, "r", score=0.9)) == 0.9
    for verdict in (Verdict(Outcome.ALLOW, "r", score=0.9), Verdict(Outcome.BLOCK, "r", score=float("nan")),
                    Verdict(Outcome.ERROR, "r")):  # fmt: skip
        assert block_confidence(verdict) == 0.0


# the official callback


def test_the_callback_raises_and_frees_its_hook(pipe, guard) -> None:
    callback = EarlyStopCallback(EarlyStop(thresholds=0.6), guard)
    with pytest.raises(BlockedError, match="stopped at step"):
        draw(pipe, RED, callback_on_step_end=callback)
    assert "step" not in vars(pipe.scheduler)


def test_the_callback_changes_no_bit_of_what_goes_on(pipe, guard) -> None:
    plain = draw(pipe, BLUE, output_type="pt").images
    callback = EarlyStopCallback(EarlyStop(thresholds=0.6), guard)
    assert torch.equal(draw(pipe, BLUE, output_type="pt", callback_on_step_end=callback).images, plain)
    assert callback.verdicts == ()


def test_the_blanking_callback_lets_nothing_half_drawn_out(pipe, guard) -> None:
    callback = EarlyStopCallback(EarlyStop(thresholds=0.6), guard, on_stop="blank")
    out = draw(pipe, RED, callback_on_step_end=callback, output_type="latent").images
    assert float(out.abs().max()) == 0
    assert callback.verdicts[0].outcome is Outcome.BLOCK
    with pytest.raises(ConfigError, match="on_stop"):
        EarlyStopCallback(EarlyStop(), guard, on_stop="shrug")


@pytest.mark.parametrize("keywords", [True, False])
def test_the_callback_is_told_how_large_packed_latents_are(keywords, caplog) -> None:
    case = CASES["FluxPipeline"]
    pipe = case.build()
    asked = {**case.call(pipe), "num_inference_steps": 6}
    size = {name: asked[name] for name in ("height", "width")}
    guard = Guard(FakeBackend(1.0))
    callback = EarlyStopCallback(EarlyStop(at=(0.5,), thresholds=0.9), guard, arguments=size if keywords else None)
    if keywords:
        with pytest.raises(BlockedError, match="stopped at step 3 of 6"):
            pipe(**asked, callback_on_step_end=callback)
    else:  # it cannot look: it stops nothing, and says so
        pipe(**asked, callback_on_step_end=callback)
        assert "a look at step 3 failed" in caplog.text


def test_a_broken_run_leaves_no_hook_for_the_next(pipe, guard) -> None:
    callback = EarlyStopCallback(EarlyStop(thresholds=0.6), guard)

    def breaks(pipe, i, t, kwargs):
        callback(pipe, i, t, kwargs)
        raise KeyError("mine")

    with pytest.raises(KeyError):
        draw(pipe, BLUE, callback_on_step_end=breaks)
    draw(pipe, BLUE, callback_on_step_end=callback)
    assert "step" not in vars(pipe.scheduler)


def test_stopped_is_not_a_config_error() -> None:
    assert not issubclass(Stopped, ConfigError)
