"""The copy of a clip has covers where they are wanted, the same sound, the same times, and nothing else."""

from __future__ import annotations

import io

import numpy as np
import pytest

pytest.importorskip("av")

import av

from nsfw_guard.errors import ConfigError, DecodeError, ImageError, UnknownNameError
from nsfw_guard.imaging.clips.censor import censor_clip
from nsfw_guard.imaging.clips.clip import Clip
from nsfw_guard.imaging.limits import Limits
from tests.imaging.clips.drawing import clip, drawn

COUNT = 12
BLACK = np.zeros((48, 64, 3), np.uint8)
SOUND = {"mp4": "aac", "mov": "aac", "mkv": "aac", "webm": "libopus"}


def sound_of(data: bytes) -> list[bytes]:
    with av.open(io.BytesIO(data)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def test_a_clip_that_is_not_whole_gives_no_copy(tmp_path) -> None:
    data = clip(drawn(COUNT), container={"movflags": "faststart"})
    target = tmp_path / "copy.mp4"
    target.write_bytes(b"before")
    with pytest.raises(DecodeError):
        censor_clip(data[:-200] + bytes(200), target, {})
    assert target.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["copy.mp4"]


@pytest.mark.parametrize(
    ("cover", "message"),
    [
        (np.zeros((48, 64), np.uint8), r"the cover of frame 3 must be uint8 \(48, 64, 3\), got uint8 \(48, 64\)"),
        (np.zeros((64, 48, 3), np.uint8), r"got uint8 \(64, 48, 3\)"),
        (np.zeros((48, 64, 3)), "got float64"),
        ("black", "got str"),
    ],
)
def test_a_cover_that_does_not_fit_is_refused(tmp_path, cover, message) -> None:
    with pytest.raises(ImageError, match=message):
        censor_clip(clip(drawn(COUNT)), tmp_path / "copy.mp4", {3: cover})
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_the_callers_function_leaves_nothing_behind(tmp_path) -> None:
    def broken(frame):
        raise RuntimeError("no cover")

    with pytest.raises(DecodeError, match="the copy cannot be written"):
        censor_clip(clip(drawn(2)), tmp_path / "copy.mp4", broken)
    assert list(tmp_path.iterdir()) == []


def test_targets_and_limits_are_checked_first(tmp_path) -> None:
    data = clip(drawn(2))
    with pytest.raises(UnknownNameError, match=r"kind of video file '.avi'"):
        censor_clip(data, tmp_path / "copy.avi", {})
    with pytest.raises(ConfigError, match="the folder 'nowhere' of the target does not exist"):
        censor_clip(data, tmp_path / "nowhere" / "copy.mp4", {})
    with pytest.raises(DecodeError, match=r"raise limits\.frames"):
        censor_clip(clip(drawn(5)), tmp_path / "copy.mp4", {}, limits=Limits(frames=4))


@pytest.mark.parametrize("kind", SOUND)
def test_covered_frames_are_covered_and_the_others_are_not(tmp_path, kind) -> None:
    data = clip(drawn(COUNT), kind, sound=SOUND[kind], metadata={"title": "a title"})
    target = tmp_path / f"copy.{kind}"

    assert censor_clip(data, target, {3: BLACK, 4: BLACK}) == 2

    copy = list(Clip.open(target))
    assert [frame.index for frame in copy] == list(range(COUNT))
    for frame, image in zip(copy, drawn(COUNT), strict=True):
        expected = BLACK if frame.index in {3, 4} else image
        assert np.abs(frame.pixels.astype(int) - expected).mean() < 6
    assert [frame.seconds for frame in copy] == pytest.approx([i / 24 for i in range(COUNT)], abs=0.002)
    assert sound_of(target.read_bytes()) == sound_of(data)
    assert b"a title" not in target.read_bytes()


def test_a_function_covers_what_it_wants(tmp_path) -> None:
    def grey(frame):
        return np.full_like(frame.pixels, 128) if frame.index % 2 else None

    assert censor_clip(clip(drawn(COUNT)), tmp_path / "copy.mp4", grey) == COUNT // 2
    means = [frame.pixels.std() < 3 for frame in Clip.open(tmp_path / "copy.mp4")]
    assert means == [False, True] * (COUNT // 2)


def test_a_turned_clip_is_written_upright_and_odd_sides_are_filled(tmp_path) -> None:
    data = clip(drawn(COUNT, (66, 50)), container={"movflags": "faststart"})
    place = data.index(b"tkhd") + 44
    turn = b"".join(value.to_bytes(4, "big", signed=True) for value in (0, 65536, 0, -65536, 0))
    data = data[:place] + turn + data[place + len(turn) :]
    censor_clip(data, tmp_path / "copy.mp4", {})
    copy = list(Clip.open(tmp_path / "copy.mp4"))
    assert {frame.pixels.shape for frame in copy} == {(66, 50, 3)}
    assert {frame.way for frame in copy} == {0}
    censor_clip(clip(drawn(2, (65, 49)), pixels="yuv444p"), tmp_path / "odd.mp4", {})
    assert {frame.pixels.shape for frame in Clip.open(tmp_path / "odd.mp4")} == {(50, 66, 3)}


def test_the_colours_stay(tmp_path) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[:] = (200, 40, 90)
    censor_clip(clip([image] * 3), tmp_path / "copy.mp4", {})
    for frame in Clip.open(tmp_path / "copy.mp4"):
        assert np.abs(frame.pixels.astype(int) - image).max() <= 6
