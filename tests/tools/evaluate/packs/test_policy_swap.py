"""Verdicts that follow a rule, by hand; and real judges whose rule is swapped."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nsfw_guard.backends.wrappers.calibrated import Calibrated
from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.testing import RED, FakeBackend
from nsfw_guard.tools.evaluate.highest import highest_scores
from nsfw_guard.tools.evaluate.packs.policy_swap import Followed, followed, pack_of, swapped, twins_of
from nsfw_guard.tools.evaluate.summary import Rate
from nsfw_guard.tools.teaching.labelled import LabelledImage
from tests.tools.evaluate.labelled.painting import paint

WITH, WITHOUT = LabelledImage("a.png", frozenset({"red"})), LabelledImage("b.png", frozenset())


@pytest.mark.parametrize(
    ("image", "before", "after", "follows"),
    [
        (WITH, 0.9, 0.1, True), (WITH, 0.9, 0.9, False), (WITH, 0.1, 0.1, False), (WITH, 0.1, 0.9, False),
        (WITHOUT, 0.1, 0.1, True), (WITHOUT, 0.9, 0.1, False), (WITHOUT, 0.1, 0.9, False), (WITHOUT, 0.9, 0.9, False),
        (WITH, 0.5, 0.4999, True),
    ],
)  # fmt: skip
def test_what_follows_the_rule(image: LabelledImage, before: float, after: float, follows: bool) -> None:
    one = followed([{"red": before}], [{"red": after}], [image], "red", RED)
    rate, other = (one.having, one.without) if image is WITH else (one.without, one.having)
    assert (rate, other, one.not_judged) == (Rate(int(follows), 1), Rate(0, 0), 0)


def test_what_has_no_score_is_in_no_rate() -> None:
    scores = [{"red": math.nan}, {"red": 0.9}]
    assert followed(scores, [{"red": 0.1}] * 2, [WITH, WITH], "red", RED) == Followed(Rate(1, 1), Rate(0, 0), 1)


def test_a_model_without_rules_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'red' does not go by written rules .* name a judge"):
        swapped(Guard(FakeBackend()), "red", "trains")


class TestJudges:
    """The tiny judges of the four families, with random weights."""

    @pytest.fixture(params=["qwen3_vl", "shieldgemma2"])
    def judge(self, request: pytest.FixtureRequest, tmp_path: Path):
        pytest.importorskip("transformers")
        from nsfw_guard.backends.build import judge
        from tests.backends import tiny_judges

        questions = None if request.param == "shieldgemma2" else tiny_judges.QUESTIONS
        return judge(tiny_judges.write(tmp_path / request.param, request.param), questions=questions)

    def test_the_other_rule_is_asked_and_no_other_changes(self, judge, tmp_path: Path) -> None:
        other = swapped(Guard(judge), "violence", "a train")
        assert isinstance(other.backend, type(judge))
        assert other.backend.model is judge.model
        prompts, before = other.backend.asker.prompts, judge.asker.prompts
        assert "a train" in prompts["violence"]
        assert {name for name in prompts if prompts[name] != before[name]} == {"violence"}
        paths = [str(paint(tmp_path / f"{n}.png", n)) for n in (3, 17)]
        first, second = (highest_scores(guard, paths) for guard in (Guard(judge), other))
        for a, b in zip(first, second, strict=True):
            assert a["sexual"] == pytest.approx(b["sexual"], abs=1e-5)
            assert a["violence"] != pytest.approx(b["violence"], abs=1e-5)

    def test_the_section_counts_what_the_judge_says(self, judge, tmp_path: Path) -> None:
        images = [
            LabelledImage(str(paint(tmp_path / f"{n}.png", n)), frozenset({"violence"} if n % 2 else ()))
            for n in range(4)
        ]
        guard = Guard(judge)
        guards, swaps = {"tiny": guard}, {"violence": "a train"}
        pack = pack_of(guards, twins_of(guards, swaps), swaps, images)
        (row,) = pack.content
        scores = [highest_scores(g, [i.path for i in images]) for g in (guard, swapped(guard, "violence", "a train"))]
        assert row["follows_with"]["count"] == 2
        assert row["follows_without"]["hits"] == sum(
            not any(part[at]["violence"] >= 0.5 for part in scores) for at in (0, 2)
        )
        with pytest.raises(ConfigError, match="has no rule for 'violnce': did you mean 'violence'"):
            twins_of(guards, {"violnce": "a train"})
        maps = dict.fromkeys(judge.spec.levels, (1.0, 0.0))
        calibrated = Guard(Calibrated(judge, Calibration(model=judge.spec.name, maps=maps)))
        with pytest.raises(ConfigError, match="leave the calibration out"):
            swapped(calibrated, "violence", "a train")
