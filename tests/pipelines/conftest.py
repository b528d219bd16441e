"""The pipeline of the shapes world, for the tests that need a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsfw_guard.actions import Blur
from nsfw_guard.guard import Guard


@pytest.fixture(scope="module")
def whole():
    """The shapes pipeline, one for each module of tests."""
    from nsfw_guard.demo.run import load_pipeline  # needs diffusers, which some of these tests do without

    return load_pipeline()


@pytest.fixture
def pipe(whole):
    """The shapes pipeline, without a guard before and after."""
    from nsfw_guard.pipelines.attach import detach
    from nsfw_guard.pipelines.guarded.processors import GUARD_ATTR

    yield whole
    if GUARD_ATTR in vars(whole):
        detach(whole)
    assert "step" not in vars(whole.scheduler)


@pytest.fixture
def tiny_guard(tiny: Path) -> Guard:
    """A guard with a real model and settings of its own."""
    policy = {"name": "mine", "rules": {"sexual": {"block": 0.4, "review": 0.2}}}
    return Guard.from_pretrained(tiny, labels={"NSFW": "sexual", "SFW": None}, action=Blur(strength=0.3), policy=policy)
