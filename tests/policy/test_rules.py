"""A threshold is a number above 0 and up to 1, or the name of one; nothing else passes for it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from nsfw_guard.errors import PolicyError
from nsfw_guard.policy.rules import THRESHOLD_NAMES, Rule, Threshold
from nsfw_guard.scores import Severity

NO_CUTS = [0, 0.0, -0.5, 1.0000001, 2, math.nan, math.inf, -math.inf, True, False, [0.5], {"a": 1}, (), b"0.5"]
CUTS = [1, 1.0, 0.5, 5e-324]


@pytest.mark.parametrize("kind", [Threshold, Rule])
@pytest.mark.parametrize("value", NO_CUTS, ids=repr)
def test_an_invalid_threshold_is_refused_everywhere(kind: Any, value: Any) -> None:
    for settings in ({"block": value}, {"block": 0.5, "review": value}, {"block": 0.5, "views": {"side": value}}):
        name = "side" if "views" in settings else list(settings)[-1]
        with pytest.raises(PolicyError, match=f"^{name} = "):
            kind(**settings)


@pytest.mark.parametrize("kind", [Threshold, Rule])
@pytest.mark.parametrize("value", CUTS)
def test_every_number_above_0_up_to_1_is_a_cut(kind: Any, value: float) -> None:
    cut = kind(block=value, review=value, views={"side": value})
    assert (cut.block, cut.review, cut.views["side"]) == (value, value, value)


@pytest.mark.parametrize(
    "settings", [{"block": "default"}, {"block": 0.5, "review": "x"}, {"block": 1, "views": {"side": "b"}}]
)
def test_a_models_own_cuts_are_numbers(settings: Any) -> None:
    with pytest.raises(PolicyError, match="a threshold must be a number"):
        Threshold(**settings)


def test_a_model_always_has_a_block_threshold() -> None:
    with pytest.raises(PolicyError, match="block = None: a threshold must be a number"):
        Threshold(block=None)  # type: ignore[arg-type]


def test_review_begins_at_a_lower_score_than_block() -> None:
    with pytest.raises(PolicyError, match=r"review 0.6 must not be above block 0.5: lower review"):
        Threshold(block=0.5, review=0.6)
    assert Threshold(block=0.5, review=0.5).review == 0.5


@pytest.mark.parametrize("name", THRESHOLD_NAMES)
def test_a_rule_may_name_a_cut(name: str) -> None:
    rule = Rule(block=name, review=name)
    assert (rule.block, rule.review) == (name, name)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("strickt", "did you mean 'strict'"),
        ("DEFAULT", "choose from default, lenient, strict"),
        ("0.5", "choose from default, lenient, strict"),
        ("", "choose from default, lenient, strict"),
    ],
)
def test_an_unknown_name_of_a_cut_names_the_nearest(value: str, said: str) -> None:
    for field in ("block", "review"):
        with pytest.raises(
            PolicyError, match=f"{field} = '{value}' is neither a number nor a threshold's name: {said}"
        ):
            Rule(**{"block": 0.5, field: value})


@pytest.mark.parametrize("views", [3, 0.5, "side", [0.5], None, True], ids=repr)
@pytest.mark.parametrize("kind", [Threshold, Rule])
def test_views_are_a_table(kind: Any, views: Any) -> None:
    with pytest.raises(PolicyError, match="views must map kinds of view to thresholds"):
        kind(block=0.5, views=views)


@pytest.mark.parametrize("value", [None, "strict"])
def test_a_view_needs_its_own_number(value: Any) -> None:
    with pytest.raises(PolicyError, match=r"side = .* a threshold must be a number"):
        Rule(block=0.5, views={"side": value})


@pytest.mark.parametrize("value", ["low", "LOW", 1, Severity.LOW])
def test_a_severity_may_be_given_as_text(value: Any) -> None:
    assert Rule(block=0.5, severity=value).severity is Severity.LOW


@pytest.mark.parametrize("value", ["", "hi", 0, 4, True, [1]])
def test_an_unknown_severity_is_refused(value: Any) -> None:
    with pytest.raises(PolicyError, match="low, medium or high"):
        Rule(block=0.5, severity=value)


def test_views_need_a_cut_for_all_the_others() -> None:
    with pytest.raises(PolicyError, match="set block"):
        Rule(review=0.25, views={"full": 0.5})


@pytest.mark.parametrize("settings", [{}, {"severity": "low"}, {"views": {"side": 0.5}}])
def test_a_rule_that_judges_nothing_is_refused(settings: Any) -> None:
    with pytest.raises(PolicyError, match="needs a threshold"):
        Rule(**settings)


def test_the_dict_of_a_rule_leaves_out_unset_fields() -> None:
    assert Rule(review=0.5).to_dict() == {"review": 0.5}
    rule = Rule(block="strict", review=0.25, severity=Severity.LOW, views={"side": 0.75})
    assert rule.to_dict() == {"block": "strict", "review": 0.25, "severity": "low", "views": {"side": 0.75}}
    assert Rule(**rule.to_dict()) == rule


def test_rules_and_thresholds_are_immutable() -> None:
    for cut in (Threshold(block=0.5), Rule(block=0.5)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            cut.block = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("kind", [Threshold, Rule])
def test_later_changes_by_the_caller_do_not_change_the_thresholds(kind: Any) -> None:
    views = {"side": 0.25}
    cut = kind(block=0.5, views=views)
    views["side"] = 1.0
    assert cut.views == {"side": 0.25}
