"""A folder may relax its guard with trust only, and what the caller says stands above it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nsfw_guard.actions import Replace
from nsfw_guard.backends.registry import load_model
from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import (
    ConfigError,
)
from nsfw_guard.guard import Guard
from nsfw_guard.testing import tiny_model
from tests.attacks.folders import Mutate, guard, moved, threshold
from tests.images import smooth


def relaxed(saved: Path, tmp_path: Path, mutate: Mutate) -> Path:
    folder = Path(shutil.copytree(saved, tmp_path / "relaxed"))
    mutate(folder)
    return folder


def test_with_trust_it_loads_and_every_verdict_says_what_was_relaxed(saved: Path, tmp_path: Path) -> None:
    folder = relaxed(saved, tmp_path, guard(action={"name": "flag"}))
    moved(1e-6, -9)(folder)
    loaded = Guard.from_pretrained(folder, trust_guard=True)
    (verdict,) = loaded.check(smooth(1, 40, 40))
    assert (verdict.requested["action"], verdict.state["action"]) == ("as saved", "flag")
    assert verdict.requested["trusted"].startswith(
        "the action is 'flag'; the calibration lowers a 'sexual' score of 0.99 to"
    )


def test_with_trust_thresholds_and_names_are_accepted_too(saved: Path, tmp_path: Path) -> None:
    folder = relaxed(saved, tmp_path, plain_guard)
    threshold(block=1.0)(folder)
    guard = Guard.from_pretrained(folder, trust_guard=True)
    assert guard.requested["trusted"] == "the threshold 'default' is 1"
    assert guard.policy.rules["sexual"].block == 1.0
    for policy in ("default", {"rules": {"*": {"block": "default"}}}):
        with pytest.raises(ConfigError, match="the threshold 'default' is 1"):
            Guard.from_pretrained(folder, policy=policy, action="block")
    with pytest.raises(ConfigError, match="the threshold 'default' is 1"):
        Guard(load_model(folder))


def plain_guard(folder: Path) -> None:
    (folder / "guard.json").unlink()
    (folder / "calibration.json").unlink()


def test_the_callers_settings_override_the_folders(saved: Path, tmp_path: Path) -> None:
    folder = relaxed(saved, tmp_path, guard(action={"name": "flag"}, on_review={"name": "replace", "image": "x.png"}))
    loaded = Guard.from_pretrained(folder, action="blur", on_review="block")
    assert (loaded.action.name, loaded.on_review.name) == ("blur", "block")
    assert (loaded.requested["action"], loaded.requested["on_review"]) == ("blur", "block")
    moved(1e-6, -9)(folder)
    mild = Calibration(model=loaded.spec.name, maps={"sexual": (1.0, 0.5)})
    loaded = Guard.from_pretrained(folder, action="blur", on_review="block", calibration=mild)
    assert loaded.requested["calibration"] == "as asked"
    assert "trusted" not in loaded.requested


def test_the_folders_calibration_is_checked_against_the_callers_policy(saved: Path, tmp_path: Path) -> None:
    folder = relaxed(saved, tmp_path, moved(1e-6, -9))
    with pytest.raises(ConfigError, match="the calibration lowers"):
        Guard.from_pretrained(folder, policy="default", action="block")


def test_severities_and_categories_count(saved: Path, tmp_path: Path) -> None:
    labels = ("neutral", "low", "high")
    grades = {"neutral": None, "low": ["gore", "low"], "high": ["gore", "high"]}
    for mutate, word in (
        (rule_of("gore", block=0.5, severity="high"), "'gore' is blocked only from severity high up, not from low"),
        (rule_of("gore", review=0.5), "'gore' is never blocked"),
        (rule_of("gore", block=0.5), ""),
    ):
        folder = tiny_model(tmp_path / word[:12], labels=labels)
        (folder / "nsfw_guard.json").write_text(json.dumps({"labels": grades}))
        flag = {"name": "block"}
        (folder / "guard.json").write_text(json.dumps({"policy": {}, "action": flag, "on_review": flag}))
        mutate(folder)
        if word:
            with pytest.raises(ConfigError, match=word):
                Guard.from_pretrained(folder)
        else:
            assert Guard.from_pretrained(folder).policy.rules["gore"].block == 0.5


def rule_of(category: str, **changes: object) -> Mutate:
    return guard(policy={"rules": {category: changes}})


def test_a_guard_that_only_flags_loads_with_trust(tiny: Path, tmp_path: Path) -> None:
    Guard.from_pretrained(tiny, action="flag", on_review=Replace()).save_pretrained(tmp_path / "guard")
    with pytest.raises(ConfigError, match="the action is 'flag'"):
        Guard.from_pretrained(tmp_path / "guard")
    guard = Guard.from_pretrained(tmp_path / "guard", trust_guard=True)
    assert (guard.action.name, guard.on_review.name, guard.requested["trusted"]) == (
        "flag", "replace", "the action is 'flag'",
    )  # fmt: skip
