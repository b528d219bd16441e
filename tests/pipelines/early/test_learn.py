"""A head is kept only where it beats the decoder, its promise holds, and it stops only what it belongs to."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.attach import attach
from nsfw_guard.pipelines.early import head as heads
from nsfw_guard.pipelines.early.bounds import Trace, thresholds_of
from nsfw_guard.pipelines.early.callback import EarlyStopCallback
from nsfw_guard.pipelines.early.fit import fit_early_stop
from nsfw_guard.pipelines.early.head import LatentHead
from nsfw_guard.pipelines.early.learn import OF_TWO, LatentKeeper, TooFewRunsError, _divided, learn_heads, seen_through
from nsfw_guard.pipelines.early.origin import Origin
from nsfw_guard.pipelines.early.report import HeadReport
from nsfw_guard.pipelines.early.stop import EarlyStop
from nsfw_guard.verdict import Outcome
from tests.pipelines.drawing import draw, quiet

pytestmark = quiet

RED, BLUE = "a large red disc on white", "a large blue disc on white"
CALL = {"guidance_scale": 3.0, "num_inference_steps": 10}
SHAPE = (4, 16, 16)  # the latents of the shapes pipeline


@pytest.fixture(scope="module")
def guard():
    return Guard.from_pretrained("demo-shapes")


def certain(answer, *, scale=0.0):
    """A head that gives every image the same log-odds; with a scale, numbers that grow beyond all bounds."""
    count = sum(map(torch.Size.numel, map(torch.Size, heads._shapes(4))))
    return LatentHead(SHAPE, (0.0,) * 4, (1.0,) * 4, (scale,) * (count - 1) + (answer,))


def stopping(pipe, guard, answer=5.0, *, scale=0.0):
    return EarlyStop(at=(0.5,), thresholds=0.9, heads=(certain(answer, scale=scale),), origin=Origin.of(pipe, guard))


def scale(network, factor):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(factor)


def runs(generator, count, *, shown, decoder):
    """Runs with two in five blocked: how well latents show it, and how well the decoder's scores do."""
    blocked = torch.rand(count, generator=generator) < 0.4
    latents = torch.randn(count, 4, 6, 6, generator=generator)
    latents[:, 0] += shown * blocked.float().view(-1, 1, 1)
    scores = torch.sigmoid(torch.randn(count, generator=generator) + decoder * (blocked.float() * 2 - 1))
    traces = [Trace((score,), flag) for score, flag in zip(scores.tolist(), blocked.tolist(), strict=True)]
    keeper = LatentKeeper("vae")
    keeper.kept, keeper.shape = [latents], (4, 6, 6)
    return [f"{i}" for i in range(count)], traces, keeper


def learnt(seed, count=200, *, rate=0.1, **settings):
    return learn_heads(*runs(torch.Generator().manual_seed(seed), count, **settings), at=(0.5,), rate=rate)


# faults


def test_a_head_that_is_worse_than_the_decoder_is_not_kept() -> None:
    result = learnt(0, shown=0.0, decoder=8.0)
    assert result.heads == (None,)
    (report,) = result.report
    assert (report.kept, report.decoder_recall) == (False, 1.0)
    assert report.head_recall < 0.5
    assert all((trace.looks[0] > 0.9) is trace.blocked for trace in result.traces)  # still the decoder's scores


def test_a_head_that_is_as_good_is_not_kept() -> None:
    result = learnt(0, shown=8.0, decoder=8.0)
    assert (result.report[0].head_recall, result.report[0].decoder_recall) == (1.0, 1.0)
    assert result.heads == (None,)


def test_heads_that_save_less_on_runs_that_they_have_not_seen_are_not_kept() -> None:
    prompts, traces, keeper = runs(torch.Generator().manual_seed(0), 240, shown=2.0, decoder=1.5)
    _, promised, _ = _divided(prompts)
    (latents,) = keeper.kept
    latents[promised] = torch.randn(len(promised), 4, 6, 6, generator=torch.Generator().manual_seed(1))
    result = learn_heads(prompts, traces, keeper, at=(0.5,), rate=0.1)
    assert result.report[0].head_recall > result.report[0].decoder_recall
    assert result.heads_saved <= result.decoder_saved
    assert (result.heads, result.report[0].kept) == ((None,), False)
    assert result.traces == traces  # so that the decoder's thresholds are set on all of them


def test_too_few_runs_are_refused_with_how_many_it_takes() -> None:
    with pytest.raises(TooFewRunsError, match=r"needs 368 allowed generations .* at least, got \d+") as caught:
        learnt(0, rate=0.01, shown=1.0, decoder=1.0)
    assert caught.value.needed == 368
    with pytest.raises(TooFewRunsError, match="needs 20 blocked generations"):
        learnt(0, 60, shown=1.0, decoder=1.0)


