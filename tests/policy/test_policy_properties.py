"""What holds of every policy and every score: no fault is allowed, and more doubt never makes an outcome milder."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nsfw_guard.policy.policy import Policy
from nsfw_guard.policy.rules import Rule
from nsfw_guard.scores import Scores, View, ViewScores
from tests.policy.policies import ALLOW, HIGH, policy_of, red

probability = st.floats(0, 1)
anything = st.one_of(probability, st.floats(), st.just(math.nan))
threshold = st.floats(0, 1, exclude_min=True)
kinds = st.sampled_from(["full", "side", "tile"])


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    block = draw(st.none() | threshold)
    review = draw(threshold if block is None else st.none() | threshold.filter(lambda r: r <= block))
    views = st.dictionaries(kinds, threshold, max_size=2 if block else 0)
    return Rule(block=block, review=review, views=draw(views))


def scored(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    levels = st.dictionaries(
        st.sampled_from(["a", "b"]), st.just(HIGH).flatmap(lambda h: st.fixed_dictionaries({h: numbers}))
    )
    return st.lists(st.tuples(kinds, levels), max_size=3)


def scores_of(views: list[tuple[str, Any]]) -> Scores:
    return Scores(tuple(ViewScores(View(kind), levels) for kind, levels in views))


def thresholds_of(rule: Rule, kind: str) -> list[float]:
    """Every threshold that a score of this view is compared with."""
    numbers = (rule.views.get(kind, rule.block), rule.review)
    return [c for c in numbers if isinstance(c, float)]


@settings(max_examples=300, deadline=None)
@given(rules=st.dictionaries(st.sampled_from(["a", "b"]), rules(), min_size=1), views=scored(anything))
def test_nothing_is_allowed_unless_all_is_finite_and_below_every_cut(rules: dict[str, Rule], views: Any) -> None:
    outcome = Policy(rules=rules).decide(scores_of(views)).outcome
    numbers = [p for _, levels in views for level in levels.values() for p in level.values()]
    finite = bool(numbers) and all(0 <= p <= 1 for p in numbers)
    below = all(
        category in levels and all(levels[category][HIGH] < c for c in thresholds_of(rule, kind))
        for kind, levels in views
        for category, rule in rules.items()
    )
    assert (outcome is ALLOW) == (finite and below)


@settings(max_examples=300, deadline=None)
@given(rule=rules(), kind=kinds, low=probability, high=probability)
def test_raising_a_score_never_makes_the_outcome_milder(rule: Rule, kind: str, low: float, high: float) -> None:
    low, high = sorted((low, high))
    policy = policy_of(red=rule)
    assert policy.decide(red((kind, low))).outcome <= policy.decide(red((kind, high))).outcome


@settings(max_examples=300, deadline=None)
@given(
    p=probability,
    kind=kinds,
    thresholds=st.tuples(threshold, threshold),
    which=st.sampled_from(["block", "review", "view"]),
)
def test_lowering_a_cut_never_releases_more(p: float, kind: str, thresholds: tuple[float, float], which: str) -> None:
    low, high = sorted(thresholds)
    outcomes = []
    for c in (high, low):
        rule = {"block": Rule(block=c), "review": Rule(review=c), "view": Rule(block=1.0, views={kind: c})}[which]
        outcomes.append(policy_of(red=rule).decide(red((kind, p))).outcome)
    assert outcomes[0] <= outcomes[1]


@settings(max_examples=200, deadline=None)
@given(rule=rules(), one=st.tuples(kinds, probability), other=st.tuples(kinds, probability))
def test_another_view_never_makes_the_outcome_milder(rule: Rule, one: Any, other: Any) -> None:
    policy = policy_of(red=rule)
    assert policy.decide(red(one, other)).outcome is max(policy.decide(red(v)).outcome for v in (one, other))
