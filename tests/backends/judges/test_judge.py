"""Vision-language models as judges: the four real classes, tiny, against transformers' own forward."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nsfw_guard import Guard, Label, load_model
from nsfw_guard.backends import registry
from nsfw_guard.backends.base import Backend, Options
from nsfw_guard.backends.build import judge
from nsfw_guard.backends.files import weights
from nsfw_guard.backends.judges.judge import Judge, load_files
from nsfw_guard.backends.judges.prompts import FAMILIES, GENERAL, OWN, checked, hash_of
from nsfw_guard.backends.selftest import canaries
from nsfw_guard.errors import (
    ConfigError,
    MissingExtraError,
    ScoringError,
    SelfTestError,
    UnknownNameError,
    WeightsMissingError,
    WeightsUnfitError,
)
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.scores import Severity
from nsfw_guard.verdict import Outcome
from tests.backends import tiny_judges
from tests.backends.folders import edit_weights
from tests.backends.tiny_judges import NAMES, QUESTIONS, head, reference
from tests.pictures import smooth

transformers = pytest.importorskip("transformers")

RECORDS = {"shieldgemma2": "shieldgemma2", "llama4": "llama-guard-4", "qwen3_vl": "qwen3-vl-2b",
           "llava_onevision": "llavaguard-0.5b"}  # fmt: skip


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each family."""
    home = tmp_path_factory.mktemp("judges")
    return {name: tiny_judges.write(home / name, name) for name in NAMES}


@pytest.fixture(scope="session")
def judges(folders: dict[str, Path]) -> dict[str, Judge]:
    """A judge of each family, which no test changes."""
    return {name: judge(folder, questions=QUESTIONS) for name, folder in folders.items()}


@pytest.fixture
def copy_of(folders: dict[str, Path], tmp_path: Path):
    """A folder to spoil."""

    def copied(name: str) -> Path:
        folder = folders[name] if name in folders else tiny_judges.write(tmp_path / "made", name)
        return Path(shutil.copytree(folder, tmp_path / name))

    return copied


def numbers(judge: Judge, *stacks: torch.Tensor) -> torch.Tensor:
    """P(violates). Shape: (frames, questions)."""
    return torch.tensor([list(s.numbers()) for s in judge.score([Frames(pixels) for pixels in stacks])])


def picture_of(pixels: torch.Tensor) -> Image.Image:
    """A frame as it is saved. Shape: (3, H, W) in [0, 1]."""
    return Image.fromarray((pixels.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))


# The answer


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(40, 56), (28, 28), (70, 31)], ids=str)
def test_it_answers_as_transformers_does(name, size, folders) -> None:
    pixels = smooth(1, *size)
    # ShieldGemma 2's own call asks everything at once; the others are asked one question at a time.
    alone = judge(folders[name], questions=QUESTIONS, batch_size=3 if name == "shieldgemma2" else 1)
    assert isinstance(alone, Backend)
    answers, picture = numbers(alone, pixels)[0], picture_of(pixels[0])
    # Bit for bit on AVX2; with AVX-512 a matrix product rounds by where its operands lie in memory.
    assert (answers - reference(name, folders[name], picture)).abs().max() < 1e-6
    # All positions at once are another matrix product, which rounds otherwise.
    assert (answers - reference(name, folders[name], picture, keep=0)).abs().max() < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_the_answers_differ_by_picture_and_by_question(name, judges) -> None:
    answers = numbers(judges[name], smooth(3, 40, 56))
    assert answers.shape == (3, len(QUESTIONS))
    assert len(answers.flatten().unique()) == answers.numel()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [1, 2, 3, 32])
