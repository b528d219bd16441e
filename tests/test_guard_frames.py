"""Images of several frames: each is judged, the worst decides, and what was not seen makes nothing milder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from nsfw_guard.backends.spec import Label
from nsfw_guard.guard import Guard
from nsfw_guard.imaging import frames
from nsfw_guard.imaging.decode import Stream
from nsfw_guard.imaging.frames import Batch, Frames
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.scores import Scores, Severity
from nsfw_guard.testing import RED, FakeBackend, FaultyBackend
from nsfw_guard.verdict import Outcome
from tests.imaging.decode.files import flat, moving
from tests.three_images import BATCH, CLEAN, DOUBTFUL, UNSAFE


def animated(*colours: tuple[int, int, int]) -> bytes:
    return moving([flat(colour, (16, 12)) for colour in colours], "PNG")


@pytest.mark.parametrize("group", [16_000_000, 1])
def test_a_file_is_decoded_once_and_covered_by_its_first_frame(group, monkeypatch) -> None:
    files = [animated((90, 90, 90), (255, 0, 0)), animated((9, 9, 200), (9, 9, 90)), animated((255, 0, 0), (9, 9, 9))]
    opened = []
    monkeypatch.setattr(frames, "Stream", lambda *args, **kwargs: opened.append(args[0]) or Stream(*args, **kwargs))
    monkeypatch.setattr(frames.in_groups, "__kwdefaults__", {**frames.in_groups.__kwdefaults__, "pixels": group})
    guard = Guard(FakeBackend(), action="blur")
    out, verdicts = guard(files)
    assert [v.outcome for v in verdicts] == [Outcome.BLOCK, Outcome.ALLOW, Outcome.BLOCK]
    assert out[1] is files[1]
    # In groups of one frame the flagged frame of the first file comes when its first one is gone.
    assert [files.index(one) for one in opened] == ([0, 1, 2] if group > 1 else [0, 1, 2, 0])
    for index in (0, 2):
        assert np.array_equal(np.asarray(out[index]), np.asarray(guard.apply(files[index], [verdicts[index]])))


def test_frames_are_judged_and_covered_as_the_tensor_they_hold() -> None:
    guard = Guard(FakeBackend())
    out, verdicts = guard(Frames(BATCH))
    assert verdicts == guard.check(BATCH)
    assert torch.equal(out.pixels, guard(BATCH)[0])


def test_the_worst_frame_of_an_image_decides(tmp_path) -> None:
    frames = [Image.new("RGB", (12, 8), (90, 90, i)) for i in range(4)] + [Image.new("RGB", (12, 8), (255, 0, 0))]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])

    (out,), (verdict,) = Guard(FakeBackend())([tmp_path / "moving.gif"])

    assert verdict.outcome is Outcome.BLOCK
    assert np.asarray(out).max() == 0


def test_an_animation_that_is_too_long_to_look_at_is_an_error(tmp_path) -> None:
    frames = [Image.new("RGB", (12, 8), (0, 0, 9 * i)) for i in range(9)]
    frames[0].save(tmp_path / "long.gif", save_all=True, append_images=frames[1:])
    (verdict,) = Guard(FakeBackend(), limits=Limits(frames=4)).check([tmp_path / "long.gif"])
    assert verdict.outcome is Outcome.ERROR
    assert "more than 4 frames" in verdict.reason


def test_large_files_are_judged_one_after_the_other(tmp_path) -> None:
    backend = FakeBackend()
    images = [Image.new("RGB", (5000, 2500), colour) for colour in ("blue", "red", "green")]
    verdicts = Guard(backend).check(images)
    assert [v.outcome for v in verdicts] == [Outcome.ALLOW, Outcome.BLOCK, Outcome.ALLOW]
    assert backend.calls == 3


def test_regions_of_the_worst_frame_are_covered() -> None:
    from nsfw_guard.scores import Region

    class Boxes(FakeBackend):
        def score(self, stacks, *, embeddings=False, digests=False):
            scores = super().score(stacks)
            return [Scores(s.views, regions=(Region(0.0, 0.0, 0.25, 0.5, "red"),)) for s in scores]

    out, _ = Guard(Boxes())(BATCH)
    assert out[1, :, :4, :3].max() == 0.0
    assert torch.equal(out[1, :, 6:, 6:], UNSAFE[:, 6:, 6:])


def test_an_image_of_which_no_frame_was_judged_is_an_error() -> None:
    (verdict,) = Guard(FakeBackend())._judge(iter([Batch(1)]), 1, {})
    assert (verdict.outcome, verdict.reason) == (Outcome.ERROR, "not evaluated: no frame of this image was judged")


@pytest.mark.parametrize(
    ("colour", "outcome", "reason"),
    [
        ((255, 0, 0), Outcome.BLOCK, "red 1.000 >= 0.5 (full view)"),
        ((0, 0, 255), Outcome.REVIEW, "only 4 of 9 frames were looked at"),
    ],
)
def test_unseen_frames_never_make_an_animations_verdict_milder(colour, outcome, reason, tmp_path) -> None:
    frames = [Image.new("RGB", (12, 8), colour), *(Image.new("RGB", (12, 8), (0, 0, 9 * i)) for i in range(8))]
    frames[0].save(tmp_path / "long.gif", save_all=True, append_images=frames[1:])
    path = tmp_path / "long.gif"

    (out,), (verdict,) = Guard(FakeBackend(), limits=Limits(frames=4, unseen="review"))([path])

    assert (verdict.outcome, verdict.reason) == (outcome, reason)
    assert (out == path) is (outcome is Outcome.REVIEW)


def test_an_error_in_the_seen_frames_of_an_animation_stays_an_error(tmp_path) -> None:
    frames = [Image.new("RGB", (12, 8), (0, 0, 9 * i)) for i in range(9)]
    frames[0].save(tmp_path / "long.gif", save_all=True, append_images=frames[1:])
    (verdict,) = Guard(FaultyBackend("nan"), limits=Limits(frames=4, unseen="review")).check([tmp_path / "long.gif"])
    assert verdict.outcome is Outcome.ERROR
    assert "NaN or a value outside" in verdict.reason


def test_a_review_in_the_seen_frames_keeps_its_reason(tmp_path) -> None:
    doubtful = Image.fromarray((DOUBTFUL.permute(1, 2, 0) * 255).byte().numpy())
    frames = [doubtful, *(Image.new("RGB", (12, 8), (0, 0, 9 * i)) for i in range(8))]
    frames[0].save(tmp_path / "long.gif", save_all=True, append_images=frames[1:])
    (verdict,) = Guard(FakeBackend(), limits=Limits(frames=4, unseen="review")).check([tmp_path / "long.gif"])
    assert (verdict.outcome, verdict.flags) == (Outcome.REVIEW, ("red",))
    assert verdict.reason.startswith("red 0.3")


def test_flags_are_those_of_every_frame() -> None:
    class Two(FakeBackend):
        spec = replace(RED, labels={"red": Label("red"), "blue": Label("blue"), "other": None})

        def score(self, stacks, *, embeddings=False, digests=False):
            levels = [(0.9, 0.0), (0.0, 0.6), (0.0, 0.3)]
            return [Scores.single({"red": {Severity.HIGH: r}, "blue": {Severity.HIGH: b}}) for r, b in levels]

    verdict = Guard(Two())._of_image([Guard(Two()).policy.decide(s) for s in Two().score(())], None, None)
    assert (verdict.outcome, verdict.category, verdict.flags) == (Outcome.BLOCK, "red", ("blue", "red"))


def test_an_image_with_a_fault_is_an_error_whatever_was_seen_of_it() -> None:
    guard = Guard(FakeBackend())
    allowed = guard.check(CLEAN[None])
    verdict = guard._of_image(allowed, "its second half is missing", None)
    assert (verdict.outcome, verdict.reason) == (Outcome.ERROR, "its second half is missing")