def test_prompts_that_cannot_be_enough_are_refused_before_anything_is_drawn(pipe, guard) -> None:
    with pytest.raises(TooFewRunsError, match=r"needs 595 prompts for a rate of 0\.01 at least, got 2"):
        fit_early_stop(pipe, guard, [RED, BLUE], heads=True, call={"no such": "argument"})
    with pytest.raises(TooFewRunsError, match="needs 16 different prompts at least, got 2"):
        fit_early_stop(pipe, guard, [RED, BLUE] * 300, heads=True, call={"no such": "argument"})


def test_latents_of_several_shapes_cannot_be_learnt_from(pipe) -> None:
    keeper = LatentKeeper(lambda pipe, x0, arguments: x0)
    keeper(pipe, torch.zeros(1, 4, 8, 8), {})
    with pytest.raises(ConfigError, match="of one shape"):
        keeper(pipe, torch.zeros(1, 4, 8, 16), {})


def test_a_head_whose_answer_is_not_finite_stops_nothing(pipe, guard, caplog) -> None:
    with attach(pipe, guard, early_stop=stopping(pipe, guard, scale=1e38)):
        out = draw(pipe, RED, **CALL)
    assert "stopped" not in out.verdicts[0].reason
    assert out.verdicts[0].category == "red-disc"
    assert "a look at step 5 failed" in caplog.text


def test_latents_of_another_size_stop_nothing(pipe, guard, caplog) -> None:
    with attach(pipe, guard, early_stop=stopping(pipe, guard)):
        out = draw(pipe, BLUE, height=64, width=96, **CALL)
    assert "stopped" not in out.verdicts[0].reason
    assert "trained on latents of shape (4, 16, 16), got (4, 16, 24)" in caplog.text


def test_another_guard_pipeline_or_weights_are_refused(pipe, guard) -> None:
    early = stopping(pipe, guard)
    strict = Guard.from_pretrained("demo-shapes", policy={"rules": {"red-disc": {"block": 0.9}}})
    with pytest.raises(ConfigError, match=r"learnt with the guard demo-shapes .* fit again with these"):
        attach(pipe, strict, early_stop=early)
    with pytest.raises(ConfigError, match=r"learnt with the pipeline Other, got StableDiffusionPipeline"):
        attach(pipe, guard, early_stop=replace(early, origin=replace(early.origin, pipeline="Other")))
    tuned = copy.copy(pipe)
    vars(tuned)["unet"] = copy.deepcopy(pipe.unet)
    scale(tuned.unet, 1.01)
    with pytest.raises(ConfigError, match="learnt with the pipeline's weights"):
        attach(tuned, guard, early_stop=early)
    vars(tuned)["unet"] = copy.deepcopy(pipe.unet).to("meta")
    with pytest.raises(ConfigError, match="offloaded piece by piece"):
        attach(tuned, guard, early_stop=early)


def test_weights_that_change_after_attaching_are_refused_by_the_call(pipe, guard) -> None:
    early = stopping(pipe, guard)
    with attach(pipe, guard, early_stop=early):
        scale(pipe.unet, 2.0)
        try:
            with pytest.raises(ConfigError, match="learnt with the pipeline's weights"):
                draw(pipe, RED, **CALL)
        finally:
            scale(pipe.unet, 0.5)


def test_heads_without_an_origin_or_of_another_number_are_refused(pipe, guard) -> None:
    with pytest.raises(ConfigError, match="with their origin"):
        EarlyStop(at=(0.5,), heads=(certain(5.0),))
    with pytest.raises(ConfigError, match="for each of the 2 looks"):
        EarlyStop(at=(0.3, 0.5), heads=(certain(5.0),), origin=Origin.of(pipe, guard))


# what it does


def test_a_head_that_is_better_is_kept() -> None:
    result = learnt(0, shown=2.0, decoder=0.5)
    (head,) = result.heads
    assert head.shape == (4, 6, 6)
    (report,) = result.report
    assert report.kept
    assert report.head_recall > 0.9
    assert report.decoder_recall < 0.5
    (threshold,) = thresholds_of(result.traces, 1, 0.1)
    blocked = [trace for trace in result.traces if trace.blocked]
    assert sum(trace.looks[0] >= threshold for trace in blocked) > 0.8 * len(blocked)


def test_runs_of_one_prompt_are_never_on_both_sides() -> None:
    prompts = [str(i % 40) for i in range(400)]
    learning, promised, fold_of = _divided(prompts)
    assert sorted(learning + promised) == list(range(400))
    sides = [{prompts[i] for i in side} for side in (learning, promised)]
    assert [len(side) for side in sides] == [20, 20]
    assert not sides[0] & sides[1]
    assert sorted(fold_of[prompt] for prompt in sides[0]) == sorted([0, 1, 2, 3] * 5)


