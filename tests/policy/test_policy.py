"""What is decided: nothing is allowed unless every number is finite and below every threshold."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from collections.abc import Mapping
from typing import Any

import pytest

from nsfw_guard.errors import PolicyError
from nsfw_guard.policy.policy import Policy, _number
from nsfw_guard.policy.prompts import PromptRules
from nsfw_guard.policy.rules import Rule, Threshold
from nsfw_guard.scores import Scores, Severity, View, ViewScores
from nsfw_guard.verdict import Outcome, Verdict
from tests.policy.policies import ALLOW, BLOCK, ERROR, HIGH, LOW, MEDIUM, REVIEW, policy_of, red

LEVELS = {"sexual": (LOW, HIGH), "violence": (HIGH,)}
POSITIVE = {"sexual": LOW, "violence": HIGH}
CUTS = {
    "default": Threshold(block=0.5, review=0.25, views={"side": 0.75}),
    "strict": Threshold(block=0.25),
}
BELOW, ABOVE = math.nextafter(0.5, 0), math.nextafter(0.5, 1)


@dataclasses.dataclass(frozen=True)
class Model:
    """As much of a record as a policy asks for."""

    levels: Mapping[str, tuple[Severity, ...]]
    positives: Mapping[str, Severity]
    thresholds: Mapping[str, Threshold]
    band: tuple[float, float] | None = None
    required: tuple[str, ...] = ()


def fitted(**rules: Rule) -> Policy:
    return policy_of(**rules).bind(Model(LEVELS, POSITIVE, CUTS))


def decide(p: float, **rule: Any) -> Verdict:
    return policy_of(red=Rule(**rule)).decide(red(("full", p)))


@pytest.mark.parametrize(
    ("p", "outcome", "threshold"),
    [
        (0.0, ALLOW, 0.5),
        (math.nextafter(0.25, 0), ALLOW, 0.5),
        (0.25, REVIEW, 0.25),
        (BELOW, REVIEW, 0.25),
        (0.5, BLOCK, 0.5),
        (ABOVE, BLOCK, 0.5),
        (1.0, BLOCK, 0.5),
    ],
)
def test_a_score_at_the_cut_is_cut(p: float, outcome: Outcome, threshold: float) -> None:
    verdict = decide(p, block=0.5, review=0.25)
    assert (verdict.outcome, verdict.threshold, verdict.score) == (outcome, threshold, p)


def test_a_policy_names_the_categories_that_it_never_blocks() -> None:
    mixed = policy_of(red=Rule(review=0.5), blue=Rule(block=0.5, views={"side": 0.6}), green=Rule(block=0.5))
    assert (mixed.reviews_only, mixed.blocks) == (("red",), True)
    assert not policy_of(red=Rule(review=0.5)).blocks


@pytest.mark.parametrize(("p", "outcome"), [(0.0, ALLOW), (BELOW, ALLOW), (0.5, REVIEW), (1.0, REVIEW)])
def test_a_rule_that_only_reviews_never_blocks(p: float, outcome: Outcome) -> None:
    assert decide(p, review=0.5).outcome is outcome


def test_a_score_of_one_reaches_the_highest_threshold() -> None:
    assert decide(1.0, block=1.0).outcome is BLOCK
    assert decide(math.nextafter(1.0, 0), block=1.0).outcome is ALLOW


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 1.5, -0.5, math.nextafter(1.0, 2)])
@pytest.mark.parametrize("where", ["alone", "first", "last", "other category", "other level"])
def test_a_score_that_is_not_a_probability_is_an_error_at_every_level(odd: float, where: str) -> None:
    views = {
        "alone": ({"red": {HIGH: odd}},),
        "first": ({"red": {HIGH: odd}}, {"red": {HIGH: 0.0}}),
        "last": ({"red": {HIGH: 1.0}}, {"red": {HIGH: odd}}),
        "other category": ({"red": {HIGH: 0.0}, "blue": {HIGH: odd}},),
        "other level": ({"red": {LOW: odd, HIGH: 0.0}},),
    }[where]
    scores = Scores(tuple(ViewScores(View("full"), levels) for levels in views))
    verdict = policy_of(red=Rule(block=0.5)).decide(scores)
    assert verdict.outcome is ERROR
    assert "NaN or a value outside" in verdict.reason
    assert (verdict.score, verdict.threshold, verdict.scores) == (None, None, scores)


@pytest.mark.parametrize(
    "levels", [{"blue": {HIGH: 0.0}}, {"red": {LOW: 0.0}, "blue": {HIGH: 0.0}}, {"red": {}, "blue": {HIGH: 1.0}}]
)
def test_a_category_or_level_without_a_score_is_an_error(levels: Any) -> None:
    verdict = policy_of(red=Rule(block=0.5), blue=Rule(block=0.5)).decide(Scores.single(levels))
    assert verdict.outcome is ERROR
    assert verdict.reason == "not evaluated: the model gave no score for red"


@pytest.mark.parametrize("scores", [Scores(()), Scores.single({}), Scores.single({"red": {}})])
def test_no_score_at_all_is_an_error(scores: Scores) -> None:
    assert policy_of(red=Rule(block=0.5)).decide(scores).outcome is ERROR


def test_one_view_without_a_score_is_an_error() -> None:
    views = ViewScores(View("full"), {"red": {HIGH: 0.0}}), ViewScores(View("side"), {"blue": {HIGH: 0.0}})
    assert policy_of(red=Rule(block=0.5)).decide(Scores(views)).outcome is ERROR


def test_a_fault_is_an_error_whatever_the_numbers_say() -> None:
    verdict = policy_of(red=Rule(block=0.5)).decide(red(("full", 0.0), fault="it holds NaN"))
    assert (verdict.outcome, verdict.reason) == (ERROR, "it holds NaN")


@pytest.mark.parametrize(("p", "outcome"), [(0.0, ALLOW), (0.75, BLOCK)])
def test_a_flat_image_is_judged_and_said_to_be_flat(p: float, outcome: Outcome) -> None:
    verdict = policy_of(red=Rule(block=0.5)).decide(red(("full", p), blank=True))
    assert verdict.outcome is outcome
    assert verdict.reason.endswith("(full view); one flat colour")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_worst_view_decides(order: tuple[int, ...]) -> None:
    views = (("full", 0.1), ("side", 0.9), ("tile", 0.3))
    verdict = policy_of(red=Rule(block=0.5, review=0.25)).decide(red(*(views[i] for i in order)))
    assert (verdict.outcome, verdict.view, verdict.score) == (BLOCK, "side", 0.9)


@pytest.mark.parametrize(
    ("kind", "p", "outcome", "threshold"),
    [
        ("full", 0.5, BLOCK, 0.5),
        ("side", 0.5, REVIEW, 0.25),
        ("side", 0.75, BLOCK, 0.75),
        ("side", 0.0, ALLOW, 0.75),
        ("tile", 0.125, BLOCK, 0.125),
        ("another", 0.5, BLOCK, 0.5),
    ],
)
def test_each_kind_of_view_has_its_own_cut(kind: str, p: float, outcome: Outcome, threshold: float) -> None:
    rule = Rule(block=0.5, review=0.25, views={"side": 0.75, "tile": 0.125})
    verdict = policy_of(red=rule).decide(red((kind, p)))
    assert (verdict.outcome, verdict.threshold, verdict.view) == (outcome, threshold, kind)


def test_of_several_blocks_the_furthest_above_its_threshold_is_named_and_all_are_flagged() -> None:
    rules = policy_of(a=Rule(block=0.9), b=Rule(block=0.5), c=Rule(block=0.75, review=0.25), d=Rule(block=0.5))
    levels = {"a": {HIGH: 0.95}, "b": {HIGH: 0.875}, "c": {HIGH: 0.5}, "d": {HIGH: 0.25}}
    verdict = rules.decide(Scores.single(levels))
    assert (verdict.outcome, verdict.category, verdict.score, verdict.threshold) == (BLOCK, "b", 0.875, 0.5)
    assert verdict.flags == ("a", "b", "c")


def test_an_allowed_image_has_no_flags_and_says_the_nearest_score() -> None:
    verdict = policy_of(a=Rule(block=0.9), b=Rule(block=0.5)).decide(
        Scores.single({"a": {HIGH: 0.6}, "b": {HIGH: 0.4}})
    )
    assert (verdict.outcome, verdict.flags, verdict.category) == (ALLOW, (), "b")
    assert verdict.reason == "b 0.400 < 0.5 (full view)"


@pytest.mark.parametrize(("severity", "outcome"), [(LOW, BLOCK), (MEDIUM, REVIEW), (HIGH, ALLOW)])
def test_the_level_that_a_rule_names_is_the_one_that_is_cut(severity: Severity, outcome: Outcome) -> None:
    scores = Scores.single({"red": {LOW: 0.75, MEDIUM: 0.375, HIGH: 0.125}})
    verdict = policy_of(red=Rule(block=0.5, review=0.25, severity=severity)).decide(scores)
    assert (verdict.outcome, verdict.severity) == (outcome, severity)


def test_a_verdict_is_signed_with_the_policy() -> None:
    policy = Policy(rules={"red": Rule(block=0.5)}, name="mine")
    for scores in (red(("full", 0.0)), red(("full", math.nan)), Scores.single({"blue": {HIGH: 0.5}})):
        verdict = policy.decide(scores)
        assert (verdict.policy, verdict.policy_hash, verdict.scores) == ("mine", policy.hash, scores)


@pytest.mark.parametrize("rule", [Rule(block="default"), Rule(review="default"), Rule(block=1.0, review="strict")])
def test_a_policy_that_was_not_fitted_does_not_decide(rule: Rule) -> None:
    with pytest.raises(PolicyError, match=r"call policy.bind first"):
        policy_of(red=rule).decide(red(("full", 0.5)))


def test_a_policy_for_every_category_that_was_not_fitted_is_an_error() -> None:
    assert policy_of(every=Rule(block=0.5)).decide(red(("full", 0.0))).outcome is ERROR


def test_a_policy_without_rules_is_refused() -> None:
    with pytest.raises(PolicyError, match="allows everything"):
        Policy(rules={})
    with pytest.raises(PolicyError, match="allows everything"):
        policy_of(every=Rule(block=0.5)).bind(Model({}, {}, {}))


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"sexaul": Rule(block=0.5)}, "judges 'sexaul', which the model does not score: did you mean 'sexual'?"),
        ({"zebra": Rule(block=0.5)}, "choose from sexual, violence"),
        ({"sexual": Rule(block=0.5, severity=MEDIUM)}, "only the severity low, high for 'sexual', not medium"),
        ({"violence": Rule(block=0.5, severity=LOW)}, "only the severity high for 'violence', not low"),
        ({"every": Rule(block=0.5, severity=LOW)}, "only the severity high for 'violence', not low"),
        ({"sexual": Rule(block="lenient")}, "no threshold 'lenient' for 'sexual': use a number, or calibrate"),
        ({"sexual": Rule(block=0.5, review="lenient")}, "no threshold 'lenient'"),
        ({"every": Rule(review="lenient")}, "no threshold 'lenient'"),
        ({"sexual": Rule(review="strict")}, "needs a threshold"),
        ({"sexual": Rule(block=0.5, review=0.75)}, "'sexual': review 0.75 must not be above block 0.5"),
        ({"sexual": Rule(block=0.125, review="default")}, "'sexual': review 0.25 must not be above block 0.125"),
        ({"sexual": Rule(block="strict", review=0.5)}, "'sexual': review 0.5 must not be above block 0.25"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(rules: dict[str, Rule], said: str) -> None:
    with pytest.raises(PolicyError) as caught:
        fitted(**rules)
    assert said in str(caught.value)


BAND = (0.25, 0.75)


@pytest.mark.parametrize(
    "rule",
    [
        Rule(block=0.25),
        Rule(block=0.5, review=0.1),
        Rule(block=0.75),
        Rule(review=0.1),
        Rule(block="default"),
        Rule(block=0.5, views={"side": 0.75, "tile": 0.25}),
    ],
    ids=str,
)
def test_cuts_within_the_band_of_a_second_opinion_fit(rule: Rule) -> None:
    policy = policy_of(sexual=rule).bind(Model(LEVELS, POSITIVE, CUTS, BAND))
    assert policy == policy_of(sexual=rule).bind(Model(LEVELS, POSITIVE, CUTS))


@pytest.mark.parametrize(
    ("rule", "threshold"),
    [
        (Rule(block=math.nextafter(0.25, 0)), "0.25"),
        (Rule(block=math.nextafter(0.75, 1)), "0.75"),
        (Rule(block=0.1), "0.1"),
        (Rule(block=1.0), "1"),
        (Rule(block=0.5, views={"full": 0.9}), "0.9"),
        (Rule(block=0.5, views={"full": 0.125}), "0.125"),
    ],
    ids=str,
)
def test_a_cut_outside_of_the_band_is_refused_since_nobody_would_be_asked_there(rule: Rule, threshold: str) -> None:
    said = (
        rf"'sexual' is blocked from {threshold}, but the second model is asked only from 0\.25 to 0\.75: widen the band"
    )
    with pytest.raises(PolicyError, match=said):
        policy_of(violence=Rule(block=0.5), sexual=rule).bind(Model(LEVELS, POSITIVE, CUTS, BAND))


@pytest.mark.parametrize("threshold", [None, "default"])
def test_an_unfitted_threshold_is_never_compared_with(threshold: str | None) -> None:
    with pytest.raises(PolicyError, match=r"call policy\.bind first"):
        _number(threshold)


@pytest.mark.parametrize(
    ("a", "b", "named"),
    [
        ((0.0, 0.9), (0.1, 0.5), "b"),
        ((0.0, 0.5), (0.1, 0.9), "a"),
        ((0.0, 0.5), (0.0, 0.5), "a"),
        ((0.9, 0.6), (0.5, 0.5), "a"),
        ((0.5, 0.5), (0.9, 0.6), "b"),
    ],
)
def test_the_score_that_lies_furthest_above_its_cut_is_named(a: Any, b: Any, named: str) -> None:
    rules = policy_of(a=Rule(block=a[1]), b=Rule(block=b[1]))
    assert rules.decide(Scores.single({"a": {HIGH: a[0]}, "b": {HIGH: b[0]}})).category == named


def test_a_policy_says_whether_it_blocks_anything() -> None:
    assert policy_of(a=Rule(review=0.5), b=Rule(block=0.5)).blocks
    assert not policy_of(a=Rule(review=0.5), b=Rule(review=0.1)).blocks


def test_the_star_rule_leaves_out_categories_without_a_positive_class() -> None:
    levels, positive = {"sexual": (LOW, HIGH), "face": (HIGH,)}, {"sexual": LOW}
    every, named = Policy(rules={"*": Rule(block=0.5)}), Policy(rules={"face": Rule(block=0.5)})
    assert set(every.bind(Model(levels, positive, {})).rules) == {"sexual"}
    assert named.bind(Model(levels, positive, {})).rules == {"face": Rule(block=0.5, severity=HIGH)}
    with pytest.raises(PolicyError, match="allows everything"):
        every.bind(Model({"face": (HIGH,)}, {}, {}))


def test_the_star_rule_stands_for_every_category_without_a_rule() -> None:
    policy = fitted(every=Rule(block="default"), violence=Rule(block=0.875))
    assert policy.rules == {
        "sexual": Rule(block=0.5, severity=LOW, views={"side": 0.75}),
        "violence": Rule(block=0.875, severity=HIGH),
    }


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(block="default"), Rule(block=0.5, severity=LOW, views={"side": 0.75})),
        (Rule(block="strict", review="strict"), Rule(block=0.25, severity=LOW)),
        (Rule(review="default"), Rule(review=0.25, severity=LOW)),
        (Rule(block=0.875, review="default"), Rule(block=0.875, review=0.25, severity=LOW)),
        (Rule(block="default", severity=HIGH), Rule(block=0.5, severity=HIGH, views={"side": 0.75})),
        (
            Rule(block="default", views={"side": 0.625, "tile": 1}),
            Rule(block=0.5, severity=LOW, views={"side": 0.625, "tile": 1}),
        ),
    ],
)
def test_named_thresholds_become_the_models_numbers_and_the_policys_own_win(rule: Rule, expected: Rule) -> None:
    assert fitted(sexual=rule).rules == {"sexual": expected}


def test_a_fitted_policy_can_be_fitted_again_and_read_back_from_its_dict() -> None:
    policy = fitted(every=Rule(block="default", review="default"))
    assert policy.bind(Model(LEVELS, POSITIVE, {})) == policy
    assert Policy.load(policy.to_dict()) == policy
    assert Policy.load(policy) is policy


def test_a_policy_is_immutable() -> None:
    policy = policy_of(red=Rule(block=0.5))
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.rules = {}  # type: ignore[misc]


SAME = {"a": Rule(block=0.5, views={"side": 0.75, "tile": 1.0}), "b": Rule(review=0.25)}


@pytest.mark.parametrize(
    "other",
    [
        Policy(rules=SAME, name="another", description="text"),
        Policy(rules=dict(reversed(SAME.items()))),
        Policy(rules={**SAME, "a": Rule(block=0.5, views={"tile": 1, "side": 0.75})}),
    ],
    ids=["name", "order", "order and kind of number"],
)
def test_the_hash_covers_the_content_of_a_policy(other: Policy) -> None:
    assert other.hash == Policy(rules=SAME).hash


@pytest.mark.parametrize(
    "rules",
    [
        {**SAME, "b": Rule(review=math.nextafter(0.25, 1))},
        {**SAME, "b": Rule(block=0.25)},
        {**SAME, "b": Rule(review=0.25, severity=LOW)},
        {**SAME, "a": Rule(block=0.5, views={"side": 0.75})},
        {**SAME, "a": Rule(block="strict", views={"side": 0.75, "tile": 1.0})},
        {"a": SAME["a"]},
        {"a": SAME["a"], "c": SAME["b"]},
    ],
)
def test_whatever_changes_a_decision_changes_the_hash(rules: dict[str, Rule]) -> None:
    assert Policy(rules=rules).hash != Policy(rules=SAME).hash


def test_the_hash_is_pinned() -> None:
    assert policy_of(red=Rule(block=0.5)).hash == "4f9d73ab830a0a2a963dadaeb365b448de03135ffd13cc881134e09da6ada7b1"


def test_the_hash_with_prompts_is_pinned() -> None:
    policy = Policy(rules={"red": Rule(block=0.5)}, prompts=PromptRules(words=("dragon",)))
    assert policy.hash == "7457af3c86e1df2b645cdbcfc8bfed01f60f6e131fec3956ff659b704e59773e"


def test_a_policy_without_a_name_is_called_policy() -> None:
    assert policy_of(red=Rule(block=0.5)).decide(red(("full", 0.0))).policy == "policy"


def test_the_lowest_level_is_cut_where_nothing_is_called_positive() -> None:
    policy = policy_of(face=Rule(block=0.5)).bind(Model({"face": (LOW, MEDIUM, HIGH)}, {}, {}))
    assert policy.rules == {"face": Rule(block=0.5, severity=LOW)}


def test_review_and_block_may_share_a_threshold() -> None:
    assert fitted(sexual=Rule(block="strict", review="default")).rules["sexual"].review == 0.25


def test_a_policy_with_prompts_but_no_image_rules_is_refused() -> None:
    with pytest.raises(PolicyError, match="allows everything"):
        Policy(rules={}, prompts=PromptRules(words=("dragon",)))


def test_prompt_rules_are_part_of_a_policy_and_of_its_hash() -> None:
    bare = Policy(rules=SAME)
    with_words = Policy(rules=SAME, prompts=PromptRules(words=("dragon", "red disc")))
    as_pattern = Policy(rules=SAME, prompts=PromptRules(patterns=("dragon", "red disc")))
    assert "prompts" not in bare.to_dict()
    assert with_words.to_dict()["prompts"] == {"words": ["dragon", "red disc"]}
    assert len({bare.hash, with_words.hash, as_pattern.hash}) == 3
    assert Policy.load(with_words.to_dict()) == with_words


def test_fitting_keeps_the_prompt_rules() -> None:
    policy = Policy(rules={"*": Rule(block="default")}, prompts=PromptRules(words=("dragon",)))
    assert policy.bind(Model(LEVELS, POSITIVE, CUTS)).prompts == policy.prompts


@pytest.mark.parametrize("again", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))], ids=["deepcopy", "pickle"])  # noqa: S301
def test_a_policy_survives_a_copy(again: Any) -> None:
    policy = fitted(every=Rule(block="default"))
    assert again(policy) == policy
    assert again(policy).hash == policy.hash
