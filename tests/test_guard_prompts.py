"""Prompts are judged before anything is drawn, and never repeated."""

from __future__ import annotations

import json
import logging

import pytest
import torch

from nsfw_guard.errors import AuditError
from nsfw_guard.guard import Guard
from nsfw_guard.listeners.audit import Audit, verify
from nsfw_guard.policy.policy import Policy
from nsfw_guard.policy.prompts import PromptRules
from nsfw_guard.policy.rules import Rule
from nsfw_guard.testing import FakeBackend
from nsfw_guard.verdict import Outcome

POLICY = Policy(rules={"*": Rule(block="default")}, prompts=PromptRules(words=("dragon",)))
ALLOW, BLOCK, ERROR = Outcome.ALLOW, Outcome.BLOCK, Outcome.ERROR


def guard(**settings) -> Guard:
    return Guard(FakeBackend(), policy=POLICY, **settings)


@pytest.mark.parametrize("prompt", [None, 3, b"a castle", ["a castle"], object()])
def test_a_prompt_that_is_not_text_is_an_error(prompt) -> None:
    (verdict,) = guard().check_prompts([prompt])
    assert verdict.outcome is ERROR
    assert verdict.reason == f"a prompt must be a str, got {type(prompt).__name__}"
    if not isinstance(prompt, list):
        assert guard().check_prompts(prompt) == [verdict]


def test_a_search_that_breaks_is_an_error_and_says_nothing_of_the_prompt(monkeypatch, caplog) -> None:
    def broken(self, text):
        raise RuntimeError(text)

    monkeypatch.setattr(PromptRules, "find", broken)
    verdicts = guard().check_prompts(["a secret castle", "another"])
    assert [v.outcome for v in verdicts] == [ERROR, ERROR]
    assert verdicts[0].reason == "the prompt could not be checked: RuntimeError"
    assert "secret" not in caplog.text


def test_a_listener_that_fails_holds_all_back(caplog) -> None:
    def full(verdicts):
        raise AuditError("the disk is full")

    verdicts = guard(listeners=[full]).check_prompts(["a castle", "a dragon"])
    assert [v.outcome for v in verdicts] == [ERROR, ERROR]
    assert "held back" in caplog.text


def test_each_prompt_has_a_signed_verdict() -> None:
    prompt_guard = guard()
    allowed, blocked = prompt_guard.check_prompts(["a castle", "a dr4gon over the sea"])
    assert (allowed.outcome, allowed.reason) == (ALLOW, "prompt: no rule of the policy matches")
    assert (blocked.outcome, blocked.reason, blocked.flags) == (BLOCK, "prompt: word 'dragon'", ("prompt",))
    for verdict in (allowed, blocked):
        assert (verdict.category, verdict.scores, verdict.score) == ("prompt", None, None)
        assert (verdict.model, verdict.policy, verdict.policy_hash) == ("red", "policy", prompt_guard.policy.hash)
        assert verdict.state["self_test"] == "passed"
        assert verdict.to_dict()["evaluated"] is False
    assert "sea" not in json.dumps(blocked.to_dict())


def test_one_text_is_one_prompt_and_an_empty_list_is_none() -> None:
    assert [v.outcome for v in guard().check_prompts("a dragon")] == [BLOCK]
    assert guard().check_prompts([]) == []
    assert [v.outcome for v in guard().check_prompts(("a castle", "dragon"))] == [ALLOW, BLOCK]


def test_a_policy_without_prompt_rules_says_so() -> None:
    (verdict,) = Guard(FakeBackend()).check_prompts("a dragon")
    assert (verdict.outcome, verdict.reason) == (ALLOW, "prompt: no rule of the policy matches")


def test_the_log_has_what_was_held_back_and_the_tally_has_images_only(tmp_path) -> None:
    prompt_guard = guard(listeners=[Audit(tmp_path / "log.jsonl")])
    prompt_guard.check_prompts(["a castle", "a dragon at noon", "a lake"])
    prompt_guard.check(torch.zeros(1, 3, 8, 8))
    first, second = (json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())
    assert (first["outcome"], first["reason"], first["category"], first["image"]) == (
        "block", "prompt: word 'dragon'", "prompt", None
    )  # fmt: skip
    assert second["outcome"] == "allow"
    assert "noon" not in (tmp_path / "log.jsonl").read_text()
    assert verify(tmp_path / "log.jsonl").ok
    assert sum(prompt_guard.counter.counts.values()) == 1


def test_prompts_are_not_logged(caplog) -> None:
    caplog.set_level(logging.DEBUG)
    guard().check_prompts(["a dragon at noon", 3])
    assert "noon" not in caplog.text


def test_a_saved_guard_keeps_its_prompt_rules(tiny, tmp_path) -> None:
    Guard.from_pretrained(tiny, policy=POLICY).save_pretrained(tmp_path / "saved")
    again = Guard.from_pretrained(tmp_path / "saved")
    assert again.policy.prompts == POLICY.prompts
    assert again.check_prompts("a dragon")[0].outcome is BLOCK