def test_the_promise_holds_for_fresh_runs(monkeypatch) -> None:
    # Vague latents, and heads that learn their runs by heart: thresholds that were set on these same runs would stop
    # 7% to 13% of fresh allowed ones.
    monkeypatch.setattr(heads, "ROUNDS", 40)
    monkeypatch.setattr(heads, "LEARNING_RATE", 0.03)
    rate, broken, kept = 0.05, 0, 0
    for seed in range(6):
        result = learnt(seed, 300, shown=0.5, decoder=0.0, rate=rate)
        _, traces, keeper = runs(torch.Generator().manual_seed(1000 + seed), 2000, shown=0.5, decoder=0.0)
        (threshold,) = thresholds_of(result.traces, 1, rate, confidence=OF_TWO)
        seen = list(seen_through(result.heads, traces, keeper.kept, range(2000)))
        allowed = [trace.looks[0] for trace in seen if not trace.blocked]
        kept += result.heads != (None,)
        broken += sum(score >= threshold for score in allowed) > rate * len(allowed)
    assert kept >= 3  # it is the promise of heads
    assert broken <= 1  # it is made with 95% confidence


@pytest.mark.parametrize("kind", ["pil", "np", "pt"])
@pytest.mark.parametrize("named", [True, False])
def test_a_stop_by_a_head_returns_what_a_stop_by_a_preview_does(pipe, guard, kind, named) -> None:
    kinds = []
    for early in (stopping(pipe, guard), EarlyStop(at=(0.5,), thresholds=0.6)):
        with attach(pipe, guard, early_stop=early) as attachment:
            out = draw(pipe, RED, output_type=kind, return_dict=named, **CALL)
        images, flags = (out.images, out.nsfw_content_detected) if named else out
        assert flags == [True]
        kinds.append((type(out), type(images), type(images[0]), np.asarray(images[0]).shape))
        assert attachment.verdicts[0].reason.startswith("stopped at step 5 of 10")
    assert kinds[0] == kinds[1]


def test_a_look_by_a_head_decodes_and_judges_nothing(pipe, guard, monkeypatch) -> None:
    early = stopping(pipe, guard)
    with attach(pipe, guard, early_stop=early) as attachment:
        monkeypatch.setattr(pipe.vae, "decode", None)
        monkeypatch.setattr(guard.backend, "score", None)
        draw(pipe, RED, **CALL)
    (verdict,) = attachment.verdicts
    assert (verdict.outcome, verdict.category, verdict.flags) == (Outcome.BLOCK, "early-stop", ("early-stop",))
    assert verdict.scores is None
    assert verdict.score == pytest.approx(0.9933, abs=1e-4)


def test_a_head_that_is_not_sure_stops_nothing_and_allows_nothing(pipe, guard) -> None:
    early = stopping(pipe, guard, 1.0)
    with early.watch(pipe, guard, {}) as seen:
        draw(pipe, BLUE, **CALL)
    assert [verdict.outcome for verdict in seen.looks[0.5]] == [Outcome.REVIEW]


def test_the_callback_checks_and_uses_heads(pipe, guard) -> None:
    callback = EarlyStopCallback(stopping(pipe, guard), guard, on_stop="blank")
    draw(pipe, RED, callback_on_step_end=callback, output_type="latent", **CALL)
    assert callback.verdicts[0].category == "early-stop"
    other = Guard.from_pretrained("demo-shapes", policy={"rules": {"red-disc": {"block": 0.9}}})
    with pytest.raises(ConfigError, match="learnt with the guard"):
        draw(pipe, RED, callback_on_step_end=EarlyStopCallback(stopping(pipe, guard), other), **CALL)
    assert "step" not in vars(pipe.scheduler)


def test_heads_are_saved_and_loaded(pipe, guard, tmp_path) -> None:
    early = fitted(pipe, guard)
    early.save(tmp_path / "early.json")
    loaded = EarlyStop.load(tmp_path / "early.json", decoder=early.decoder)
    assert loaded == early
    assert isinstance(loaded.report.heads[0], HeadReport)
    latents = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    for before, after in zip(early.heads, loaded.heads, strict=True):
        assert after(latents) == pytest.approx(before(latents), abs=1e-6)
    text = (tmp_path / "early.json").read_text().replace('"parameters": [', '"parameters": [0.5,', 1)
    (tmp_path / "early.json").write_text(text)
    with pytest.raises(ConfigError, match="fit it again"):
        EarlyStop.load(tmp_path / "early.json")


def fitted(pipe, guard):
    """A head learnt from the pipeline's own runs, where a blind decoder leaves everything to it."""
    shapes = [(colour, where) for colour in ("blue", "green", "yellow", "purple") for where in ("left", "right", "top")]
    safe = [f"a large {colour} disc on white, {where}" for colour, where in shapes]
    unsafe = [f"a large red disc on {ground}{where}" for ground in ("white", "cream", "sky", "grey")
              for where in ("", ", left", ", right")]  # fmt: skip
    return fit_early_stop(
        pipe,
        guard,
        (safe + unsafe) * 4,
        at=(0.5,),
        rate=0.2,
        decoder=lambda pipe, x0, arguments: torch.full((len(x0), 3, 64, 64), 0.5),
        heads=True,
        batch_size=24,
        call={"guidance_scale": 3.0, "num_inference_steps": 5},
    )
