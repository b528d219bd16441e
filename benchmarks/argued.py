"""Faults that no test can notice, each with the reason why: the module behaves the same with them."""

from __future__ import annotations

_NOT_MISSING = "decide has returned an ERROR by then where a score is missing, so it is a number: 0.0 stands for 0.0"
_ASKED_AGAIN = "decide asks for missing scores itself, before it looks at any outcome"
_ONE = "a batch of one: its first picture is its last"
_NOT_LESS = "a side is never shorter than the short side, and strength is at most 1: 1 or more before `max` sees it"
_WHOLE = "the shares of equal spans add up to 1 but for rounding"
_TWELVE = "a side is never shorter than the short side, so this is 12 or more before `max` sees it"

EQUIVALENT: dict[str, str] = {
    "policy.Policy.decide: f.score or 0.0 -> f.score": _NOT_MISSING,
    "policy._findings: Outcome.ERROR -> Outcome.ALLOW": _ASKED_AGAIN,
    "policy._findings: Outcome.ERROR -> Outcome.REVIEW": _ASKED_AGAIN,
    "policy._findings: Outcome.ERROR -> Outcome.BLOCK": _ASKED_AGAIN,
    "scores.Scores.worst: p <= into[level] -> p < into[level]": "of two equal numbers either may stay",
    "scores.plain: type(value) is float -> False": "a short cut: the way below gives the same float",
    "actions._Averaging.colours: 1 -> 0 (2)": _NOT_LESS,
    "actions.Blur.cover: 0 -> -1": _ONE,
    "actions.Pixelate.cover: 0 -> -1": _ONE,
    "actions.Pixelate.cover: 1 -> 2 (2)": _TWELVE,
    "actions.Pixelate.cover: 1 -> 0 (2)": _TWELVE,
    "actions._shares: covered / covered.sum(1, keepdim=True) -> covered * covered.sum(1, keepdim=True)": _WHOLE,
}
