"""The outcome table as a table, and the shape of a verdict, which others store."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import math
import pickle
from typing import Any

import pytest

from nsfw_guard.scores import Region, Scores, Severity
from nsfw_guard.verdict import SCHEMA, Outcome, Verdict, released, worst

ALLOW, REVIEW, BLOCK, ERROR = Outcome
HIGH = Severity.HIGH
KEYS = [
    "schema", "outcome", "reason", "category", "severity", "score", "threshold", "view", "flags", "evaluated", "scores",
    "regions", "digest", "model", "revision", "policy", "policy_hash", "state", "requested",
]  # fmt: skip
PASSED = {"self_test": "passed"}

GOOD = Scores.single({"red": {HIGH: 0.5}})
UNJUDGED = {
    "not evaluated": None,
    "nan": Scores.single({"red": {HIGH: math.nan}}),
    "infinite": Scores.single({"red": {HIGH: math.inf}}),
    "above one": Scores.single({"red": {HIGH: 1.5}}),
    "no number": Scores.single({}),
    "no view": Scores(()),
}
UNTESTED: list[dict[str, str]] = [
    {}, {"self_test": ""}, {"self_test": "failed"}, {"self_test": "Passed"}, {"self-test": "passed"}
]  # fmt: skip
SWITCHES = list(itertools.product((False, True), repeat=3))
# What leaves as itself when all is well, by cover_review, observe, fail_open.
TABLE = {
    ALLOW: lambda cover_review, observe, fail_open: True,
    REVIEW: lambda cover_review, observe, fail_open: not cover_review,
    BLOCK: lambda cover_review, observe, fail_open: observe,
    ERROR: lambda cover_review, observe, fail_open: fail_open,
}


def ask(verdict: Verdict, switches: tuple[bool, bool, bool]) -> bool:
    cover_review, observe, fail_open = switches
    return released(verdict, cover_review=cover_review, observe=observe, fail_open=fail_open)


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
@pytest.mark.parametrize("outcome", Outcome)
def test_a_judged_image_is_released_as_the_table_says(outcome: Outcome, switches: tuple[bool, bool, bool]) -> None:
    for self_test in ("passed", "answers unrecorded"):
        verdict = Verdict(outcome, "", scores=GOOD, state={"self_test": self_test})
        assert ask(verdict, switches) is TABLE[outcome](*switches)


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("fault", UNJUDGED)
def test_an_unjudged_image_is_released_only_with_fail_open(
    fault: str, outcome: Outcome, switches: tuple[bool, bool, bool]
) -> None:
    assert ask(Verdict(outcome, "", scores=UNJUDGED[fault], state=PASSED), switches) is switches[2]


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("state", UNTESTED, ids=str)
def test_an_image_judged_by_an_untested_model_is_released_only_with_fail_open(
    state: dict[str, str], outcome: Outcome, switches: tuple[bool, bool, bool]
) -> None:
    assert ask(Verdict(outcome, "", scores=GOOD, state=state), switches) is switches[2]


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_an_image_flagged_before_it_became_an_error_is_not_released(switches: tuple[bool, bool, bool]) -> None:
    for state in (PASSED, {}):
        assert not ask(Verdict(ERROR, "", flags=("red",), scores=GOOD, state=state), switches)
    assert not ask(Verdict(BLOCK, "", flags=("red",), state=PASSED), switches)


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_an_unknown_outcome_is_not_released(switches: tuple[bool, bool, bool]) -> None:
    assert not ask(Verdict(4, "", scores=GOOD, state=PASSED), switches)  # type: ignore[arg-type]


def test_a_verdict_has_no_truth_value() -> None:
    verdict = Verdict(ALLOW, "fine")
    for use in (bool, lambda v: not v, lambda v: v or None):
        with pytest.raises(TypeError, match=r"compare verdict.outcome"):
            use(verdict)


def test_outcomes_are_ordered_so_that_the_worst_is_the_maximum() -> None:
    assert ALLOW < REVIEW < BLOCK < ERROR
    assert [outcome.value for outcome in Outcome] == [0, 1, 2, 3]


@pytest.mark.parametrize(("outcome", "flagged"), [(ALLOW, False), (REVIEW, False), (BLOCK, True), (ERROR, True)])
def test_only_block_and_error_are_flagged(outcome: Outcome, flagged: bool) -> None:
    assert Verdict(outcome, "").flagged is flagged


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([(ALLOW, 0.1, 0.5), (BLOCK, 0.9, 0.5)], 1),
        ([(BLOCK, 0.9, 0.5), (ALLOW, 0.1, 0.5)], 0),
        ([(BLOCK, 0.9, 0.5), (ERROR, None, None), (REVIEW, 0.4, 0.3)], 1),
        ([(ERROR, None, None), (BLOCK, 1.0, 0.1)], 0),
        ([(BLOCK, 0.9, 0.8), (BLOCK, 0.6, 0.3)], 1),  # the furthest above its own threshold, not the highest
        ([(ALLOW, 0.1, 0.5), (ALLOW, 0.4, 0.5)], 1),
        ([(ERROR, None, None), (ERROR, 0.9, 0.5)], 1),  # without numbers it counts as lying at its threshold
        ([(ERROR, 0.1, 0.5), (ERROR, None, None)], 1),
        ([(BLOCK, 0.0, 0.0), (BLOCK, 0.0, 0.0)], 0),  # of equals the first
    ],
)
def test_the_worst_of_several_frames_decides(outcomes: list[Any], expected: int) -> None:
    verdicts = [Verdict(outcome, "", score=score, threshold=threshold) for outcome, score, threshold in outcomes]
    assert worst(verdicts) is verdicts[expected]


FULL = Verdict(
    BLOCK,
    "red 0.750 >= 0.5 (full view)",
    category="red",
    severity=Severity.LOW,
    score=0.75,
    threshold=0.5,
    view="full",
    flags=("blue", "red"),
    scores=Scores.single({"red": {Severity.LOW: 0.75}}, regions=(Region(0, 0, 0.5, 1, "red", 0.75),), digest="ab"),
    model="tiny",
    revision="1",
    policy="mine",
    policy_hash="cd",
    state=PASSED,
    requested={"views": "cover"},
)


def test_the_dict_is_pinned() -> None:
    payload = FULL.to_dict()
    assert list(payload) == KEYS
    assert payload == {
        "schema": 2,
        "outcome": "block",
        "reason": "red 0.750 >= 0.5 (full view)",
        "category": "red",
        "severity": "low",
        "score": 0.75,
        "threshold": 0.5,
        "view": "full",
        "flags": ["blue", "red"],
        "evaluated": True,
        "scores": [{"view": "full", "box": [0.0, 0.0, 1.0, 1.0], "levels": {"red": {"low": 0.75}}}],
        "regions": [{"left": 0, "top": 0, "right": 0.5, "bottom": 1, "category": "red", "score": 0.75}],
        "digest": "ab",
        "model": "tiny",
        "revision": "1",
        "policy": "mine",
        "policy_hash": "cd",
        "state": {"self_test": "passed"},
        "requested": {"views": "cover"},
    }
    assert json.loads(json.dumps(payload, allow_nan=False)) == payload


def test_a_score_that_was_not_evaluated_is_null_and_never_zero() -> None:
    payload = Verdict(ERROR, "broken").to_dict()
    assert list(payload) == KEYS
    unset = {"category", "severity", "score", "threshold", "view", "digest"}
    assert {key for key, value in payload.items() if value is None} == unset
    assert (payload["evaluated"], payload["scores"], payload["regions"], payload["flags"]) == (False, [], [], [])
    assert SCHEMA == payload["schema"] == 2


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_become_text(odd: float) -> None:
    scores = Scores.single({"red": {HIGH: odd}}, regions=(Region(0, 0, 1, 1, "red", odd),))
    payload = Verdict(ERROR, "", score=odd, threshold=odd, scores=scores).to_dict()
    assert payload["score"] == payload["threshold"] == str(odd)
    assert payload["scores"][0]["levels"]["red"]["high"] == str(odd)
    assert payload["regions"][0]["score"] == str(odd)
    json.dumps(payload, allow_nan=False)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))], ids=["deepcopy", "pickle"])  # noqa: S301
def test_a_verdict_survives_a_copy(again: Any) -> None:
    copied = again(FULL)
    assert copied == FULL
    assert copied.to_dict() == FULL.to_dict()


def test_a_verdict_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.outcome = ALLOW  # type: ignore[misc]


def test_a_verdict_copies_what_it_is_given() -> None:
    state, requested = {"self_test": "failed"}, {"model": "tiny"}
    verdict = Verdict(ALLOW, "", state=state, requested=requested)
    state["self_test"], requested["model"] = "passed", "other"
    assert (verdict.state, verdict.requested) == ({"self_test": "failed"}, {"model": "tiny"})
    for mapping in (verdict.state, verdict.requested):
        with pytest.raises(TypeError, match="is immutable"):
            mapping["model"] = "other"  # type: ignore[index]


def test_a_missing_digest_is_null_not_text() -> None:
    assert Verdict(ALLOW, "", scores=GOOD).to_dict()["digest"] is None


def test_changing_the_dict_does_not_change_the_verdict() -> None:
    payload = FULL.to_dict()
    payload["state"]["self_test"] = "failed"
    payload["regions"][0]["left"] = 1
    payload["scores"][0]["levels"]["red"]["low"] = 0.0
    assert list(FULL.to_dict()["state"].values()) == ["passed"]
    assert FULL.to_dict()["regions"][0]["left"] == 0
    assert FULL.to_dict()["scores"][0]["levels"] == {"red": {"low": 0.75}}


def test_a_verdict_prints_as_one_line() -> None:
    assert (
        str(Verdict(Outcome.BLOCK, "red-disc 0.994 >= 0.5\n(whole view)"))
        == "BLOCK: red-disc 0.994 >= 0.5 (whole view)"
    )
