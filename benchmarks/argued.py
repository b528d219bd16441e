"""Faults that no test can notice, each with the reason why: the module behaves the same with them."""

from __future__ import annotations

_NOT_MISSING = "decide has returned an ERROR by then where a score is missing, so it is a number: 0.0 stands for 0.0"
_ASKED_AGAIN = "decide asks for missing scores itself, before it looks at any outcome"

EQUIVALENT: dict[str, str] = {
    "policy.Policy.decide: f.score or 0.0 -> f.score": _NOT_MISSING,
    "policy._findings: Outcome.ERROR -> Outcome.ALLOW": _ASKED_AGAIN,
    "policy._findings: Outcome.ERROR -> Outcome.REVIEW": _ASKED_AGAIN,
    "policy._findings: Outcome.ERROR -> Outcome.BLOCK": _ASKED_AGAIN,
    "scores.Scores.worst: p <= into[level] -> p < into[level]": "of two equal numbers either may stay",
    "scores.plain: type(value) is float -> False": "a short cut: the way below gives the same float",
}
