"""Several models as one: comparable before they are combined, and never more lenient by an accident."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nsfw_guard.backends.spec import Label
from nsfw_guard.backends.wrappers.alignment import aligned
from nsfw_guard.backends.wrappers.cascade import Cascade
from nsfw_guard.backends.wrappers.ensemble import Ensemble
from nsfw_guard.errors import ConfigError, ScoringError, UnknownNameError
from nsfw_guard.guard import Guard
from nsfw_guard.scores import Scores, Severity
from nsfw_guard.testing import FaultyBackend
from nsfw_guard.verdict import Outcome
from tests.backends.wrappers.members import Broken, Saying, frames, said


def test_an_ensemble_blocks_what_any_of_them_would_block() -> None:
    both = Ensemble([Saying("a", threshold=0.9), Saying("b", threshold=0.2)])
    assert said(both, 0, 40, 100, 180) == pytest.approx([0.0, 0.5, aligned(0.5, 0.2), aligned(0.9, 0.2)])
    outcomes = [v.outcome for v in Guard(both).check(frames(30, 40).pixels)]
    assert outcomes == [Outcome.REVIEW, Outcome.BLOCK]


def test_a_mean_weighs_and_a_vote_counts() -> None:
    one, other = Saying("a", threshold=0.5), Saying("b", threshold=0.5, times=0.0)
    assert said(Ensemble([one, other], combine="mean", weights=(3, 1)), 200) == pytest.approx([0.75])
    third = Saying("c", threshold=0.5)
    assert said(Ensemble([one, other, third], combine="vote"), 200, 0) == pytest.approx([aligned(2 / 3, 2 / 3), 0.0])
    assert said(Ensemble([one, other, third], combine="vote", votes=3), 200)[0] < 0.5
    assert said(Ensemble([one, other, third], combine="vote", votes=1), 200)[0] >= 0.5


@pytest.mark.parametrize("combine", ["max", "mean", "vote"])
def test_one_members_nan_makes_only_that_image_an_error(combine) -> None:
    for order in ([Saying("a"), Broken("b")], [Broken("b"), Saying("a")]):
        verdicts = Guard(Ensemble(order, combine=combine)).check(frames(0, 0).pixels)
        assert [v.outcome for v in verdicts] == [Outcome.ALLOW, Outcome.ERROR]


@pytest.mark.parametrize("fault", ["few", "many", "none", "generator", "wrong kind", "raises"])
def test_a_member_that_answers_wrongly_is_an_error_for_all(fault) -> None:
    verdicts = Guard(Ensemble([Saying("a"), FaultyBackend(fault)])).check(frames(0, 0).pixels)
    assert [v.outcome for v in verdicts] == [Outcome.ERROR] * 2


def test_categories_are_joined_and_each_is_asked_of_those_that_score_it() -> None:
    both = Ensemble([Saying("a", categories=("red", "loud")), Saying("b", times=0.5)])
    (scores,) = both.score([frames(200)], embeddings=True, digests=True)
    assert both.spec.levels == {"red": (Severity.HIGH,), "loud": (Severity.HIGH,)}
    assert {c: levels[Severity.HIGH] for c, levels in scores.views[0].levels.items()} == {"red": 1.0, "loud": 1.0}
    assert dict(scores.views[0].details) == {"a: red": 1.0, "a: loud": 1.0, "b: red": 0.5}
    assert scores.embedding is not None
    assert scores.digest


def test_a_member_without_its_category_is_an_error() -> None:
    liar = Saying("a")
    liar.spec = replace(liar.spec, labels={"red": Label("red"), "loud": Label("loud")})
    liar._of = lambda stack, embeddings, digests: [
        Scores.single({"red": {Severity.HIGH: 0.0}}) for _ in range(len(stack))
    ]  # type: ignore[method-assign]
    with pytest.raises(ScoringError, match="no score for 'loud'"):
        Ensemble([liar, Saying("b")]).score([frames(0)])


def test_the_record_names_every_model_with_its_revision() -> None:
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
        (lambda: Ensemble([Saying("a"), Saying("b")], combine="vote", votes=3), "scored by only 2 of the models"),
        (lambda: Ensemble([Saying("a"), Saying("b")], threshold="mine"), "no threshold 'mine'"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_cure(make, message) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_an_unknown_way_to_combine_names_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'mean'"):
        Ensemble([Saying("a"), Saying("b")], combine="means")  # type: ignore[arg-type]


def test_a_frame_that_is_no_image_is_an_error_through_both() -> None:
    pixels = frames(0, 0).pixels.float() / 255
    pixels[1, 0, 0, 0] = float("nan")
    for both in (Cascade(Saying("a"), Saying("b"), band=(0.3, 0.8)), Ensemble([Saying("a"), Saying("b")])):
        assert [v.outcome for v in Guard(both).check(pixels)] == [Outcome.ALLOW, Outcome.ERROR]
