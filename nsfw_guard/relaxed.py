"""What a folder may not do to its own guard in silence: let a score of 0.99 pass.

Whoever hands out a model may be careless, or mean it. What the caller says stands above all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError
from nsfw_guard.policy.policy import Policy
from nsfw_guard.policy.rules import Rule, Threshold
from nsfw_guard.scores import Severity

FIRM = 0.99  # a model that is this sure is believed, whatever its folder says


def refuse(relaxed: Iterable[str], name: str) -> None:
    """Raises when a folder relaxes anything."""
    if said := "; ".join(relaxed):
        raise ConfigError(
            f"the folder {name!r} relaxes its own guard: {said}. Say yourself what you want (policy=, action=, "
            "calibration=, labels=), mend the folder, or take its word with trust_guard=True"
        )


def loose_thresholds(thresholds: Mapping[str, Threshold]) -> list[str]:
    """Return the thresholds that hardly any score reaches."""
    return [
        f"the threshold {name!r} is {highest:g}"
        for name, threshold in thresholds.items()
        if not (highest := max([threshold.block, *threshold.views.values()])) < FIRM
    ]


def loose_policy(policy: Policy, positives: Mapping[str, Severity]) -> list[str]:
    """Return what a fitted policy leaves open that the preset "default" would block.

    Args:
        policy: the policy, fitted to the model.
        positives: per category that "default" judges the level that the model calls positive.
    """
    return [
        f"{category!r} is {why}"
        for category, severity in positives.items()
        if (why := _loose_rule(policy.rules.get(category), severity))
    ]


def loose_calibration(policy: Policy, calibration: Calibration) -> list[str]:
    """Return the categories in which a score that was blocked for being 0.99 no longer is."""
    loose = []
    for category, rule in policy.rules.items():
        threshold, becomes = _highest(rule), calibration.moved(category, FIRM)
        if threshold is not None and threshold < FIRM and not becomes > threshold:
            loose.append(
                f"the calibration makes {becomes:.3g} of a {category!r} of {FIRM}, below the threshold of {threshold:g}"
            )
    return loose


def _loose_rule(rule: Rule | None, severity: Severity) -> str:
    threshold = _highest(rule)
    if rule is None or threshold is None:
        return "never blocked"
    if rule.severity is not None and rule.severity > severity:
        return f"blocked from severity {rule.severity.name.lower()} on, not from {severity.name.lower()}"
    return "" if threshold < FIRM else f"blocked from {threshold:g} on"


def _highest(rule: Rule | None) -> float | None:
    """The highest block threshold of a fitted rule, over all kinds of view."""
    if rule is None or rule.block is None:
        return None
    return max(float(rule.block), *rule.views.values(), 0.0)