def test_a_batch_is_its_pictures_one_by_one(name, batch, folders, judges) -> None:
    # Sizes and questions of several lengths, so that rows must be padded.
    stacks = smooth(2, 40, 56), smooth(1, 64, 20, seed=1), smooth(2, 30, 30, seed=2)
    many = judge(folders[name], questions=QUESTIONS, batch_size=batch)
    together = numbers(many, *stacks)
    alone = torch.cat([numbers(judges[name], frame[None]) for pixels in stacks for frame in pixels])
    assert together.shape == (5, len(QUESTIONS))
    assert (together - alone).abs().max() < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_the_same_picture_gets_the_same_answer_twice(name, judges) -> None:
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
    expected = reference(name, folders[name], picture_of(pixels[0]), torch.bfloat16).float()
    # ShieldGemma 2's own class takes its softmax in bfloat16, we in float32.
    assert (numbers(half, pixels)[0] - expected).abs().max() <= (4e-3 if name == "shieldgemma2" else 0)
    assert half.state()["dtype"] == "bfloat16"


def test_bytes_and_floats_are_the_same_picture_and_stay_as_they_are(judges) -> None:
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
    assert two.digest == hashlib.sha256(picture_of(smooth(1, 40, 56)[0]).tobytes()).hexdigest()
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
    monkeypatch.setattr(model, "ask", lambda pictures, device: answers)
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
    with pytest.raises(SelfTestError, match="does not answer with probabilities"):
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
    with pytest.raises(ScoringError, match="made other rows than were asked"):
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

    def small_only(pictures, start, stop, device):
        sizes.append(stop - start)
        if stop - start > 2:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return whole(pictures, start, stop, device)

    monkeypatch.setattr(model, "_pass", small_only)
    assert (numbers(model, smooth(3, 40, 56)) - expected).abs().max() < 1e-5
    assert sizes == [8, 4, 2, 2, 2, 2, 1]
    assert "goes on with batches of 2" in caplog.text


# The written rules


@pytest.mark.parametrize("name", NAMES)
def test_the_words_stand_in_the_prompt_and_in_the_state(name, folders, judges) -> None:
    model = judges[name]
    for category, question in QUESTIONS.items():
        assert question in model.asker.prompts[category]
        assert category in model.asker.prompts[category].lower()
    assert model.asker.prompts["mess"].endswith(FAMILIES[name].answer_prefix)
    assert not model.asker.prompts["mess"].endswith("\n\n\n")
    assert model.spec.questions == QUESTIONS
    assert model.state()["questions"] == hash_of(QUESTIONS)
    other = judge(folders[name], questions={**QUESTIONS, "mess": "a muddy floor"})
    assert other.state()["questions"] != model.state()["questions"]
    assert other.state()["prompts"] != model.state()["prompts"]
    assert not torch.equal(numbers(other, smooth(1, 40, 56))[:, 2], numbers(model, smooth(1, 40, 56))[:, 2])
    (verdict,) = Guard(model).check(smooth(1, 40, 56))
    assert verdict.to_dict()["state"]["questions"] == hash_of(QUESTIONS)


def test_the_hash_is_of_the_words_whatever_their_order() -> None:
    assert hash_of({"a": "x", "b": "y"}) == hash_of({"b": "y", "a": "x"})
    assert hash_of({"a": "x", "b": "y"}) != hash_of({"a": "y", "b": "x"})
    assert len(hash_of(QUESTIONS)) == 16


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_has_the_questions_of_its_family(name, folders) -> None:
    model = load_model(folders[name])
    record = registry.spec(RECORDS[name])
    assert model.state()["self_test"] == "answers unrecorded"
    assert tuple(model.spec.levels) == tuple(record.levels)
    assert Guard.from_pretrained(folders[name]).check(smooth(1, 40, 56))[0].scores.finite
    if name == "shieldgemma2":
        from transformers.models.shieldgemma2.processing_shieldgemma2 import DEFAULT_SHIELDGEMMA2_POLICIES

        assert model.spec.questions == DEFAULT_SHIELDGEMMA2_POLICIES
        assert all(model.spec.questions[c] in model.asker.prompts[c] for c in ("dangerous", "sexual", "violence"))
    else:
        assert model.spec.questions == GENERAL


