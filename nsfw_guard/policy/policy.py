"""What is decided of the scores: rules a category, read from TOML. Pure Python, no torch.

A threshold may be a number, or the name of one in the model's record ("default", "strict", "lenient"), since it
belongs to a model: the same 0.5 is strict for one and lenient for the next. `fit` turns names into numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

from nsfw_guard.errors import PolicyError, suggest
from nsfw_guard.policy.prompts import PromptRules
from nsfw_guard.policy.rules import EVERY, Rule, Threshold
from nsfw_guard.policy.toml import policy_table
from nsfw_guard.scores import Scores, Severity
from nsfw_guard.verdict import Outcome, Verdict


class ScoredModel(Protocol):
    """What a policy asks of a model's record."""

    @property
    def levels(self) -> Mapping[str, tuple[Severity, ...]]:
        """The categories that the model scores, each with its levels."""
        ...

    @property
    def positives(self) -> Mapping[str, Severity]:
        """Per category the level that the model itself calls positive. "*" means these categories."""
        ...

    @property
    def thresholds(self) -> Mapping[str, Threshold]:
        """The thresholds of the model's record, by name."""
        ...

    @property
    def band(self) -> tuple[float, float] | None:
        """Where a second model is asked, if one is: every threshold must lie in it, or the second changes nothing."""
        ...


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Rules by category; "*" stands for every category that the model scores and no other rule names.

    Example:
        ```python
        policy = Policy.load("strict")
        policy = Policy(rules={"*": Rule(block="default"), "red-disc": Rule(block=0.7, review=0.4)}, name="mine")
        ```
    """

    rules: Mapping[str, Rule]
    name: str = "policy"
    description: str = ""
    prompts: PromptRules | None = None

    def __post_init__(self) -> None:
        if not self.rules:
            raise PolicyError('a policy without rules allows everything: add a rule, or "*" for every category')

    @classmethod
    def load(cls, source: Policy | str | Path | Mapping[str, Any]) -> Policy:
        """Return a policy from a preset's name, a TOML file, or a mapping of the same shape."""
        if isinstance(source, Policy):
            return source
        table = policy_table(source)
        rules = {category: Rule(**rule) for category, rule in table["rules"].items()}
        prompts = PromptRules(**table["prompts"]) if table["prompts"] is not None else None
        return cls(rules=rules, name=table["name"], description=table["description"], prompts=prompts)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of what the policy says, whatever it is called and however it was written."""
        content = self.to_dict()
        says = {"rules": content["rules"], "prompts": content["prompts"]} if self.prompts else content["rules"]
        return hashlib.sha256(json.dumps(says, sort_keys=True).encode()).hexdigest()

    @property
    def blocks(self) -> bool:
        """Whether there is a score that blocks; else pictures are marked for review at most."""
        return any(rule.block is not None for rule in self.rules.values())

    @property
    def reviews_only(self) -> tuple[str, ...]:
        """The categories that no score blocks, whatever it is: pictures of them are released, with a mark."""
        return tuple(sorted(c for c, rule in self.rules.items() if rule.block is None))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values, which `Policy.load` takes."""
        rules = {category: rule.to_dict() for category, rule in sorted(self.rules.items())}
        content = {"name": self.name, "description": self.description, "rules": rules}
        return {**content, "prompts": self.prompts.to_dict()} if self.prompts else content

    def bind(self, model: ScoredModel) -> Policy:
        """Return this policy with names turned into numbers for one model, or an error that says what does not fit.

        Args:
            model: the record of the model.

        Example:
            ```python
            policy = Policy.load("strict").bind(load_model("demo-shapes").spec)
            ```
        """
        levels, positive, band = model.levels, model.positives, model.band
        wanted = dict(self.rules)
        every = wanted.pop(EVERY, None)
        for category in wanted:
            if category not in levels:
                raise PolicyError(
                    f"policy {self.name!r} judges {category!r}, which the model does not score: "
                    f"{suggest(category, levels)}"
                )
        if every is not None:
            wanted = {**dict.fromkeys(positive, every), **wanted}
        fitted = {
            c: _fit_rule(c, rule, levels[c], positive.get(c, levels[c][0]), model.thresholds)
            for c, rule in wanted.items()
        }
        if band is not None:
            for category, rule in fitted.items():
                _within(band, category, rule)
        return replace(self, rules=fitted)

    def decide(self, scores: Scores) -> Verdict:
        """Return the verdict on one frame's scores. The direction is `score >= threshold`; whatever is no number is an
        ERROR.
        """
        signed = partial(Verdict, scores=scores, policy=self.name, policy_hash=self.hash)
        if scores.fault or not scores.finite:
            return signed(Outcome.ERROR, scores.fault or "the model's answer is no probability (NaN or out of range)")
        findings = [finding for category, rule in self.rules.items() for finding in _findings(category, rule, scores)]
        missing = [f.category for f in findings if f.score is None]
        if missing:
            return signed(Outcome.ERROR, f"not evaluated: the model gave no score for {', '.join(missing)}")
        worst = max(findings, key=lambda f: (f.outcome, (f.score or 0.0) - f.threshold))
        return signed(
            worst.outcome,
            worst.reason + ("; one flat colour" if scores.blank else ""),
            category=worst.category,
            severity=worst.severity,
            score=worst.score,
            threshold=worst.threshold,
            view=worst.view,
            flags=tuple(sorted({f.category for f in findings if f.outcome is not Outcome.ALLOW})),
        )


