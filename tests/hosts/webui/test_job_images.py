"""The images of a web UI's job: which leave as they are, which are covered, and what is said of each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.guard import Guard
from nsfw_guard.hosts.session import HostGuard
from nsfw_guard.hosts.webui.job_images import Job, guard_job_images
from nsfw_guard.testing import FakeBackend
from nsfw_guard.verdict import Outcome, Verdict


@pytest.fixture
def guard() -> HostGuard:
    host = HostGuard("a1111", build=lambda *_: Guard(FakeBackend(), action="blur"))
    host.configure(replace(host.settings, action="blur"))
    return host


def images() -> list[object]:
    """Of each kind one that is blocked and one that is not, and nothing."""
    red, blue = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
    return [red, None, blue, *(np.asarray(image).astype(np.float32) / 255 for image in (red, blue))]


def test_each_image_has_its_verdict_and_says_whether_it_is_covered(guard) -> None:
    given = images()
    guarded = guard_job_images(guard, given, Job(), "a hook")
    assert guarded.covered == [True, False, False, True, False]
    outcomes = [None if verdict is None else verdict.outcome for verdict in guarded.verdicts]
    assert outcomes == [Outcome.BLOCK, None, Outcome.ALLOW, Outcome.BLOCK, Outcome.ALLOW]
    assert guarded.images[2] is given[2]
    assert guarded.images[4] is given[4]


def test_a_refused_prompt_covers_every_image(guard) -> None:
    guarded = guard_job_images(guard, images(), Job(refused=Verdict.error("refused")), "a hook")
    assert guarded.covered == [True, False, True, True, True]
    assert all(np.unique(np.asarray(image).reshape(-1, 3), axis=0).shape[0] == 1 for image in guarded.images[2:])


def test_a_model_that_fails_covers_every_image(guard) -> None:
    broken = HostGuard("a1111", build=lambda *_: Guard(FakeBackend(float("nan"))))
    guarded = guard_job_images(broken, images(), Job(), "a hook")
    assert guarded.covered == [True, False, True, True, True]
    assert {verdict.outcome for verdict in guarded.verdicts if verdict is not None} == {Outcome.ERROR}
