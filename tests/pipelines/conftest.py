"""The pipeline of the shapes world, for the tests that need a real one."""

from __future__ import annotations

import pytest


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
