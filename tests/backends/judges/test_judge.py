"""Vision-language models as judges: the four real classes, tiny, against transformers' own forward."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch
from PIL import Image

from nsfw_guard import Guard, load_model
from nsfw_guard.backends.base import Backend
from nsfw_guard.backends.build import judge
from nsfw_guard.backends.judges.judge import Judge
from nsfw_guard.backends.judges.prompts import FAMILIES
from nsfw_guard.errors import (
    ConfigError,
    ScoringError,
    SelfTestError,
)
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.scores import Severity
from nsfw_guard.verdict import Outcome
from tests.backends.tiny_judges import NAMES, QUESTIONS, head, numbers, reference
from tests.images import smooth

transformers = pytest.importorskip("transformers")


def image_of(pixels: torch.Tensor) -> Image.Image:
    """A frame as it is saved. Shape: (3, H, W) in [0, 1]."""
    return Image.fromarray((pixels.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(40, 56), (28, 28), (70, 31)], ids=str)
def test_it_answers_as_transformers_does(name, size, folders) -> None:
    pixels = smooth(1, *size)
    # ShieldGemma 2's own call asks everything at once; the others are asked one question at a time.
    alone = judge(folders[name], questions=QUESTIONS, batch_size=3 if name == "shieldgemma2" else 1)
    assert isinstance(alone, Backend)
    answers, image = numbers(alone, pixels)[0], image_of(pixels[0])
    # Bit for bit on AVX2; with AVX-512 a matrix product rounds by where its operands lie in memory.
    assert (answers - reference(name, folders[name], image)).abs().max() < 1e-6
    # All positions at once are another matrix product, which rounds otherwise.
    assert (answers - reference(name, folders[name], image, keep=0)).abs().max() < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_the_answers_differ_by_image_and_by_question(name, judges) -> None:
    answers = numbers(judges[name], smooth(3, 40, 56))
    assert answers.shape == (3, len(QUESTIONS))
    assert len(answers.flatten().unique()) == answers.numel()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [1, 2, 3, 32])
def test_a_batch_is_its_images_one_by_one(name, batch, folders, judges) -> None:
    # Sizes and questions of several lengths, so that rows must be padded.
    stacks = smooth(2, 40, 56), smooth(1, 64, 20, seed=1), smooth(2, 30, 30, seed=2)
    many = judge(folders[name], questions=QUESTIONS, batch_size=batch)
    together = numbers(many, *stacks)
    alone = torch.cat([numbers(judges[name], frame[None]) for pixels in stacks for frame in pixels])
    assert together.shape == (5, len(QUESTIONS))
    assert (together - alone).abs().max() < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_the_same_image_gets_the_same_answer_twice(name, judges) -> None:
    pixels = smooth(2, 40, 56)
    assert torch.equal(numbers(judges[name], pixels), numbers(judges[name], pixels))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(numbers(judges[name], pixels), numbers(judges[name], smooth(2, 40, 56)))


@pytest.mark.parametrize("name", NAMES)
def test_in_bfloat16_no_copy_in_float32_is_made(name, folders) -> None:
    half = judge(folders[name], questions=QUESTIONS, dtype="bfloat16", batch_size=3 if name == "shieldgemma2" else 1)
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    # What turns positions into angles stays in float32, as transformers has it.
    kept = transformers.AutoModelForImageTextToText if name != "shieldgemma2" else None
    if kept is not None:
        theirs = kept.from_pretrained(folders[name], dtype=torch.bfloat16)
        assert {n: b.dtype for n, b in half.model.named_buffers()} == {n: b.dtype for n, b in theirs.named_buffers()}
    pixels = smooth(1, 40, 56)
    expected = reference(name, folders[name], image_of(pixels[0]), torch.bfloat16).float()
    # ShieldGemma 2's own class takes its softmax in bfloat16, we in float32.
    assert (numbers(half, pixels)[0] - expected).abs().max() <= (4e-3 if name == "shieldgemma2" else 0)
    assert half.state()["dtype"] == "bfloat16"


def test_bytes_and_floats_are_the_same_image_and_stay_as_they_are(judges) -> None:
    floats = smooth(2, 40, 56)
    levels = (floats * 255).round().to(torch.uint8)
    kept, signed = levels.clone(), floats * 2 - 1
    model = judges["qwen3_vl"]
    assert torch.equal(numbers(model, levels), numbers(model, floats))
    answers = torch.tensor([list(s.numbers()) for s in model.score([Frames(signed, "signed")])])
    assert torch.equal(answers, numbers(model, floats))
    assert torch.equal(levels, kept)


def test_blank_digest_and_views_are_reported_per_frame(judges) -> None:
    flat = torch.full((1, 3, 40, 56), 0.5)
    flat[:, 0] = 1.0
    one, two = judges["qwen3_vl"].score([Frames(flat), Frames(smooth(1, 40, 56))], embeddings=True, digests=True)
    assert (one.blank, two.blank) == (True, False)
    assert one.embedding is None
    assert two.digest == hashlib.sha256(image_of(smooth(1, 40, 56)[0]).tobytes()).hexdigest()
    assert one.digest != two.digest
    assert [view.view.kind for view in two.views] == ["full"]
    assert judges["qwen3_vl"].score([Frames(flat)])[0].digest == ""
    assert judges["qwen3_vl"].score([]) == []


# Failing closed


def spoil(model: Judge, word: str) -> None:
    """Makes another word win at the end of every prompt."""
    token = model.asker.processor.tokenizer.convert_tokens_to_ids(word)
    last, answers = head(model.model), list(model.asker.answers)
    with torch.no_grad():
        last.weight[token] = last.weight[answers].mean(0) * 3


@pytest.mark.parametrize("name", NAMES)
def test_an_invalid_answer_is_an_error(name, folders) -> None:
    model = judge(folders[name], questions=QUESTIONS)
    guard = Guard(model, action="flag")
    assert guard.check(smooth(1, 40, 56))[0].outcome is not Outcome.ERROR
    spoil(model, "e")
    (scores,) = model.score([Frames(smooth(1, 40, 56))])
    assert all(math.isnan(p) for p in scores.numbers())
    assert "did not answer 'violence' with" in scores.fault
    (verdict,) = guard.check(smooth(1, 40, 56))
    assert verdict.outcome is Outcome.ERROR
    assert "not evaluated" in verdict.reason
    assert not torch.equal(guard(smooth(1, 40, 56))[0], smooth(1, 40, 56))


def test_one_question_without_an_answer_is_enough(judges, monkeypatch) -> None:
    model = judges["qwen3_vl"]
    answers = [[[0.1, 0.9], [0.0, 0.49], [0.2, 1.0]], [[0.1, 0.5], [0.1, 0.9], [0.1, 0.9]]]
    monkeypatch.setattr(model, "ask", lambda images, device: answers)
    one, two = model.score([Frames(smooth(2, 40, 56))])
    assert one.fault == "not evaluated: the model did not answer 'violence' with Yes or No (share 0.49)"
    assert math.isnan(dict(one.views[0].levels)["violence"][Severity.HIGH])
    assert (two.fault, list(two.numbers())) == ("", [0.1, 0.1, 0.1])
    answers[1][0][1] = math.nan
    assert "'sexual'" in model.score([Frames(smooth(2, 40, 56))])[1].fault


@pytest.mark.parametrize("name", NAMES)
def test_a_judge_without_an_answer_never_starts(name, copy_of) -> None:
    folder = copy_of(name)
    model = getattr(transformers, FAMILIES[name].model).from_pretrained(folder)
    with torch.no_grad():
        head(model).weight.zero_()
    model.save_pretrained(folder)
    with pytest.raises(SelfTestError, match=f"answers no question with {FAMILIES[name].yes_answer} or"):
        judge(folder, questions=QUESTIONS)


@pytest.mark.parametrize("name", NAMES)
def test_a_head_of_nan_never_starts(name, copy_of) -> None:
    folder = copy_of(name)
    model = getattr(transformers, FAMILIES[name].model).from_pretrained(folder)
    with torch.no_grad():
        head(model).weight.fill_(math.nan)
    model.save_pretrained(folder)
    with pytest.raises(SelfTestError, match="are not probabilities"):
        judge(folder, questions=QUESTIONS)


def test_a_row_that_does_not_end_with_the_question_is_an_error(folders, monkeypatch) -> None:
    model = judge(folders["qwen3_vl"], questions=QUESTIONS)
    whole = model.asker.inputs

    def padded_right(*args):
        inputs = whole(*args)
        inputs["attention_mask"] = inputs["attention_mask"].clone()
        inputs["attention_mask"][0, -1] = 0
        return inputs

    monkeypatch.setattr(model.asker, "inputs", padded_right)
    with pytest.raises(ScoringError, match="returned unexpected rows"):
        model.score([Frames(smooth(1, 40, 56))])
    assert Guard(model).check(smooth(1, 40, 56))[0].outcome is Outcome.ERROR


@pytest.mark.parametrize("bad", [math.nan, math.inf, 3.0])
def test_a_bad_pixel_is_an_error_of_that_frame(bad, judges) -> None:
    pixels = smooth(3, 40, 56)
    pixels[1, 0, 5, 5] = bad
    verdicts = Guard(judges["qwen3_vl"]).check(pixels)
    assert verdicts[1].outcome is Outcome.ERROR
    assert {verdicts[0].outcome, verdicts[2].outcome}.isdisjoint({Outcome.ERROR})
    clean = numbers(judges["qwen3_vl"], smooth(3, 40, 56))
    scores = judges["qwen3_vl"].score([Frames(pixels)])
    assert list(scores[2].numbers()) == pytest.approx(clean[2].tolist(), abs=1e-5)
    assert all(math.isnan(p) for p in scores[1].numbers())


def test_memory_that_runs_out_halves_the_batch(folders, monkeypatch, caplog) -> None:
    model = judge(folders["qwen3_vl"], questions=QUESTIONS, batch_size=8)
    expected, whole, sizes = numbers(model, smooth(3, 40, 56)), model._pass, []

    def small_only(images, start, stop, device):
        sizes.append(stop - start)
        if stop - start > 2:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return whole(images, start, stop, device)

    monkeypatch.setattr(model, "_pass", small_only)
    assert (numbers(model, smooth(3, 40, 56)) - expected).abs().max() < 1e-5
    assert sizes == [8, 4, 2, 2, 2, 2, 1]
    assert "continues with batch_size 2" in caplog.text


@pytest.mark.parametrize("settings", [{"views": "tiles(2)"}, {"resize": "fast"}])
def test_it_sees_the_whole_image_its_own_way(settings, folders) -> None:
    with pytest.raises(ConfigError, match="omit views and resize"):
        load_model(folders["qwen3_vl"], **settings)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (1, 90), (3, 40), (90, 1)], ids=str)
def test_an_image_of_an_odd_size_is_judged_or_refused_and_never_released_unseen(name, size, judges) -> None:
    (verdict,) = Guard(judges[name]).check(smooth(1, *size))
    assert verdict.outcome is Outcome.ERROR or verdict.scores.finite


def test_a_missing_device_is_named(folders) -> None:
    with pytest.raises(ConfigError, match="cannot be moved to the device 'cuda:77'"):
        judge(folders["qwen3_vl"], device="cuda:77")
    assert judge(folders["qwen3_vl"], device="cpu").state()["device"] == "cpu"


@pytest.mark.parametrize("name", NAMES)
def test_other_rules_on_the_same_network_are_those_of_a_new_judge(name, judges, folders) -> None:
    rules = {**QUESTIONS, "violence": "a train"}
    other, new = judges[name].with_questions(rules), judge(folders[name], questions=rules)
    assert other.model is judges[name].model
    assert dict(other.spec.questions) == dict(new.spec.questions)
    assert other.asker.prompts == new.asker.prompts != judges[name].asker.prompts
    pixels = torch.rand(2, 3, 40, 30, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(numbers(other, pixels), numbers(new, pixels), atol=1e-5)
