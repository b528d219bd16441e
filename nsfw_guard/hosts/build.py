"""A guard from the settings of a host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nsfw_guard.actions import ACTIONS, Action, Blur, Pixelate
from nsfw_guard.backends.base import Backend
from nsfw_guard.backends.registry import load_model
from nsfw_guard.errors import ConfigError, suggest
from nsfw_guard.guard import Guard
from nsfw_guard.hosts.settings import Settings
from nsfw_guard.policy.policy import Policy
from nsfw_guard.policy.rules import Rule

Build = Callable[[Settings, bool], Guard]


def load_from(settings: Settings) -> Backend:
    """Load the model that settings name. Nothing is downloaded: it may be a stranger's job that asks for it."""
    device, weights = settings.device or None, settings.weights or None
    return load_model(settings.model, device=device, weights=weights, local_files_only=True)


def build_guard(settings: Settings, only_tighter: bool = False, *, backend: Backend | None = None) -> Guard:
    """Return the guard that these settings ask for.

    Args:
        settings: what is asked for.
        only_tighter: thresholds may only lie below those of the policy.
        backend: the model of these settings, where it is loaded already: several guards can share one.
    """
    if backend is None:
        backend = load_from(settings)
    spec = backend.spec
    policy = Policy.load(settings.policy)
    if settings.thresholds:
        fitted = policy.bind(spec)
        policy = _with_thresholds(fitted, settings, only_tighter)
    return Guard(
        backend,
        policy=policy,
        action=_action(settings),
        timeout=settings.timeout,
        requested={"model": settings.model, "policy": settings.policy},
    )


def _with_thresholds(policy: Policy, settings: Settings, only_tighter: bool) -> Policy:
    """The fitted policy with the thresholds of the settings. A threshold goes for every kind of view."""
    rules = dict(policy.rules)
    for category, threshold in settings.thresholds.items():
        if category not in rules:
            raise ConfigError(f"thresholds: the policy does not judge {category!r}: {suggest(category, rules)}")
        old = rules[category]
        if only_tighter and old.block is not None and threshold >= float(old.block):
            continue
        review = old.review if old.review is not None and float(old.review) <= threshold else None
        views = {kind: min(threshold, value) for kind, value in old.views.items()} if only_tighter else {}
        rules[category] = Rule(block=threshold, review=review, severity=old.severity, views=views)
    return replace(policy, rules=rules)


def _action(settings: Settings) -> Action:
    if settings.action in {"blur", "pixelate"}:
        return {"blur": Blur, "pixelate": Pixelate}[settings.action](strength=settings.strength)
    return ACTIONS[settings.action]()
