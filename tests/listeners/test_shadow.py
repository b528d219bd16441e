"""A policy in the shadow: counted and logged, and without effect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nsfw_guard.errors import PolicyError
from nsfw_guard.guard import Guard
from nsfw_guard.listeners.shadow import Shadow
from nsfw_guard.testing import FakeBackend
from nsfw_guard.verdict import Outcome
from tests.images import smooth


def test_what_the_other_policy_says_is_logged_where_it_differs_and_changes_nothing(tmp_path: Path) -> None:
    backend = FakeBackend(0.4)
    shadow = Shadow("strict", backend.spec, tmp_path / "shadow.jsonl")
    verdicts = Guard(backend, listeners=[shadow]).check(smooth(3, 8, 8))
    assert {v.outcome for v in verdicts} == {Outcome.REVIEW}
    assert shadow.counts == {("review", "block"): 3}
    lines = [json.loads(line) for line in (tmp_path / "shadow.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    assert (lines[0]["outcome"], lines[0]["shadow"]) == ("review", "block")
    assert lines[0]["policy"] != lines[0]["shadow_policy"]


def test_what_was_not_judged_is_not_asked_about(tmp_path: Path) -> None:
    backend = FakeBackend(0.9)
    shadow = Shadow("default", backend.spec, tmp_path / "shadow.jsonl")
    Guard(backend, listeners=[shadow]).check([b"no image"])
    assert (shadow.counts, (tmp_path / "shadow.jsonl").exists()) == ({}, False)


def test_a_shadow_that_cannot_write_holds_images_back(tmp_path: Path) -> None:
    backend = FakeBackend(0.4)
    (verdict,) = Guard(backend, listeners=[Shadow("strict", backend.spec, tmp_path / "none" / "log")]).check(
        smooth(1, 8, 8)
    )
    assert verdict.outcome is Outcome.ERROR


def test_a_policy_that_does_not_fit_the_model_is_refused() -> None:
    with pytest.raises(PolicyError, match="does not score"):
        Shadow({"rules": {"zebra": {"block": 0.5}}}, FakeBackend().spec)