@dataclass(frozen=True)
class _Finding:
    """What one rule says of one view."""

    category: str
    severity: Severity
    score: float | None
    threshold: float
    view: str
    outcome: Outcome

    @property
    def reason(self) -> str:
        sign = "<" if self.outcome is Outcome.ALLOW else ">="
        return f"{self.category} {self.score:.3f} {sign} {self.threshold:g} ({self.view} view)"


def _findings(category: str, rule: Rule, scores: Scores) -> Iterator[_Finding]:
    """What a fitted rule says of each view."""
    severity = rule.severity or Severity.HIGH
    for view in scores.views:
        score = view.levels.get(category, {}).get(severity)
        block, review = rule.views.get(view.view.kind, rule.block), rule.review
        outcome, threshold = Outcome.ALLOW, _number(block if block is not None else review)
        if score is None:
            outcome = Outcome.ERROR
        # `not <` and never `>=`: a NaN that came this far is blocked.
        elif block is not None and not score < _number(block):
            outcome = Outcome.BLOCK
        elif review is not None and not score < _number(review):
            outcome, threshold = Outcome.REVIEW, _number(review)
        yield _Finding(category, severity, score, threshold, view.view.kind, outcome)


def _number(threshold: float | str | None) -> float:
    if threshold is None or isinstance(threshold, str):
        raise PolicyError("this policy is not fitted to a model: call policy.fit first")
    return threshold


def _within(band: tuple[float, float], category: str, rule: Rule) -> None:
    """Refuses a rule that blocks where no second model is asked."""
    low, high = band
    for threshold in (rule.block, *rule.views.values()):
        if threshold is not None and not low <= _number(threshold) <= high:
            raise PolicyError(
                f"{category!r} is blocked from {threshold:g}, and a second model is asked from {low:.3g} to {high:.3g} "
                "only: widen the band, or block within it"
            )


def _fit_rule(
    category: str, rule: Rule, levels: tuple[Severity, ...], positive: Severity, thresholds: Mapping[str, Threshold]
) -> Rule:
    severity = rule.severity or positive
    if severity not in levels:
        has = ", ".join(level.name.lower() for level in levels)
        raise PolicyError(f"the model grades {category!r} as {has} only, not {severity.name.lower()}")
    for name in (rule.block, rule.review):
        if isinstance(name, str) and name not in thresholds:
            raise PolicyError(
                f"the model's record has no threshold {name!r} for {category!r}: give a number, or calibrate"
            )
    block = thresholds[rule.block].block if isinstance(rule.block, str) else rule.block
    review = thresholds[rule.review].review if isinstance(rule.review, str) else rule.review
    named = thresholds[rule.block].views if isinstance(rule.block, str) else {}
    if review is not None and block is not None and review > block:
        raise PolicyError(f"{category!r}: review {review} lies above block {block}: review from a lower score on")
    return Rule(block=block, review=review, severity=severity, views={**named, **rule.views})
