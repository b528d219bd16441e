"""The frames of a clip decide on it: the worst of them, or k within n neighbours; errors and doubt never relax."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsfw_guard.backends.catalog.classifiers import MARQO
from nsfw_guard.errors import PolicyError
from nsfw_guard.policy.clips import ClipRule, decide_clip
from nsfw_guard.policy.policy import Policy
from nsfw_guard.policy.prompts import PromptRules
from nsfw_guard.policy.rules import Rule
from nsfw_guard.relaxed import loose_policy
from nsfw_guard.scores import Scores, Severity
from nsfw_guard.verdict import Outcome, Verdict, worst

ALLOW, REVIEW, BLOCK, ERROR = Outcome
RULES = {"red": Rule(block=0.5)}
OF = {"a": ALLOW, "r": REVIEW, "b": BLOCK, "e": ERROR}
SCORE = {"a": 0.1, "r": 0.4, "b": 0.9, "e": 0.0}


def verdicts(text: str) -> list[Verdict]:
    """One verdict for each letter: allow, review, block, error."""
    return [
        Verdict(
            OF[c], f"frame {i}", category="red", score=SCORE[c], threshold=0.5, flags=("red",) if c in "rb" else (),
            scores=Scores.single({"red": {Severity.HIGH: SCORE[c]}}), state={"self_test": "passed"},
        )
        for i, c in enumerate(text)
    ]  # fmt: skip


def settled(rule: ClipRule, text: str) -> str:
    letters = {outcome: letter for letter, outcome in OF.items()}
    return "".join(letters[verdict.outcome] for verdict in rule.settle(verdicts(text)))


def rule_of(k: int, n: int) -> ClipRule:
    return ClipRule(rule="k-of-n", k=k, n=n)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "wurst"}, "unknown rule 'wurst': did you mean 'worst'?"),
        ({"rule": None}, "unknown rule None"),
        ({"rule": "k-of-n"}, "k must be a whole number from 1 to 1000, got None"),
        ({"rule": "k-of-n", "k": 2}, "n must be a whole number from 1 to 1000, got None"),
        ({"rule": "k-of-n", "k": 0, "n": 3}, "k must be a whole number from 1"),
        ({"rule": "k-of-n", "k": 1.0, "n": 3}, "k must be a whole number"),
        ({"rule": "k-of-n", "k": True, "n": 3}, "k must be a whole number"),
        ({"rule": "k-of-n", "k": 2, "n": 1001}, "n must be a whole number"),
        ({"rule": "k-of-n", "k": 4, "n": 3}, "k = 4 is above n = 3, so that nothing is flagged: lower k"),
        ({"k": 2, "n": 3}, 'k and n belong to the rule "k-of-n"'),
    ],
)
def test_a_senseless_rule_is_refused(settings: Any, message: str) -> None:
    with pytest.raises(PolicyError, match=r"^clips: ") as caught:
        ClipRule(**settings)
    assert message in str(caught.value)


def test_a_clip_without_verdicts_is_an_error() -> None:
    assert decide_clip(ClipRule(), []).outcome is ERROR
    assert decide_clip(rule_of(2, 3), [], partial="only every 5. frame").outcome is ERROR


@pytest.mark.parametrize("rule", [ClipRule(), rule_of(1, 1), rule_of(1, 5), rule_of(3, 5)], ids=str)
@pytest.mark.parametrize("text", ["e", "aaeaaaa", "bbbbbbe", "eaaaaaaaaaa"])
def test_an_error_of_any_frame_is_one_of_the_clip(rule: ClipRule, text: str) -> None:
    assert decide_clip(rule, verdicts(text)).outcome is ERROR


@pytest.mark.parametrize(
    ("k", "n", "before", "after"),
    [
        (2, 3, "aabaaaa", "aaaaaaa"),
        (2, 3, "aabbaaa", "aabbaaa"),
        (2, 3, "ababaaa", "ababaaa"),
        (2, 3, "abaabaa", "aaaaaaa"),
        (3, 3, "aabbaaa", "aaaaaaa"),
        (3, 5, "babab", "babab"),
        (3, 5, "baaabbaaab", "aaaaaaaaaa"),
        (2, 3, "baaaaab", "aaaaaaa"),
        (2, 2, "bbaaabb", "bbaaabb"),
        (2, 3, "aaraaaa", "aaaaaaa"),
        (2, 3, "aarraaa", "aarraaa"),
        (2, 3, "aarbaaa", "aarraaa"),  # a blocked frame is under review, too
        (2, 3, "rrrrrbr", "rrrrrrr"),
        (2, 3, "abebaaa", "abebaaa"),  # a frame that could not be judged counts as flagged
        (2, 3, "abeaaaa", "abeaaaa"),
        (1, 5, "aabaara", "aabaara"),
    ],
)
def test_a_frame_counts_where_enough_of_its_neighbours_do(k: int, n: int, before: str, after: str) -> None:
    assert settled(rule_of(k, n), before) == after


@pytest.mark.parametrize("text", ["b", "ab", "ba", "abaa"])
def test_a_clip_shorter_than_the_neighbours_is_judged_by_its_worst_frame(text: str) -> None:
    assert settled(rule_of(3, 5), text) == text
    assert decide_clip(rule_of(3, 5), verdicts(text)).outcome is BLOCK


@pytest.mark.parametrize(("text", "outcome"), [("aaaaaaaaaa", REVIEW), ("aaaabaaaaa", BLOCK), ("aaaaraaaaa", REVIEW)])
def test_frames_that_were_not_looked_at_are_never_counted_as_allowed(text: str, outcome: Outcome) -> None:
    verdict = decide_clip(rule_of(3, 5), verdicts(text), partial="only every 5. frame")
    assert verdict.outcome is outcome
    assert decide_clip(rule_of(3, 5), verdicts(text)).outcome is ALLOW
    assert verdict.reason == {"aaaaaaaaaa": "only every 5. frame was looked at"}.get(text, "frame 4")


def test_the_verdict_on_a_clip_names_all_that_was_flagged_in_it() -> None:
    verdict = decide_clip(rule_of(2, 3), verdicts("aabaaaa"))
    assert (verdict.outcome, verdict.flags) == (ALLOW, ("red",))
    assert rule_of(2, 3).settle(verdicts("aabaaaa"))[2].reason == "fewer than 2 of 3 neighbouring frames: frame 2"


def test_worst_is_what_it_always_was() -> None:
    frames = verdicts("arbarb")
    assert ClipRule().settle(frames) == frames
    assert all(a is b for a, b in zip(ClipRule().settle(frames), frames, strict=True))
    assert decide_clip(ClipRule(), frames) == worst(frames)


@given(st.text("arbe", max_size=40), st.integers(1, 6), st.integers(0, 5))
def test_properties(text: str, k: int, more: int) -> None:
    rule = rule_of(k, k + more)
    once = settled(rule, text)
    assert settled(rule, once) == once
    assert all(OF[after] <= OF[before] for before, after in zip(text, once, strict=True))
    if text:
        decided = decide_clip(rule, verdicts(text)).outcome
        assert decided <= worst(verdicts(text)).outcome
        assert (decided is ERROR) == ("e" in text)
        assert decided == max(OF[letter] for letter in once)
        if k > 1:  # a stricter rule flags no less
            assert decide_clip(rule_of(k - 1, k + more), verdicts(text)).outcome >= decided


@given(st.text("arb", min_size=1, max_size=30), st.integers(0, 29), st.integers(1, 4), st.integers(0, 4))
def test_a_worse_frame_never_makes_a_better_clip(text: str, place: int, k: int, more: int) -> None:
    place %= len(text)
    worse = text[:place] + {"a": "r", "r": "b", "b": "b"}[text[place]] + text[place + 1 :]
    rule = rule_of(k, k + more)
    assert decide_clip(rule, verdicts(worse)).outcome >= decide_clip(rule, verdicts(text)).outcome


# As a part of a policy.


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ({"rul": "worst"}, "unknown key 'rul' in clips: did you mean 'rule'?"),
        ({"rule": "k-of-m", "k": 1, "n": 2}, "clips: unknown rule 'k-of-m': did you mean 'k-of-n'?"),
        ({"k": 2, "n": 3}, 'k and n belong to the rule "k-of-n"'),
        ("k-of-n", "clips must be a table"),
        ([], "clips must be a table"),
    ],
)
def test_a_misspelt_table_is_refused_with_the_cure(clips: Any, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.load({"rules": {"red": {"block": 0.5}}, "clips": clips})
    assert message in str(caught.value)


def test_a_policy_reads_writes_and_hashes_its_rule_for_clips() -> None:
    bare = Policy(rules=RULES)
    relaxed = Policy(rules=RULES, clips=rule_of(3, 5))
    assert "clips" not in bare.to_dict()
    assert relaxed.to_dict()["clips"] == {"rule": "k-of-n", "k": 3, "n": 5}
    assert Policy.load(relaxed.to_dict()) == relaxed
    assert Policy.load({"rules": {"red": {"block": 0.5}}, "clips": {"rule": "worst"}}) == Policy(rules=RULES)
    hashes = {bare.hash, relaxed.hash, Policy(rules=RULES, clips=rule_of(3, 6)).hash}
    words = PromptRules(words=("dragon",))
    hashes |= {Policy(rules=RULES, prompts=words).hash, Policy(rules=RULES, prompts=words, clips=rule_of(3, 5)).hash}
    assert len(hashes) == 5
    assert Policy(rules=RULES, clips=ClipRule(rule="worst")).hash == bare.hash


def test_fitting_keeps_the_rule_for_clips() -> None:
    assert Policy(rules={"*": Rule(block="default")}, clips=rule_of(2, 4)).bind(MARQO).clips == rule_of(2, 4)


@pytest.mark.parametrize(
    ("child", "expected"),
    [
        ("", rule_of(3, 5)),
        ("[clips]\nk = 2", rule_of(2, 5)),
        ("[clips]\nrule = 'k-of-n'\nn = 9", rule_of(3, 9)),
        ("[clips]\nrule = 'worst'", ClipRule()),
    ],
)
def test_a_policy_inherits_the_rule_that_it_extends(tmp_path, child: str, expected: ClipRule) -> None:
    (tmp_path / "base.toml").write_text("[rules.red]\nblock = 0.5\n[clips]\nrule = 'k-of-n'\nk = 3\nn = 5\n")
    (tmp_path / "child.toml").write_text(f"extends = './base.toml'\n{child}\n")
    (tmp_path / "grandchild.toml").write_text("extends = './child.toml'\n")
    assert Policy.load(tmp_path / "child.toml").clips == expected
    assert Policy.load(tmp_path / "grandchild.toml").clips == expected


def test_a_folder_may_not_bring_a_rule_that_lets_frames_pass() -> None:
    strict, positives = Policy(rules=RULES), {"red": Severity.HIGH}
    assert loose_policy(strict, positives) == []
    assert loose_policy(Policy(rules=RULES, clips=rule_of(1, 5)), positives) == []
    assert loose_policy(Policy(rules=RULES, clips=rule_of(2, 5)), positives) == [
        "a clip is flagged by 2 flagged frames among 5 neighbouring ones, not by one"
    ]
