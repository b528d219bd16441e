"""Several models as one: comparable before they are combined, and never more lenient by an accident."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from nsfw_guard.backends.base import Backend, Label
from nsfw_guard.backends.wrappers.opinions import Cascade, Ensemble, aligned
from nsfw_guard.errors import ConfigError, PolicyError, ScoringError, UnknownNameError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.scores import Scores, Severity, View, ViewScores
from nsfw_guard.testing import RED, FakeBackend, FaultyBackend
from nsfw_guard.verdict import Outcome


class Saying(FakeBackend):
    """Says of each frame what its blue channel says, times `times`; threshold at `threshold`."""

    def __init__(
        self, name: str, threshold: float = 0.5, times: float = 1.0, categories: Sequence[str] = ("red",)
    ) -> None:
        super().__init__(lambda levels: min(1.0, float(levels[2, 0, 0]) / 200 * times))
        thresholds = {n: Threshold(block=threshold, source="chosen") for n in ("default", "strict", "lenient")}
        labels = {category: Label(category) for category in categories}
        self.spec = replace(RED, name=name, labels=labels, thresholds=thresholds)

    def _of(self, stack: Frames, embeddings: bool, digests: bool) -> list[Scores]:
        made = super()._of(stack, embeddings, digests)
        (level,) = {level for levels in self.spec.levels.values() for level in levels}
        told = [{category: {level: next(s.numbers())} for category in self.spec.levels} for s in made]
        return [replace(s, views=(ViewScores(View("full"), one),)) for s, one in zip(made, told, strict=True)]


class Broken(Saying):
    """Says NaN of every second frame."""

    def score(self, stacks: Sequence[Frames], *, embeddings: bool = False, digests: bool = False) -> list[Scores]:
        told = super().score(stacks, embeddings=embeddings, digests=digests)
        bad = Scores.single({"red": {Severity.HIGH: float("nan")}})
        return [bad if i % 2 else one for i, one in enumerate(told)]


def frames(*values: int) -> Frames:
    """One frame for each value of the blue channel, of 200."""
    return Frames(torch.stack([torch.full((3, 8, 8), v, dtype=torch.uint8) for v in values]))


def said(backend: Backend, *values: int) -> list[float]:
    return [next(s.numbers()) for s in backend.score([frames(*values)])]


def test_aligning_sends_the_cut_to_a_half_and_keeps_order():
    assert [aligned(p, 0.8) for p in (0.0, 0.4, 0.8, 0.9, 1.0)] == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    assert aligned(1.0, 1.0) == 1.0
    assert aligned(0.999, 1.0) < 0.5
    assert math.isnan(aligned(float("nan"), 0.5))
    assert aligned(1.5, 0.5) == 1.5


def test_an_ensemble_blocks_what_any_of_them_would_block():
    both = Ensemble([Saying("a", threshold=0.9), Saying("b", threshold=0.2)])
    assert said(both, 0, 40, 100, 180) == pytest.approx([0.0, 0.5, aligned(0.5, 0.2), aligned(0.9, 0.2)])
    outcomes = [v.outcome for v in Guard(both).check(frames(30, 40).pixels)]
    assert outcomes == [Outcome.REVIEW, Outcome.BLOCK]


def test_a_mean_weighs_and_a_vote_counts():
    one, other = Saying("a", threshold=0.5), Saying("b", threshold=0.5, times=0.0)
    assert said(Ensemble([one, other], combine="mean", weights=(3, 1)), 200) == pytest.approx([0.75])
    third = Saying("c", threshold=0.5)
    assert said(Ensemble([one, other, third], combine="vote"), 200, 0) == pytest.approx([aligned(2 / 3, 2 / 3), 0.0])
    assert said(Ensemble([one, other, third], combine="vote", votes=3), 200)[0] < 0.5
    assert said(Ensemble([one, other, third], combine="vote", votes=1), 200)[0] >= 0.5


@pytest.mark.parametrize("combine", ["max", "mean", "vote"])
def test_one_nan_spoils_the_whole_and_only_that_picture(combine):
    for order in ([Saying("a"), Broken("b")], [Broken("b"), Saying("a")]):
        verdicts = Guard(Ensemble(order, combine=combine)).check(frames(0, 0).pixels)
        assert [v.outcome for v in verdicts] == [Outcome.ALLOW, Outcome.ERROR]


@pytest.mark.parametrize("fault", ["few", "many", "none", "generator", "wrong kind", "raises"])
def test_a_member_that_answers_wrongly_is_an_error_for_all(fault):
    verdicts = Guard(Ensemble([Saying("a"), FaultyBackend(fault)])).check(frames(0, 0).pixels)
    assert [v.outcome for v in verdicts] == [Outcome.ERROR] * 2


def test_categories_are_joined_and_each_is_asked_of_those_that_score_it():
    both = Ensemble([Saying("a", categories=("red", "loud")), Saying("b", times=0.5)])
    (scores,) = both.score([frames(200)], embeddings=True, digests=True)
    assert both.spec.levels == {"red": (Severity.HIGH,), "loud": (Severity.HIGH,)}
    assert {c: levels[Severity.HIGH] for c, levels in scores.views[0].levels.items()} == {"red": 1.0, "loud": 1.0}
    assert dict(scores.views[0].details) == {"a: red": 1.0, "a: loud": 1.0, "b: red": 0.5}
    assert scores.embedding is not None
    assert scores.digest


def test_a_member_without_its_category_is_an_error():
    liar = Saying("a")
    liar.spec = replace(liar.spec, labels={"red": Label("red"), "loud": Label("loud")})
    liar._of = lambda stack, embeddings, digests: [
        Scores.single({"red": {Severity.HIGH: 0.0}}) for _ in range(len(stack))
    ]  # type: ignore[method-assign]
    with pytest.raises(ScoringError, match="no score for 'loud'"):
        Ensemble([liar, Saying("b")]).score([frames(0)])


def test_the_record_names_every_model_with_its_revision():
    spec = Ensemble([Saying("a"), Saying("b")]).spec
    assert spec.name == "ensemble(max): a + b"
    assert spec.revision == "a@unrecorded + b@unrecorded"
    assert Guard(Ensemble([Saying("a"), Saying("b")])).state["self_test b"] == "passed"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ensemble([Saying("a")]), "two or more different models"),
        (lambda: Ensemble([Saying("a"), Saying("a")]), "two or more different models"),
        (lambda: Ensemble([Saying("a"), Saying("b")], weights=(1, 2)), "goes with combine='mean'"),
        (lambda: Ensemble([Saying("a"), Saying("b")], combine="mean", weights=(1,)), "one number above 0"),
        (lambda: Ensemble([Saying("a"), Saying("b")], combine="mean", weights=(1, float("nan"))), "one number above 0"),
        (lambda: Ensemble([Saying("a"), Saying("b")], combine="vote", votes=3), "scored by 2 of the models only"),
        (lambda: Ensemble([Saying("a"), Saying("b")], threshold="mine"), "no threshold 'mine'"),
        (lambda: Cascade(Saying("a"), Saying("b"), band=(0.6, 0.9)), "on both sides of its threshold 0.5"),
        (lambda: Cascade(Saying("a"), Saying("b"), band=(0.9, 0.1)), "on both sides of its threshold 0.5"),
        (lambda: Cascade(Saying("a"), Saying("b"), band=(float("nan"), 1)), "on both sides of its threshold 0.5"),
        (lambda: Cascade(Saying("a"), Saying("b", categories=("loud",)), band=(0.1, 0.9)), "no second opinion on red"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_cure(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_an_unknown_way_to_combine_names_the_known_ones():
    with pytest.raises(UnknownNameError, match="did you mean 'mean'"):
        Ensemble([Saying("a"), Saying("b")], combine="means")  # type: ignore[arg-type]


def test_a_cascade_asks_the_second_only_in_doubt_and_its_word_stands():
    second = Saying("b", times=0.0)
    both = Cascade(Saying("a"), second, band=(0.3, 0.8))
    assert said(both, 20, 100, 140, 180) == pytest.approx([0.1, 0.0, 0.0, 0.9])
    assert second.frames == 2
    assert (both.asked, both.seen) == (2, 4)
    (sure, doubtful) = both.score([frames(20), frames(100)])
    assert dict(sure.views[0].details) == {"a: red": 0.1}
    assert dict(doubtful.views[0].details) == {"a: red": 0.5, "b: red": 0.0}


def test_a_cascade_that_is_sure_of_all_never_runs_the_second():
    second = FaultyBackend("raises")
    second.spec = replace(RED, name="b")
    assert said(Cascade(Saying("a"), second, band=(0.3, 0.8)), 0, 200) == [0.0, 1.0]
    assert second.calls == 0


@pytest.mark.parametrize("fault", ["few", "many", "none", "raises", "nan"])
def test_a_second_opinion_that_fails_is_an_error_never_the_first_ones_word(fault):
    second = FaultyBackend(fault)
    second.spec = replace(RED, name="b")
    verdicts = Guard(Cascade(Saying("a"), second, band=(0.3, 0.8))).check(frames(100).pixels)
    assert [v.outcome for v in verdicts] == [Outcome.ERROR]


def test_a_first_opinion_that_is_no_number_is_not_asked_about_and_stays_an_error():
    verdicts = Guard(Cascade(Broken("a"), Saying("b", times=0.0), band=(0.3, 0.8))).check(frames(100, 100).pixels)
    assert [v.outcome for v in verdicts] == [Outcome.ALLOW, Outcome.ERROR]


def test_the_guard_holds_the_band_against_the_policy():
    both = Cascade(Saying("a"), Saying("b"), band=(0.3, 0.8))
    assert Guard(both, policy={"rules": {"red": {"block": 0.7}}}).policy.rules["red"].block == 0.7
    with pytest.raises(PolicyError, match=r"blocked from 0\.9, but the second model is asked only from 0\.3 to 0\.8"):
        Guard(both, policy={"rules": {"red": {"block": 0.9}}})
    assert Guard(both).state["second_opinion"] == "b from 0.3 to 0.8"


def test_a_frame_that_is_no_picture_is_an_error_through_both():
    pixels = frames(0, 0).pixels.float() / 255
    pixels[1, 0, 0, 0] = float("nan")
    for both in (Cascade(Saying("a"), Saying("b"), band=(0.3, 0.8)), Ensemble([Saying("a"), Saying("b")])):
        assert [v.outcome for v in Guard(both).check(pixels)] == [Outcome.ALLOW, Outcome.ERROR]
