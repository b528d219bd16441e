"""What a user may choose, and that what the owner locked is only ever tightened."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsfw_guard.errors import ConfigError
from nsfw_guard.hosts.settings import ACTIONS, FILE, PRESETS, PREVIEWS, Settings, locked


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"action": "censor"}, "unknown action 'censor'"),
        ({"action": "blurr"}, "did you mean 'blur'"),
        ({"previews": "show"}, "unknown previews"),
        ({"enabled": "yes"}, "'enabled' must be true or false, got 'yes'"),
        ({"enabled": 1}, "must be true or false"),
        ({"strength": True}, "must be a number"),
        ({"strength": 0.01}, "from 0.1"),
        ({"strength": float("nan")}, "from 0.1"),
        ({"model": 3}, "must be a text"),
        ({"timeout": 0}, "seconds above 0"),
        ({"timeout": float("inf")}, "seconds above 0"),
        ({"thresholds": {"sexual": 0.0}}, "must be above 0"),
        ({"thresholds": {"sexual": float("nan")}}, "must be above 0"),
        ({"thresholds": {"sexual": True}}, "must be above 0"),
        ({"thresholds": 0.5}, "a table of categories"),
        ({"enable": False}, "did you mean 'enabled'"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_cure(payload, message):
    with pytest.raises(ConfigError, match=message):
        Settings.of(payload)


def test_nothing_is_locked_by_itself():
    assert locked({}) is None
    assert locked({"NSFW_GUARD_POLICY": ""}) is None


def test_a_file_and_single_settings_lock(tmp_path: Path):
    file = tmp_path / "guard.toml"
    file.write_text('action = "block"\nprompts = false\n[thresholds]\nsexual = 0.3\n')
    payload = locked({FILE: str(file), "NSFW_GUARD_MODEL": "freepik", "NSFW_GUARD_PROMPTS": "true"})
    assert payload == Settings(action="block", model="freepik", prompts=True, thresholds={"sexual": 0.3})
    assert locked({"NSFW_GUARD_THRESHOLDS": "sexual=0.4, gore = 0.2"}).thresholds == {"sexual": 0.4, "gore": 0.2}


@pytest.mark.parametrize(
    "environment",
    [
        {FILE: "nowhere.toml"},
        {"NSFW_GUARD_ENABLED": "perhaps"},
        {"NSFW_GUARD_STRENGTH": "much"},
        {"NSFW_GUARD_THRESHOLDS": "sexual"},
        {"NSFW_GUARD_ACTION": "nothing"},
    ],
)
def test_a_lock_that_cannot_be_read_is_an_error_never_no_lock(environment):
    with pytest.raises(ConfigError):
        locked(environment)


ANY = st.builds(
    Settings,
    enabled=st.booleans(),
    action=st.sampled_from(ACTIONS),
    policy=st.sampled_from([*PRESETS, "mine.toml"]),
    strength=st.floats(0.1, 1.0),
    thresholds=st.dictionaries(st.sampled_from(["sexual", "gore"]), st.floats(0.01, 1.0)),
    prompts=st.booleans(),
    previews=st.sampled_from(PREVIEWS),
    metadata=st.booleans(),
    model=st.sampled_from(["marqo", "freepik"]),
    originals=st.sampled_from(["", "there"]),
    timeout=st.floats(1, 90),
)


@given(owner=ANY, wanted=ANY)
def test_whatever_is_wanted_nothing_is_loosened(owner, wanted):
    result = owner.tightened(wanted)
    assert result.enabled >= owner.enabled
    assert ACTIONS.index(result.action) >= ACTIONS.index(owner.action)
    assert result.strength >= owner.strength
    assert all(result.thresholds[c] <= threshold for c, threshold in owner.thresholds.items())
    assert result.prompts >= owner.prompts
    assert PREVIEWS.index(result.previews) >= PREVIEWS.index(owner.previews)
    assert (result.model, result.weights, result.originals) == (owner.model, owner.weights, owner.originals)
    if owner.policy in PRESETS:
        assert PRESETS.index(result.policy) >= PRESETS.index(owner.policy)
    else:
        assert result.policy == owner.policy
    assert owner.tightened(result) == result


def test_stricter_wishes_are_granted():
    owner = Settings(action="blur", policy="default", thresholds={"sexual": 0.6})
    result = owner.tightened(
        Settings(action="block", policy="strict", thresholds={"sexual": 0.2, "gore": 0.5}, strength=0.9)
    )
    assert (result.action, result.policy, dict(result.thresholds), result.strength) == (
        "block", "strict", {"sexual": 0.2, "gore": 0.5}, 0.9
    )  # fmt: skip
