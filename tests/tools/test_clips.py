"""A video file is judged whole, by the policy's rule for clips, or it is an ERROR."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("av")

from nsfw_guard.guard import Guard
from nsfw_guard.imaging.clips.clip import ClipSampling
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.testing import FakeBackend, FaultyBackend
from nsfw_guard.tools.clips import check_clip
from nsfw_guard.verdict import Outcome
from tests.imaging.clips.drawing import clip, drawn

ALLOW, REVIEW, BLOCK, ERROR = Outcome
RULES = {"*": {"block": 0.5, "review": 0.25}}
TWO_OF_THREE = {"rules": RULES, "clips": {"rule": "k-of-n", "k": 2, "n": 3}}


def with_red(*reds: int, count: int = 12) -> bytes:
    """A clip of drawn shapes, some of whose frames are all red."""
    frames = drawn(count)
    for index in reds:
        frames[index] = np.broadcast_to(np.array([230, 20, 20], np.uint8), frames[index].shape)
    return clip(frames, options={"g": "1"})


def guard_of(policy=None, **settings) -> Guard:
    return Guard(FakeBackend(), policy=policy or {"rules": RULES}, **settings)


class Seen:
    """A listener that keeps what it gets."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def __call__(self, verdicts, **_) -> None:
        self.outcomes += [verdict.outcome for verdict in verdicts]


@pytest.mark.parametrize("policy", [{"rules": RULES}, TWO_OF_THREE], ids=["worst", "2-of-3"])
def test_a_clip_that_is_not_whole_is_an_error(policy) -> None:
    seen = Seen()
    judged = check_clip(guard_of(policy, listeners=[seen]), with_red()[:-30])
    assert judged.verdict.outcome is ERROR
    assert judged.verdict.reason.startswith("the clip cannot be judged: ")
    assert seen.outcomes[-1] is ERROR
    assert check_clip(guard_of(policy), b"GIF89a").verdict.outcome is ERROR
    assert check_clip(guard_of(policy), with_red(), limits=Limits(frames=5)).verdict.outcome is ERROR


@pytest.mark.parametrize("fault", ["raises", "nan", "few"])
def test_a_model_that_fails_makes_it_an_error(fault) -> None:
    assert check_clip(Guard(FaultyBackend(fault), policy=TWO_OF_THREE), with_red()).verdict.outcome is ERROR


@pytest.mark.parametrize(
    ("reds", "worst", "rule"),
    [((), ALLOW, ALLOW), ((5,), BLOCK, ALLOW), ((5, 7), BLOCK, BLOCK), ((0, 11), BLOCK, ALLOW)],
)
def test_the_policy_decides_on_the_clip(reds, worst, rule) -> None:
    data = with_red(*reds)
    strict, relaxed = check_clip(guard_of(), data), check_clip(guard_of(TWO_OF_THREE), data)
    assert (strict.verdict.outcome, relaxed.verdict.outcome) == (worst, rule)
    assert strict.flagged == relaxed.flagged == reds
    assert list(strict.frames) == list(range(12))


def test_a_sampled_clip_is_at_least_under_review() -> None:
    every = ClipSampling(nth=4)
    judged = check_clip(guard_of(TWO_OF_THREE), with_red(), every=every)
    assert (judged.verdict.outcome, list(judged.frames)) == (REVIEW, [0, 4, 8])
    assert judged.verdict.reason == "only every 4. frame was looked at"
    assert check_clip(guard_of(TWO_OF_THREE), with_red(4), every=every).verdict.outcome is BLOCK


def test_each_way_to_show_a_frame_counts() -> None:
    """Two images woven row by row look like neither; each field alone is one of them."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[::2], image[1::2] = (230, 20, 20), (20, 230, 230)
    data = clip([image] * 3, options={"x264-params": "interlaced=1", "crf": "1"}, pixels="yuv444p")
    judged = check_clip(Guard(FakeBackend(), policy={"rules": {"*": {"block": 0.9}}}), data)
    assert judged.verdict.outcome is BLOCK
    assert judged.flagged == (0, 1, 2)


def test_many_frames_are_judged_in_groups() -> None:
    backend = FakeBackend()
    judged = check_clip(Guard(backend), with_red(count=150))
    assert (len(judged.frames), backend.frames, backend.calls) == (150, 150, 3)
