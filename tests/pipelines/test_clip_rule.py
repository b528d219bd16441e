"""The policy's rule for clips decides on what pipelines return; with "worst" nothing changes."""

from __future__ import annotations

from functools import cache
from itertools import count

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from diffusers.video_processor import VideoProcessor

from nsfw_guard.errors import BlockedError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.attach import attach
from nsfw_guard.pipelines.checker import SafetyChecker
from nsfw_guard.pipelines.guarded.processors import guarded
from nsfw_guard.pipelines.guarded.run import Cover, GuardedCall
from nsfw_guard.testing import FakeBackend
from nsfw_guard.verdict import Outcome
from tests.pipelines.drawing import arrays, quiet
from tests.pipelines.zoo import CASES

pytestmark = quiet
RULES = {"*": {"block": 0.5, "review": 0.25}}
THREE_OF_FIVE = {"rules": RULES, "clips": {"rule": "k-of-n", "k": 3, "n": 5}}
RED, BLUE = (torch.tensor(c).view(3, 1, 1).expand(3, 8, 8) for c in ((0.9, -0.9, -0.9), (-0.9, -0.9, 0.9)))
# One with a processor for clips, one that is judged only when it returns.
PIPES = ("WanPipeline", "CogVideoXPipeline", "MochiPipeline")


class Scripted:
    """Scores frames in the order in which they are judged; the first one is that of the self-test at the start."""

    def __init__(self, *flagged: int) -> None:
        self.flagged, self.seen = set(flagged), count(-1)

    def __call__(self, frame: torch.Tensor) -> float:
        return float(next(self.seen) in self.flagged)


def guard_of(policy, *flagged: int, **settings) -> Guard:
    return Guard(FakeBackend(Scripted(*flagged)), policy=policy, **settings)


def run_of(policy, **settings) -> GuardedCall:
    return GuardedCall(Guard(FakeBackend(), policy=policy, **settings), Cover())


class Owner:
    """Owns a guarded processor, as an attachment does."""

    enabled = True

    def __init__(self, policy, **settings) -> None:
        self.policy, self.settings = policy, settings

    def run(self, pipe=None):
        return run_of(self.policy, **self.settings)


def video(*reds: int, length: int = 9) -> torch.Tensor:
    return torch.stack([RED if i in reds else BLUE for i in range(length)], 1)[None]


@cache
def plain(name):
    pipe = CASES[name].build()
    torch.manual_seed(0)
    return pipe, pipe(**CASES[name].call(pipe), output_type="np").frames


def called(name, guard, **settings):
    pipe, before = plain(name)
    torch.manual_seed(0)
    with attach(pipe, guard, **settings):
        return before, pipe(**CASES[name].call(pipe), output_type="np")


@pytest.mark.parametrize("kind", ["np", "pt", "pil"])
@pytest.mark.parametrize(
    ("policy", "reds", "covered"),
    [
        (THREE_OF_FIVE, (4,), False),
        (THREE_OF_FIVE, (0, 8), False),
        (THREE_OF_FIVE, (3, 4, 6), True),
        ({"rules": RULES}, (4,), True),
    ],
)
def test_a_clip_of_a_processor_is_covered_by_the_rule(kind, policy, reds, covered) -> None:
    processor = guarded(VideoProcessor(), Owner(policy))
    out = arrays(processor.postprocess_video(video(*reds), output_type=kind))
    assert (max(float(frame.max()) for frame in out) == 0) == covered


@pytest.mark.parametrize("policy", [THREE_OF_FIVE, {"rules": RULES}], ids=["3-of-5", "worst"])
@pytest.mark.parametrize("reds", [(4,), (3, 4, 5)], ids=str)
def test_the_action_raise_follows_the_rule(policy, reds) -> None:
    processor = guarded(VideoProcessor(), Owner(policy, action="raise"))
    raises = len(reds) == 3 or policy is not THREE_OF_FIVE
    if raises:
        with pytest.raises(BlockedError):
            processor.postprocess_video(video(*reds), output_type="np")
    else:
        assert float(processor.postprocess_video(video(*reds), output_type="np").max()) > 0
    run = run_of(policy, action="raise")
    frames = video(*reds)[0].transpose(0, 1) * 0.5 + 0.5
    if raises:
        with pytest.raises(BlockedError):
            run.finish(frames, clips=True)
    else:
        assert run.finish(frames, clips=True) is frames


