"""Policies, and scores to decide."""

from __future__ import annotations

from typing import Any

from nsfw_guard.policy.policy import Policy
from nsfw_guard.policy.rules import Rule
from nsfw_guard.scores import Scores, Severity, View, ViewScores
from nsfw_guard.verdict import Outcome

ALLOW, REVIEW, BLOCK, ERROR = Outcome
LOW, MEDIUM, HIGH = Severity


def policy_of(**rules: Rule) -> Policy:
    """A policy by keyword; `every` is "*"."""
    return Policy(rules={"*" if name == "every" else name: rule for name, rule in rules.items()})


def red(*views: tuple[str, float], **rest: Any) -> Scores:
    return Scores(tuple(ViewScores(View(kind), {"red": {HIGH: p}}) for kind, p in views), **rest)