def test_shieldgemma_takes_its_own_words_beside_yours(folders) -> None:
    model = judge(folders["shieldgemma2"], questions={"sexual": OWN, "mess": "an untidy desk"})
    assert model.spec.questions["sexual"].startswith("No Sexually Explicit content")
    alone = judge(folders["shieldgemma2"])
    assert numbers(model, smooth(1, 40, 56))[0, 0] == pytest.approx(
        numbers(alone, smooth(1, 40, 56))[0, 1].item(), abs=1e-5
    )
    with pytest.raises(ConfigError, match="brings no words for 'mess': write a question"):
        judge(folders["shieldgemma2"], questions={"mess": OWN})
    with pytest.raises(ConfigError, match="brings no words for 'sexual'"):
        judge(folders["qwen3_vl"], questions={"sexual": OWN})


@pytest.mark.parametrize(
    ("questions", "what"),
    [
        ({}, "no questions: give a rule a category"),
        ({"violence": "  "}, "for 'violence' is empty"),
        ({" ": "blood"}, "is empty"),
        ({"violence": None}, "is empty"),
        ({"a": "Blood is shown", "b": "blood is shown "}, "'b' asks again what 'a' asks"),
        ({"a": "x" * 2001}, "has 2001 letters"),
        (["violence"], "no questions"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_questions_that_ask_nothing_are_refused(questions, what, folders) -> None:
    with pytest.raises(ConfigError, match=what):
        judge(folders["qwen3_vl"], questions=questions)


@pytest.mark.parametrize("name", NAMES)
def test_a_question_cannot_speak_for_the_model(name, folders) -> None:
    for mark in tiny_judges.SPECIAL[name]:
        with pytest.raises(ConfigError, match="a mark of the model: leave it out"):
            judge(folders[name], questions={"mess": f"an untidy desk{mark}"})


def test_blanks_around_a_question_are_no_part_of_it() -> None:
    assert checked({" mess ": " an untidy desk\n"}) == {"mess": "an untidy desk"}


def test_labels_can_be_mapped_left_out_and_joined(folders) -> None:
    names = {"gore": "violence", "hate": None, "self-harm": Label("violence", Severity.LOW)}
    model, plain = load_model(folders["qwen3_vl"], labels=names), load_model(folders["qwen3_vl"])
    assert model.spec.levels == {"sexual": (Severity.HIGH,), "violence": (Severity.LOW, Severity.HIGH)}
    assert "hate" not in model.asker.prompts
    (scores,), (each,) = (m.score([Frames(smooth(1, 40, 56))]) for m in (model, plain))
    before = {c: levels[Severity.HIGH] for c, levels in each.views[0].levels.items()}
    joined = scores.views[0].levels["violence"]
    assert joined[Severity.HIGH] == pytest.approx(max(before["violence"], before["gore"]), abs=1e-5)
    assert joined[Severity.LOW] == pytest.approx(max(before["violence"], before["gore"], before["self-harm"]), abs=1e-5)


def test_a_template_that_leaves_the_question_out_is_refused(copy_of) -> None:
    folder = copy_of("llama4")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(template.replace("categories[key]", "'S1'"))
    with pytest.raises(WeightsUnfitError, match="leaves out the question for 'sexual'"):
        judge(folder, questions=QUESTIONS)


# The record, the files


@pytest.mark.parametrize("name", NAMES)
def test_a_record_takes_the_folder_where_its_files_are(name, folders) -> None:
    model = load_model(RECORDS[name], weights=folders[name], dtype="float32")
    state = model.state()
    assert state["self_test"] == "answers unrecorded"
    assert state["views"] == "full"
    assert state["device"] == "follows the picture"
    assert state["answered"].endswith("questions of the self-test")
    for policy in ("default", "strict", "lenient"):
        assert Guard(model, policy=policy).policy.rules


def test_known_answers_are_held_against_the_model(folders) -> None:
    plain = load_model("qwen3-vl-2b", weights=folders["qwen3_vl"])
    answers = plain._answers()
    assert list(answers) == list(canaries())
    spec = registry.spec("qwen3-vl-2b")
    spec = replace(
        spec, known_answers={name: dict(zip(spec.labels, row, strict=True)) for name, row in answers.items()}
    )
    assert load_files(spec, folders["qwen3_vl"], Options()).state()["self_test"] == "passed"
    wrong = replace(spec, known_answers=dict.fromkeys(answers, dict.fromkeys(spec.labels, 0.9)))
    with pytest.raises(SelfTestError, match="does not answer as recorded"):
        load_files(wrong, folders["qwen3_vl"], Options())
    left_out = spec.with_labels({"hate": None})
    assert load_files(left_out, folders["qwen3_vl"], Options()).state()["self_test"] == "passed"


@pytest.mark.parametrize("name", [spec for spec in registry.list_models() if registry.spec(spec).kind == "judge"])
def test_without_weights_and_network_one_line_names_the_cure(name) -> None:
    spec = registry.spec(name)
    with pytest.raises(WeightsMissingError, match=f"nsfw-guard fetch {name}") as raised:
        judge(name, questions=QUESTIONS)
    assert "\n" not in str(raised.value)
    assert ("accept their terms" in str(raised.value)) == spec.gated
    assert spec.gated == (name in {"shieldgemma2", "llama-guard-4"})
    assert ("no commit of it is recorded" in str(raised.value)) == (spec.revision == "")
    assert set(spec.questions) == set(spec.labels)
    assert spec.pip_extra == "diffusers"


@pytest.mark.parametrize("name", NAMES)
def test_shards_are_one_model(name, folders, judges, copy_of, tmp_path) -> None:
    folder = copy_of(name)
    (folder / "model.safetensors").unlink()
    getattr(transformers, FAMILIES[name].model).from_pretrained(folders[name]).save_pretrained(
        folder, max_shard_size="60KB"
    )
    shards = weights.shards_of(folder / weights.INDEX)
    assert len(shards) > 1
    assert not (folder / "model.safetensors").exists()
    assert weights.weight_files(folder) == tuple(folder / shard for shard in shards)
    pixels = smooth(1, 40, 56)
    assert torch.equal(numbers(judge(folder, questions=QUESTIONS), pixels), numbers(judges[name], pixels))
    with pytest.raises(WeightsUnfitError, match=r"is of one model\.safetensors"):
        weights.weight_files(folder, "0" * 64)
    (folder / shards[1]).unlink()
    with pytest.raises(WeightsMissingError, match=shards[1]):
        judge(folder, questions=QUESTIONS)


@pytest.mark.parametrize("named", ["../evil.safetensors", "model.bin", "", 3])
def test_an_index_names_safetensors_beside_it_and_nothing_else(named, copy_of) -> None:
    folder = copy_of("qwen3_vl")
    (folder / "model.safetensors").unlink()
    (folder / weights.INDEX).write_text(json.dumps({"weight_map": {"a": named}}))
    with pytest.raises(WeightsUnfitError, match="fetch it again"):
        judge(folder)
    (folder / weights.INDEX).write_text("{}")
    with pytest.raises(WeightsUnfitError, match="is unreadable"):
        judge(folder)


def test_a_pickle_is_refused_and_so_is_nothing_at_all(copy_of) -> None:
    folder = copy_of("llava_onevision")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsUnfitError, match=r"holds pytorch_model.bin and no .* convert it to safetensors"):
        judge(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(WeightsMissingError, match="give a folder that holds weights"):
        judge(folder)


def test_weights_that_do_not_fit_are_refused(copy_of) -> None:
    folder = copy_of("qwen3_vl")
    edit_weights(folder, lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(WeightsUnfitError, match=r"missing lm_head\.weight"):
        judge(folder)


def test_the_answers_must_be_tokens(tmp_path) -> None:
    folder = tiny_judges.write(tmp_path / "mute", "qwen3_vl", without=["Yes", "No"])
    with pytest.raises(WeightsUnfitError, match=r"the answer 'Yes' is [2-9] tokens .* and not one"):
        judge(folder, questions=QUESTIONS)


def test_shieldgemmas_answers_are_those_of_its_configuration(copy_of) -> None:
    folder = copy_of("shieldgemma2")
    config = json.loads((folder / "config.json").read_text())
    config["yes_token_index"], config["no_token_index"] = config["no_token_index"], config["yes_token_index"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsUnfitError, match="model and tokenizer do not belong together"):
        judge(folder)


def test_a_processor_that_is_not_whole_is_refused(copy_of) -> None:
    folder = copy_of("qwen3_vl")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(WeightsUnfitError, match=r"chat template: fetch .*chat_template\.jinja"):
        judge(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(WeightsMissingError, match=r"has no tokenizer\.json"):
        judge(folder)


def test_a_missing_library_is_named(folders, monkeypatch) -> None:
    strange = replace(FAMILIES["qwen3_vl"], model="ThirdForConditionalGeneration")
    monkeypatch.setitem(FAMILIES, "qwen3_vl", strange)
    with pytest.raises(ConfigError, match="is not in this transformers: run `pip install"):
        judge(folders["qwen3_vl"])
    broken = replace(strange, model="Qwen3VLForConditionalGeneration", broken_in=(transformers.__version__,))
    monkeypatch.setitem(FAMILIES, "qwen3_vl", broken)
    with pytest.raises(
        ConfigError, match=f"cannot run Qwen3VL.* run `pip install 'transformers!={transformers.__version__}'`"
    ):
        judge(folders["qwen3_vl"])
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nsfw-guard\[diffusers\]'"):
        judge(folders["qwen3_vl"])


def test_labels_and_questions_belong_together(folders) -> None:
    spec = replace(registry.spec("qwen3-vl-2b"), questions=QUESTIONS)
    with pytest.raises(ConfigError, match="labels and questions of 'qwen3-vl-2b' differ"):
        load_files(spec, folders["qwen3_vl"], Options())


def test_a_model_that_is_not_a_judge_takes_no_questions(tiny, folders, copy_of) -> None:
    with pytest.raises(ConfigError, match="'marqo' takes no questions: choose one of llama-guard-4"):
        judge("marqo", questions=QUESTIONS)
    with pytest.raises(ConfigError, match="takes no questions"):
        judge(tiny, questions=QUESTIONS)
    with pytest.raises(UnknownNameError, match="unknown model or folder"):
        judge("qwen3-vl-3b")
    folder = copy_of("qwen3_vl")
    (folder / "config.json").write_text('{"model_type": "mllama"}')
    with pytest.raises(UnknownNameError, match="unknown family of judges 'mllama'"):
        load_model("qwen3-vl-2b", weights=folder)
    with pytest.raises(WeightsUnfitError, match="holds a llava_onevision, not the qwen3_vl"):
        load_model("qwen3-vl-2b", weights=folders["llava_onevision"])


@pytest.mark.parametrize("settings", [{"views": "tiles(2)"}, {"resize": "fast"}])
def test_it_sees_the_whole_picture_its_own_way(settings, folders) -> None:
    with pytest.raises(ConfigError, match="leave views and resize out"):
        load_model(folders["qwen3_vl"], **settings)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (1, 90), (3, 40), (90, 1)], ids=str)
def test_a_picture_of_an_odd_size_is_judged_or_refused_and_never_released_unseen(name, size, judges) -> None:
    (verdict,) = Guard(judges[name]).check(smooth(1, *size))
    assert verdict.outcome is Outcome.ERROR or verdict.scores.finite


def test_a_missing_device_is_named(folders) -> None:
    with pytest.raises(ConfigError, match="cannot be put on 'cuda:77'"):
        judge(folders["qwen3_vl"], device="cuda:77")
    assert judge(folders["qwen3_vl"], device="cpu").state()["device"] == "cpu"


# The hub


@pytest.fixture
def hub(copy_of, tmp_path, monkeypatch):
    """A hub that is a folder: hands out what it has, in the layout of the real cache."""
    import huggingface_hub
    from huggingface_hub.utils import EntryNotFoundError

    spec = registry.spec("qwen3-vl-2b")
    cache, source = tmp_path / "cache", copy_of("qwen3_vl")
    getattr(transformers, FAMILIES["qwen3_vl"].model).from_pretrained(source).save_pretrained(
        source, max_shard_size="100KB"
    )
    (source / "model.safetensors").unlink()
    at = cache / f"models--{spec.repo.replace('/', '--')}" / "snapshots" / spec.revision
    asked: list[str] = []

    def download(repo: str, name: str, revision: str | None) -> str:
        assert (repo, revision) == (spec.repo, spec.revision)
        asked.append(name)
        if not (source / name).is_file():
            raise EntryNotFoundError(f"404: no {name}")
        at.mkdir(parents=True, exist_ok=True)
        return str(shutil.copy(source / name, at / name))

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return spec, at, asked, source


def test_shards_are_fetched_by_their_index_and_weights_come_last(hub) -> None:
    spec, at, asked, source = hub
    assert weights.cached(spec) is None
    assert weights.fetch(spec) == at
    shards = weights.shards_of(source / weights.INDEX)
    assert asked[: len(spec.files) - 1] == list(spec.files[:-1])
    assert asked[len(spec.files) - 1 : -len(shards) - 2] == list(spec.optional_files)
    assert asked[-len(shards) - 2 :] == ["model.safetensors", weights.INDEX, *shards]
    assert weights.cached(spec) == at
    assert judge("qwen3-vl-2b", questions=QUESTIONS).state()["questions"] == hash_of(QUESTIONS)
    (at / shards[0]).unlink()
    assert weights.cached(spec) is None


def test_fetched_weights_are_found_where_a_host_moved_the_cache(hub, tmp_path, monkeypatch) -> None:
    spec, at, *_ = hub
    assert weights.fetch(spec) == at
    home = tmp_path / "home"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "of the host"))
    monkeypatch.setattr("huggingface_hub.constants.default_home", str(home))
    with pytest.raises(WeightsMissingError, match="nothing is downloaded from here"):
        weights.fetch(spec, local_files_only=True)
    shutil.copytree(tmp_path / "cache", home / "huggingface" / "hub")
    fetched = home / "huggingface" / "hub" / at.relative_to(tmp_path / "cache")
    assert weights.fetch(spec, local_files_only=True) == weights.cached(spec) == fetched


def test_a_model_without_a_pinned_commit_says_which_one_it_is(folders, tmp_path, monkeypatch) -> None:
    spec, commit = registry.spec("llavaguard-0.5b"), "1234567890" * 4
    home = tmp_path / f"models--{spec.repo.replace('/', '--')}"
    shutil.copytree(folders["llava_onevision"], home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert judge("llavaguard-0.5b", questions=QUESTIONS).spec.revision == commit
    assert load_model("llavaguard-0.5b").spec.revision == commit


def test_any_repository_with_a_judge_is_loaded_by_its_commit(hub) -> None:
    spec, _, asked, _ = hub
    model = load_model(f"hf:{spec.repo}@{spec.revision}")
    assert isinstance(model, Judge)
    assert (model.spec.repo, model.spec.revision) == (spec.repo, spec.revision)
    assert "chat_template.jinja" in asked


def test_a_missing_file_is_not_reported_as_a_network_failure(hub, monkeypatch) -> None:
    from huggingface_hub.utils import LocalEntryNotFoundError

    spec, _, asked, _ = hub
    whole = weights._download

    def down(spec, name, progress):
        if name == "chat_template.jinja":
            try:
                raise LocalEntryNotFoundError("the network is down")
            except LocalEntryNotFoundError as error:
                raise WeightsMissingError("down") from error
        return whole(spec, name, progress)

    monkeypatch.setattr(weights, "_download", down)
    with pytest.raises(WeightsMissingError, match="down"):
        weights.fetch(spec)
    assert "model.safetensors" not in asked
