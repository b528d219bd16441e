"""What a user of an interface may choose, and what its owner has locked: from then on it can only be tightened."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from nsfw_guard.errors import ConfigError, UnknownNameError, suggest
from nsfw_guard.policy.toml import read_toml

# The weakest first: each hides at least as much as those before it.
ACTIONS = ("flag", "blur", "pixelate", "replace", "block")
PREVIEWS = ("check", "pixelate", "hide")
PRESETS = ("lenient", "default", "strict")
FILE = "NSFW_GUARD_SETTINGS"
SINGLE = "NSFW_GUARD_"

Previews = Literal["check", "pixelate", "hide"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a guard in a user interface does.

    Args:
        enabled: whether it does anything.
        model, weights, device: the model's name, folder or "hf:owner/name@commit"; its own folder; where it runs.
        policy: a preset or a TOML file.
        action: for what is blocked: "block", "blur", "pixelate", "replace", or "flag", which only marks it.
        strength: of blur and pixelate, a fraction of the short side.
        thresholds: per category a score from which it is blocked, in place of the policy's.
        label: write on a covered image that it is covered, and the category.
        prompts: refuse prompts that the policy refuses, before any step.
        previews: what becomes of images while they are drawn: "pixelate" all, "check" each, "hide" all.
        metadata: write the verdict into the image's metadata.
        originals: a folder where what was covered is kept as it was; nowhere unless named.
        timeout: seconds that the model may take for an image.
    """

    enabled: bool = True
    model: str = "marqo"
    weights: str = ""
    device: str = ""
    policy: str = "default"
    action: str = "blur"
    strength: float = 0.5
    thresholds: Mapping[str, float] = field(default_factory=dict)
    label: bool = True
    prompts: bool = True
    previews: Previews = "pixelate"
    metadata: bool = True
    originals: str = ""
    timeout: float = 60.0

    def __post_init__(self) -> None:
        for name, known in (("action", ACTIONS), ("previews", PREVIEWS)):
            if getattr(self, name) not in known:
                raise UnknownNameError(name, getattr(self, name), known)
        for setting in fields(self):
            kind, value = _KINDS[setting.name], getattr(self, setting.name)
            if isinstance(value, bool) is not (kind is bool) or not isinstance(value, kind):
                raise ConfigError(f"setting {setting.name!r} must be {_IN_WORDS[kind]}, got {value!r}")
        if not 0.1 <= self.strength <= 1.0:
            raise ConfigError(
                f"setting 'strength' must be a fraction of the short side from 0.1 (weak) to 1.0, got {self.strength}"
            )
        if not (math.isfinite(self.timeout) and self.timeout > 0):
            raise ConfigError(f"setting 'timeout' must be seconds above 0, got {self.timeout}")
        for category, threshold in self.thresholds.items():
            if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0.0 < threshold <= 1.0:
                raise ConfigError(f"threshold of {category!r} must be above 0 and at most 1, got {threshold!r}")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from a table; a name that is none is refused, so that a slip never weakens anything."""
        known = {one.name for one in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"unknown setting {unknown[0]!r}: {suggest(unknown[0], known)}")
        return cls(**values)

    def builds_as(self, other: Settings) -> bool:
        """Return whether the same guard does for both: they differ in what is done with its verdicts, if
        in anything.
        """
        return all(getattr(self, name) == getattr(other, name) for name in _BUILT)

    def tightened(self, wanted: Settings) -> Settings:
        """Return these settings, stricter where `wanted` is stricter. What it would loosen stays as it is."""
        firm = ACTIONS.index(wanted.action) >= ACTIONS.index(self.action)
        thresholds = {
            c: min(
                threshold for threshold in (self.thresholds.get(c), wanted.thresholds.get(c)) if threshold is not None
            )
            for c in {**self.thresholds, **wanted.thresholds}
        }
        stricter = (
            wanted.policy in PRESETS
            and self.policy in PRESETS
            and PRESETS.index(wanted.policy) > PRESETS.index(self.policy)
        )
        return replace(
            self,
            enabled=self.enabled or wanted.enabled,
            policy=wanted.policy if stricter else self.policy,
            action=wanted.action if firm else self.action,
            strength=max(self.strength, wanted.strength),
            thresholds=thresholds,
            prompts=self.prompts or wanted.prompts,
            previews=wanted.previews
            if PREVIEWS.index(wanted.previews) > PREVIEWS.index(self.previews)
            else self.previews,
            metadata=self.metadata or wanted.metadata,
            timeout=min(self.timeout, wanted.timeout),
        )


_KINDS: Mapping[str, Any] = {
    **dict.fromkeys(("enabled", "label", "prompts", "metadata"), bool),
    **dict.fromkeys(("model", "weights", "device", "policy", "action", "previews", "originals"), str),
    **dict.fromkeys(("strength", "timeout"), (int, float)),
    "thresholds": Mapping,
}
_BUILT = ("model", "weights", "device", "policy", "action", "strength", "thresholds", "timeout")
_IN_WORDS = {bool: "true or false", str: "a text", (int, float): "a number", Mapping: "a table of categories"}


def locked(environment: Mapping[str, str] | None = None) -> Settings | None:
    """Return the settings that the owner of this machine fixed, or None where nothing is fixed.

    `NSFW_GUARD_SETTINGS` names a TOML file of settings; `NSFW_GUARD_ACTION=block` and the like set single ones.

    Raises:
        ConfigError: something is fixed and cannot be read. The caller then covers every image.
    """
    environ = os.environ if environment is None else environment
    singles = {name: environ[SINGLE + name.upper()] for name in _KINDS if environ.get(SINGLE + name.upper())}
    file = environ.get(FILE, "")
    if not file and not singles:
        return None
    table = read_toml(Path(file)) if file else {}
    return Settings.of({**table, **{name: _read(name, value) for name, value in singles.items()}})


def _read(name: str, value: str) -> Any:
    """A single setting from the environment."""
    kind = _KINDS[name]
    try:
        if kind is bool:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[value.lower()]
        if kind is Mapping:
            return {
                category.strip(): float(threshold)
                for category, _, threshold in (p.partition("=") for p in value.split(","))
            }
        return value if kind is str else float(value)
    except (KeyError, ValueError):
        raise ConfigError(f"{SINGLE}{name.upper()} must be {_IN_WORDS[kind]}, got {value!r}") from None
