"""The settings in a saved guard's folder (guard.json, calibration.json), and which of them relax the guard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from nsfw_guard.actions import ACTIONS, Action, Flag, Replace
from nsfw_guard.backends.base import Backend
from nsfw_guard.backends.examples.bank import Bank
from nsfw_guard.backends.wrappers.banked import Banked
from nsfw_guard.backends.wrappers.calibrated import Calibrated
from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError
from nsfw_guard.jsonfile import read_json
from nsfw_guard.policy.policy import Policy
from nsfw_guard.relaxed import loose_calibration, loose_policy, loose_thresholds

GUARD, CALIBRATION, BANK = "guard.json", "calibration.json", "bank"
DEFAULTS = {"policy": "default", "action": "block", "on_review": "flag"}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Settings of a guard, from a caller or a folder; None where not set."""

    policy: Policy | str | Path | Mapping[str, Any] | None = None
    action: Action | str | None = None
    on_review: Action | str | None = None
    calibration: Calibration | str | Path | None = None
    bank: Bank | str | Path | None = None

    def above(self, other: Asked) -> Asked:
        """Return these settings, filled up from `other` where not set."""
        left = {f.name: getattr(other, f.name) for f in fields(self) if getattr(self, f.name) is None}
        return replace(self, **left)

    def words(self, saved: Asked) -> dict[str, str]:
        """Return each setting in a word: the caller's, "as saved" where a folder sets it, else the default."""
        named = {"policy": _name_of_policy(self.policy or DEFAULTS["policy"])}
        named |= {which: Action.of(getattr(self, which) or DEFAULTS[which]).name for which in ("action", "on_review")}
        named |= {which: "as asked" for which in ("calibration", "bank") if getattr(self, which) is not None}
        by_folder = [
            f.name for f in fields(self) if getattr(self, f.name) is None and getattr(saved, f.name) is not None
        ]
        return named | dict.fromkeys(by_folder, "as saved")


def read_saved(folder: Path) -> Asked:
    """Return the settings in a saved guard's folder; none are set where it holds no saved guard."""
    path = folder / GUARD
    if not path.is_file():
        return Asked()
    content = read_json(path)
    try:
        policy = content["policy"]
        if not isinstance(policy, Mapping) or "extends" in policy:
            raise TypeError("its policy is not written out in this file")
        action, on_review = (_action(content[which]) for which in ("action", "on_review"))
        return Asked(
            policy=Policy.load(policy),
            action=action,
            on_review=on_review,
            calibration=folder / CALIBRATION if (folder / CALIBRATION).is_file() else None,
            bank=_saved_bank(folder, is_there=bool(content.get("bank"))),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{GUARD} in {folder.name!r} is unreadable ({error}): save the guard again") from error


def _saved_bank(folder: Path, *, is_there: bool) -> Bank | None:
    """The bank of a saved guard, read once: what it allows is checked now, and not when somebody changes it."""
    if (folder / BANK).is_dir():
        return Bank.load(folder / BANK)
    if is_there:
        raise ConfigError(
            f"the guard in {folder.name!r} was saved with a bank, which is missing: copy the whole folder"
        )
    return None


def refuse_leftovers(folder: Path, *, calibration: bool, bank: bool) -> None:
    """Raise an error where a folder holds what this guard does not have, and what would become a part of it.

    Args:
        folder: that a guard is saved into.
        calibration, bank: whether the guard has one.
    """
    for name, there, has in (
        ("calibration", (folder / CALIBRATION).exists(), calibration), ("bank", (folder / BANK).exists(), bank),
    ):  # fmt: skip
        if there and not has:
            raise ConfigError(
                f"{folder.name!r} holds the {name} of another guard, and this one has none: save into another folder"
            )


def write_saved(folder: Path, policy: Policy, action: Action, on_review: Action, *, bank: bool = False) -> None:
    """Write the files that `read_saved` reads; a bank that belongs to them is written by itself."""
    content: dict[str, Any] = {
        "policy": policy.to_dict(),
        "action": _settings(action),
        "on_review": _settings(on_review),
    }
    content |= {"bank": True} if bank else {}
    (folder / GUARD).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_calibration(value: Calibration | str | Path) -> Calibration:
    """Return the calibration itself, or read one from a file."""
    return value if isinstance(value, Calibration) else Calibration.load(value)


def around(backend: Backend, wanted: Asked) -> Backend:
    """Return the model with its calibration and its bank."""
    if wanted.calibration is not None:
        backend = Calibrated(backend, read_calibration(wanted.calibration))
    return backend if wanted.bank is None else Banked(backend, wanted.bank)


def relaxed_by(saved: Asked, asked: Asked, backend: Backend) -> list[str]:
    """Return the settings that a saved guard relaxes and the caller did not set."""
    spec, relaxed = backend.spec, []
    if isinstance(backend, Banked):
        allowing = sum(example.kind == "allow" for example in backend.bank.examples)
        relaxed += [f"its bank allows what is like {allowing} examples"] if allowing and asked.bank is None else []
        backend = backend.backend
    for which in ("action", "on_review"):
        action = None if getattr(asked, which) is not None else getattr(saved, which)
        if which == "action" and isinstance(action, Flag):
            relaxed.append("the action is 'flag'")
        if isinstance(action, Replace) and action.image is not None:
            relaxed.append(f"{which} shows the image file {action.image}")
    by_folder = asked.calibration is None and isinstance(backend, Calibrated)
    if (asked.policy is None and saved.policy is not None) or by_folder:
        wanted = Policy.load(asked.above(saved).policy or DEFAULTS["policy"])
        fitted = wanted.bind(spec)
        relaxed += loose_policy(fitted, spec.positives) if asked.policy is None and saved.policy is not None else []
        if by_folder and isinstance(backend, Calibrated):
            relaxed += loose_thresholds(backend.calibration.thresholds) + loose_calibration(fitted, backend.calibration)
    return relaxed


def _action(content: Mapping[str, Any]) -> Action:
    settings = dict(content)
    if "picture" in settings:  # as folders of schema 1 call it
        settings["image"] = settings.pop("picture")
    return ACTIONS[settings.pop("name")](**settings)


def _settings(action: Action) -> dict[str, Any]:
    return {"name": action.name, **{k: str(v) if isinstance(v, Path) else v for k, v in vars(action).items()}}


def _name_of_policy(policy: Policy | str | Path | Mapping[str, Any]) -> str:
    if isinstance(policy, Mapping):
        return str(policy.get("name", "policy"))
    return policy.name if isinstance(policy, Policy) else str(policy)
