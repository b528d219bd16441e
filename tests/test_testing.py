"""The fakes do what they say, so that tests which use them mean something."""

from __future__ import annotations

import pytest
import torch

from nsfw_guard.imaging.frames import Frames
from nsfw_guard.testing import FakeBackend, FaultyBackend, redness, tiny_model


def test_redness_is_the_share_of_red() -> None:
    frame = torch.zeros(3, 4, 4, dtype=torch.uint8)
    frame[0, :, :1] = 255
    assert redness(frame) == 0.25


def test_a_custom_rule_scores() -> None:
    backend = FakeBackend(lambda frame: float(frame.float().mean() / 255))
    (scores,) = backend.score([Frames(torch.full((1, 3, 2, 2), 51, dtype=torch.uint8))])
    assert list(scores.numbers()) == [pytest.approx(0.2)]


def test_a_number_is_the_score_of_every_image() -> None:
    scores = FakeBackend(0.3).score([Frames(torch.zeros(2, 3, 2, 2))])
    assert [list(one.numbers()) for one in scores] == [[0.3], [0.3]]


@pytest.mark.parametrize(("fault", "kind"), [("none", type(None)), ("few", list), ("wrong kind", list)])
def test_faults_answer_as_broken_models_do(fault, kind) -> None:
    answer = FaultyBackend(fault).score([Frames(torch.zeros(2, 3, 2, 2))])
    assert isinstance(answer, kind)
    assert not answer or len(answer) != 2 or not hasattr(answer[0], "views")


def test_a_hanging_model_answers_in_the_end() -> None:
    assert len(FaultyBackend("hangs", seconds=0.01).score([Frames(torch.zeros(2, 3, 2, 2))])) == 2


def test_the_same_seed_gives_the_same_model(tmp_path) -> None:
    one, same, other = (tiny_model(tmp_path / str(i), seed=s) for i, s in enumerate((0, 0, 1)))
    read = [(f / "model.safetensors").read_bytes() for f in (one, same, other)]
    assert read[0] == read[1] != read[2]
