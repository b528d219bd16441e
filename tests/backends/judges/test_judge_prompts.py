"""The questions that a judge is asked: whose words they are, and which are refused."""

from __future__ import annotations

import pytest
import torch

from nsfw_guard import Guard, Label, load_model
from nsfw_guard.backends import registry
from nsfw_guard.backends.build import judge
from nsfw_guard.backends.judges.prompts import FAMILIES, GENERAL, OWN, checked, hash_of
from nsfw_guard.errors import (
    ConfigError,
    WeightsUnfitError,
)
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.scores import Severity
from tests.backends import tiny_judges
from tests.backends.tiny_judges import NAMES, QUESTIONS, RECORDS, numbers
from tests.images import smooth

transformers = pytest.importorskip("transformers")


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
    with pytest.raises(ConfigError, match="no default question for 'mess': write one"):
        judge(folders["shieldgemma2"], questions={"mess": OWN})
    with pytest.raises(ConfigError, match="no default question for 'sexual'"):
        judge(folders["qwen3_vl"], questions={"sexual": OWN})


@pytest.mark.parametrize(
    ("questions", "what"),
    [
        ({}, "questions is empty"),
        ({"violence": "  "}, "for 'violence' is empty"),
        ({" ": "blood"}, "is empty"),
        ({"violence": None}, "is empty"),
        ({"a": "Blood is shown", "b": "blood is shown "}, "'b' has the same question as 'a'"),
        ({"a": "x" * 2001}, "has 2001 characters"),
        (["violence"], "questions is empty"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_questions_that_ask_nothing_are_refused(questions, what, folders) -> None:
    with pytest.raises(ConfigError, match=what):
        judge(folders["qwen3_vl"], questions=questions)


@pytest.mark.parametrize("name", NAMES)
def test_a_question_cannot_speak_for_the_model(name, folders) -> None:
    for mark in tiny_judges.SPECIAL[name]:
        with pytest.raises(ConfigError, match="a special token: remove it"):
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
    with pytest.raises(WeightsUnfitError, match="omits the question for 'sexual'"):
        judge(folder, questions=QUESTIONS)