def test_what_is_judged_at_the_exit_follows_the_rule_per_clip() -> None:
    run = run_of(THREE_OF_FIVE)
    both = torch.cat([video(4), video(3, 4, 5)]).transpose(1, 2) * 0.5 + 0.5
    out = run.finish(both, clips=True)
    assert torch.equal(out[0], both[0])
    assert float(out[1].max()) == 0
    assert [verdict.outcome for verdict in run.verdicts] == [Outcome.ALLOW, Outcome.BLOCK]
    assert run.flags == [False, True]


def test_a_batch_of_images_is_no_clip() -> None:
    run = run_of(THREE_OF_FIVE)
    images = video(4)[0].transpose(0, 1) * 0.5 + 0.5
    assert [float(image.max()) == 0 for image in run.finish(images, clips=False)] == [i == 4 for i in range(9)]


def test_a_frame_that_cannot_be_judged_covers_its_clip() -> None:
    frames = video()[0].transpose(0, 1) * 0.5 + 0.5
    frames[4, 0, 0, 0] = torch.nan
    run = run_of(THREE_OF_FIVE)
    assert float(run.finish(frames, clips=True).max()) == 0
    assert run.verdicts[0].outcome is Outcome.ERROR


@pytest.mark.parametrize("name", PIPES)
def test_with_worst_one_frame_covers_the_clip_and_with_the_rule_none_changes(name) -> None:
    before, out = called(name, guard_of({"rules": RULES}, 1))
    assert out.nsfw_content_detected == [True]
    assert not np.array_equal(out.frames, before)
    before, out = called(name, guard_of(THREE_OF_FIVE, 1))
    assert out.nsfw_content_detected == [False]
    assert out.verdicts[0].outcome is Outcome.ALLOW
    assert np.array_equal(out.frames, before)


@pytest.mark.parametrize("name", PIPES)
def test_enough_neighbours_cover_the_clip_or_themselves(name) -> None:
    before, out = called(name, guard_of(THREE_OF_FIVE, 0, 2, 3))
    assert out.nsfw_content_detected == [True]
    assert not any(np.array_equal(a, b) for a, b in zip(out.frames[0], before[0], strict=True))
    before, out = called(name, guard_of(THREE_OF_FIVE, 0, 2, 3), clips="frames", margin=0)
    same = [np.array_equal(a, b) for a, b in zip(out.frames[0], before[0], strict=True)]
    assert [i for i, kept in enumerate(same) if not kept] == [0, 2, 3]


def test_the_checker_of_a_video_follows_the_rule() -> None:
    frames = np.zeros((9, 8, 8, 3), np.uint8)
    frames[..., 2] = 230
    frames[4] = (230, 10, 10)
    checker = SafetyChecker(Guard(FakeBackend(), policy=THREE_OF_FIVE))
    assert np.array_equal(checker.check_video_safety(frames), frames)
    frames[5:7] = (230, 10, 10)
    assert checker.check_video_safety(frames).max() == 0


def test_the_rule_is_named_in_every_verdict() -> None:
    (verdict,) = Guard(FakeBackend(), policy=THREE_OF_FIVE).check(torch.rand(1, 3, 8, 8))
    assert verdict.state["clip_rule"] == "a clip is flagged by 3 flagged frames among 5 neighbouring ones"
    (verdict,) = Guard(FakeBackend(), policy={"rules": RULES}).check(torch.rand(1, 3, 8, 8))
    assert "clip_rule" not in verdict.state
