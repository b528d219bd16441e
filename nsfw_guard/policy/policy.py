"""The policy: rules per category, read from TOML, that turn scores into a verdict. Pure Python, no torch.

A threshold may be a number, or the name of one in the model's record ("default", "strict", "lenient"), since
thresholds depend on the model: the same 0.5 is strict for one and lenient for another. `bind` turns names into numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

from nsfw_guard.errors import PolicyError, suggest
from nsfw_guard.policy.clips import ClipRule
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
        """The level that the model itself calls positive, per category. "*" applies to these categories."""
        ...

    @property
    def thresholds(self) -> Mapping[str, Threshold]:
        """The thresholds of the model's record, by name."""
        ...

    @property
    def required(self) -> tuple[str, ...]:
        """The categories that every policy must judge."""
        ...

    @property
    def band(self) -> tuple[float, float] | None:
        """The scores for which a second model is asked. Every threshold must lie among them."""
        ...


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Rules by category; "*" is the rule for every category of the model without a rule of its own.

    `clips` is the rule by which the frames of a clip decide on it: by default one flagged frame is enough.

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
    clips: ClipRule = field(default_factory=ClipRule)

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
        clips = ClipRule(**table["clips"])
        return cls(rules=rules, name=table["name"], description=table["description"], prompts=prompts, clips=clips)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the rules, independent of the policy's name and of how the file is written."""
        content = self.to_dict()
        beside = {key: content[key] for key in ("prompts", "clips") if key in content}
        says: Any = {"rules": content["rules"], **beside} if beside else content["rules"]
        return hashlib.sha256(json.dumps(says, sort_keys=True).encode()).hexdigest()

    @property
    def blocks(self) -> bool:
        """True when some score blocks; else images are at most marked for review."""
        return any(rule.block is not None for rule in self.rules.values())

    @property
    def reviews_only(self) -> tuple[str, ...]:
        """The categories that no score blocks: their images are released, marked for review."""
        return tuple(sorted(c for c, rule in self.rules.items() if rule.block is None))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values that `Policy.load` reads."""
        rules = {category: rule.to_dict() for category, rule in sorted(self.rules.items())}
        content = {"name": self.name, "description": self.description, "rules": rules}
        prompts = {"prompts": self.prompts.to_dict()} if self.prompts else {}
        clips = {"clips": self.clips.to_dict()} if self.clips != ClipRule() else {}
        return {**content, **prompts, **clips}

    def bind(self, model: ScoredModel) -> Policy:
        """Return this policy with names of thresholds replaced by a model's numbers.

        Args:
            model: the record of the model.

        Raises:
            PolicyError: the policy does not fit the model.

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
        for category in model.required:
            if category not in wanted:
                raise PolicyError(
                    f"policy {self.name!r} does not judge {category!r}, so it would have no effect: add the table "
                    f'[rules.{category}] with block = 0.5, or a rule for "*"'
                )
        fitted = {
            c: _fit_rule(c, rule, levels[c], positive.get(c, levels[c][0]), model.thresholds)
            for c, rule in wanted.items()
        }
        if band is not None:
            for category, rule in fitted.items():
                _within(band, category, rule)
        return replace(self, rules=fitted)

    def decide(self, scores: Scores) -> Verdict:
        """Return the verdict on one frame's scores: `score >= threshold` is flagged, a score that is NaN an ERROR."""
        signed = partial(Verdict, scores=scores, policy=self.name, policy_hash=self.hash)
        if scores.fault or not scores.finite:
            return signed(
                Outcome.ERROR, scores.fault or "not evaluated: the model returned NaN or a value outside [0, 1]"
            )
        findings = [finding for category, rule in self.rules.items() for finding in _findings(category, rule, scores)]
        missing = [f.category for f in findings if f.score is None]
        if missing:
            return signed(Outcome.ERROR, f"not evaluated: the model gave no score for {', '.join(missing)}")
        worst = max(findings, key=lambda f: (f.outcome, (f.score or 0.0) - f.threshold))
        return signed(
            worst.outcome,
            worst.reason + ("; one flat colour" if scores.blank else "") + (f"; {scores.note}" if scores.note else ""),
            category=worst.category,
            severity=worst.severity,
            score=worst.score,
            threshold=worst.threshold,
            view=worst.view,
            flags=tuple(sorted({f.category for f in findings if f.outcome is not Outcome.ALLOW})),
        )


@dataclass(frozen=True)
class _Finding:
    """The result of one rule for one view."""

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
    """The results of a bound rule for each view."""
    severity = rule.severity or Severity.HIGH
    for view in scores.views:
        score = view.levels.get(category, {}).get(severity)
        block, review = rule.views.get(view.view.kind, rule.block), rule.review
        outcome, threshold = Outcome.ALLOW, _number(block if block is not None else review)
        if score is None:
            outcome = Outcome.ERROR
        # `not <` instead of `>=`, so that a NaN would be blocked.
        elif block is not None and not score < _number(block):
            outcome = Outcome.BLOCK
        elif review is not None and not score < _number(review):
            outcome, threshold = Outcome.REVIEW, _number(review)
        yield _Finding(category, severity, score, threshold, view.view.kind, outcome)


def _number(threshold: float | str | None) -> float:
    if threshold is None or isinstance(threshold, str):
        raise PolicyError("this policy is not bound to a model: call policy.bind first")
    return threshold


def _within(band: tuple[float, float], category: str, rule: Rule) -> None:
    """Refuse a rule that blocks where the second model is not asked."""
    low, high = band
    for threshold in (rule.block, *rule.views.values()):
        if threshold is not None and not low <= _number(threshold) <= high:
            raise PolicyError(
                f"{category!r} is blocked from {threshold:g}, but the second model is asked only from {low:.3g} to "
                f"{high:.3g}: widen the band, or move the threshold into it"
            )


def _fit_rule(
    category: str, rule: Rule, levels: tuple[Severity, ...], positive: Severity, thresholds: Mapping[str, Threshold]
) -> Rule:
    severity = rule.severity or positive
    if severity not in levels:
        has = ", ".join(level.name.lower() for level in levels)
        raise PolicyError(
            f"the model has only the severity {has} for {category!r}, not {severity.name.lower()}: change the rule"
        )
    for name in (rule.block, rule.review):
        if isinstance(name, str) and name not in thresholds:
            raise PolicyError(
                f"the model's record has no threshold {name!r} for {category!r}: use a number, or calibrate the model"
            )
    block = thresholds[rule.block].block_of(category) if isinstance(rule.block, str) else rule.block
    review = thresholds[rule.review].review_of(category) if isinstance(rule.review, str) else rule.review
    named = thresholds[rule.block].views if isinstance(rule.block, str) else {}
    if review is not None and block is not None and review > block:
        raise PolicyError(f"{category!r}: review {review} must not be above block {block}: lower review")
    return Rule(block=block, review=review, severity=severity, views={**named, **rule.views})
