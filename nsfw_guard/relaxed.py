"""Finds settings of a model folder that would let a score of 0.99 pass; they are refused unless the caller agrees.

The author of a folder may be careless or malicious. Settings of the caller always take precedence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError
from nsfw_guard.policy.policy import Policy
from nsfw_guard.policy.rules import Rule, Threshold
from nsfw_guard.scores import Severity

FIRM = 0.99  # a score this high must be blocked, whatever the folder sets


def refuse(relaxed: Iterable[str], name: str) -> None:
    """Raise an error when a folder relaxes anything."""
    if said := "; ".join(relaxed):
        raise ConfigError(
            f"the folder {name!r} relaxes its own guard: {said}. Pass your own settings (policy=, action=, "
            "calibration=, labels=), correct the folder, or accept its settings with trust_guard=True"
        )


def loose_thresholds(thresholds: Mapping[str, Threshold]) -> list[str]:
    """Return a message for each threshold that hardly any score reaches."""
    return [
        f"the threshold {name!r} is {highest:g}"
        for name, threshold in thresholds.items()
        if not (highest := threshold.highest) < FIRM
    ]


def loose_policy(policy: Policy, positives: Mapping[str, Severity]) -> list[str]:
    """Return a message for each category that the preset "default" would block and a fitted policy does not, and for
    a rule by which a clip with such a frame is released.

    Args:
        policy: the policy, fitted to the model.
        positives: the categories that "default" judges, each with the level that the model calls positive.
    """
    clips = [f"{policy.clips}, not by one"] if policy.clips.relaxes else []
    return clips + [
        f"{category!r} is {why}"
        for category, severity in positives.items()
        if (why := _loose_rule(policy.rules.get(category), severity))
    ]


def loose_calibration(policy: Policy, calibration: Calibration) -> list[str]:
    """Return a message for each category in which a score of 0.99 is no longer blocked after calibration."""
    loose = []
    for category, rule in policy.rules.items():
        threshold, becomes = _highest(rule), calibration.lowest(category, FIRM)
        if threshold is not None and threshold < FIRM and not becomes > threshold:
            loose.append(
                f"the calibration lowers a {category!r} score of {FIRM} to {becomes:.3g}, below the threshold "
                f"{threshold:g}"
            )
    return loose


def _loose_rule(rule: Rule | None, severity: Severity) -> str:
    threshold = _highest(rule)
    if rule is None or threshold is None:
        return "never blocked"
    if rule.severity is not None and rule.severity > severity:
        return f"blocked only from severity {rule.severity.name.lower()} up, not from {severity.name.lower()}"
    return "" if threshold < FIRM else f"blocked only from {threshold:g} up"


def _highest(rule: Rule | None) -> float | None:
    """The highest block threshold of a fitted rule, over all kinds of view."""
    if rule is None or rule.block is None:
        return None
    return max(float(rule.block), *rule.views.values(), 0.0)
