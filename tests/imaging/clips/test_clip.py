"""A clip is read whole, in every way that players show it, or not at all."""

from __future__ import annotations

import base64
import builtins
import contextlib
import io
import random
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("av")

import av

from nsfw_guard.errors import ConfigError, DecodeError, MissingExtraError
from nsfw_guard.imaging.clips.clip import CLIP_LIMITS, Clip, ClipFrame, ClipSampling
from nsfw_guard.imaging.limits import Limits
from tests.imaging.clips.drawing import KINDS, SIZE, clip, drawn, whole

COUNT = 12
FAST = {"movflags": "faststart"}


@pytest.fixture(scope="module")
def clips() -> dict[str, bytes]:
    plain = {kind: clip(drawn(COUNT), kind, options={"g": "6"}) for kind in KINDS}
    return plain | {
        "fast": clip(drawn(COUNT), container=FAST),
        "sound": clip(drawn(COUNT), sound="aac", container=FAST),
    }


def patched(data: bytes, kind: bytes, at: int, value: bytes, *, last: bool = False) -> bytes:
    """The file with other bytes, so far behind the name of a box."""
    place = (data.rindex(kind) if last else data.index(kind)) + 4 + at
    return data[:place] + value + data[place + len(value) :]


# What is not whole.


@pytest.mark.parametrize("kind", [*KINDS, "fast", "sound"])
def test_a_clip_that_was_cut_anywhere_is_an_error(clips, kind) -> None:
    data = clips[kind]
    for cut in sorted({1, 4, 8, 40, *range(60, len(data), max(1, len(data) // 40)), len(data) - 1}):
        with pytest.raises(DecodeError):
            whole(data[:cut])


@pytest.mark.parametrize("kind", [*KINDS, "fast"])
def test_a_damaged_clip_is_an_error_or_has_all_of_its_frames(clips, kind) -> None:
    data, errors = clips[kind], 0
    for seed in range(60):
        rng = random.Random(seed)
        bad = bytearray(data)
        for _ in range(rng.choice((1, 1, 4, 30))):
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        try:
            assert len(whole(bytes(bad))) >= COUNT
        except DecodeError:
            errors += 1
    assert errors > 20


@pytest.mark.parametrize("kind", ["webm", "mkv", "fast"])
def test_a_clip_with_a_hole_in_the_middle_is_an_error(clips, kind) -> None:
    """ffmpeg's Matroska reader looks for the next part that it knows, and goes on in silence.

    Zeros over the notes of an encoder change no image.
    """
    data, plain = clips[kind], whole(clips[kind])
    for start in range(len(data) // 3, 2 * len(data) // 3, 50):
        with contextlib.suppress(DecodeError):
            assert np.array_equal(whole(data[:start] + bytes(100) + data[start + 100 :]), plain)
        with pytest.raises(DecodeError):
            whole(data[:start] + data[start + 100 :])


def test_a_block_that_belongs_to_no_track_is_an_error(clips) -> None:
    """Every reader passes over it, also our own, if it did not ask."""
    data = clips["webm"]
    with av.open(io.BytesIO(data)) as container:
        last = [bytes(packet) for packet in container.demux(video=0) if packet.size][-1]
    place = data.rindex(last) - 6  # name, size, track, two bytes of time, flags
    assert data[place : place + 3 : 2] == b"\xa3\x81"
    for at, new, message in (
        (2, b"\x85", "a block of the track 5"),
        (0, b"\xa5", "the element A5 among"),
        (0, b"\xa7", "the element A7"),
    ):
        with pytest.raises(DecodeError, match=message):
            Clip.open(data[: place + at] + new + data[place + at + 1 :])


def test_a_clip_that_ends_before_its_header_says_is_an_error(clips) -> None:
    longer = patched(clips["fast"], b"mvhd", 16, (60_000).to_bytes(4, "big"))
    with pytest.raises(DecodeError, match=r"its header says 60\.00 s, but it ends after 0\.5. s"):
        whole(longer)
    place = clips["webm"].index(b"\x44\x89\x88") + 3
    longer = clips["webm"][:place] + np.array([9000.0], ">f8").tobytes() + clips["webm"][place + 8 :]
    with pytest.raises(DecodeError, match=r"its header says 9\.00 s, but it ends after 0\.5. s"):
        whole(longer)


def test_a_million_frames_are_refused_before_one_is_decoded(clips) -> None:
    million = (1_000_000).to_bytes(4, "big")
    data = patched(clips["fast"], b"stsz", 8, million)
    with pytest.raises(DecodeError, match="claims 1000000 samples, more than the file can hold"):
        Clip.open(data)
    same_size = patched(patched(data, b"stsz", 4, (1).to_bytes(4, "big")), b"stts", 8, million)
    with pytest.raises(DecodeError, match="claims 1000000 samples, more than the file can hold"):
        Clip.open(same_size)
    with pytest.raises(DecodeError, match="more than 10000: cut it into parts, or raise limits"):
        Clip.open(same_size + (1_000_008).to_bytes(4, "big") + b"free" + bytes(1_000_000))


def test_times_for_other_than_the_samples_are_refused(clips) -> None:
    with pytest.raises(DecodeError, match="times for 13 samples and sizes for 12"):
        Clip.open(patched(clips["fast"], b"stts", 8, (13).to_bytes(4, "big")))


def test_absurd_sizes_are_refused_before_a_pixel_is_decoded(clips) -> None:
    huge = patched(clips["fast"], b"avc1", 24, b"\xff\xff\xff\xff", last=True)
    with pytest.raises(DecodeError, match="65535x65535 has more than 40000000 pixels"):
        Clip.open(huge)
    width = clips["webm"].index(b"\xb0\x81\x40\xba\x81\x30")  # 64 x 48, one byte each
    for value, message in ((b"\xb0\x81\x01\xba\x81\xff", "aspect"), (b"\xb0\x81\x00\xba\x81\x30", "has no size")):
        with pytest.raises(DecodeError, match=message):
            Clip.open(clips["webm"][:width] + value + clips["webm"][width + 6 :])


def test_a_size_that_the_images_do_not_have_is_an_error(clips) -> None:
    with pytest.raises(DecodeError, match=r"a frame of 64x48 .* in a clip of 64x80"):
        whole(patched(clips["fast"], b"avc1", 26, (80).to_bytes(2, "big"), last=True))


def test_a_size_that_changes_in_the_middle_is_an_error() -> None:
    """Two VP9 streams, one after the other in one track."""
    file = io.BytesIO()
    with av.open(file, "w", format="webm") as out:
        stream = out.add_stream("libvpx-vp9", rate=24)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for image in drawn(4):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        out.mux(stream.encode())
        with av.open(io.BytesIO(clip(drawn(4, (96, 80)), "webm"))) as other:
            for packet in other.demux(video=0):
                if packet.size:
                    packet.pts = packet.dts = packet.pts + 200
                    packet.stream = stream
                    out.mux(packet)
    with pytest.raises(DecodeError, match=r"a frame of 96x80 .* in a clip of 64x48"):
        whole(file.getvalue())


@pytest.mark.parametrize("data", [b"GIF89a" + bytes(100), b"\x89PNG\r\n\x1a\n" + bytes(50), b"RIFF" + bytes(50)])
def test_other_files_are_named_as_such(data) -> None:
    with pytest.raises(DecodeError, match="neither an MP4, MOV, WebM nor Matroska file"):
        Clip.open(data)


def test_a_playlist_never_leads_to_another_file(tmp_path) -> None:
    (tmp_path / "clip.mp4").write_bytes(clip(drawn(2)))
    with pytest.raises(DecodeError, match="neither an MP4"):
        Clip.open(f"ffconcat version 1.0\nfile {tmp_path / 'clip.mp4'}\n".encode())


# What players show differently.


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"soun", b"sbtl", "a clip with subtitles is not supported"),
        (b"soun", b"text", "a clip with a track of text"),
        (b"soun", b"auxv", "a track for transparency or depth"),
        (b"soun", b"vide", "a clip with 2 tracks of images"),
        (b"vide", b"soun", "a clip with 0 tracks of images"),
        (b"edts", b"matt", "a clip with a mask"),
        (b"edts", b"clip", "a clip with a clipping region"),
        (b"edts", b"abcd", "a clip with the box 'abcd'"),
        (b"btrt", b"clap", r"a crop for display \(clap\)"),
        (b"btrt", b"st3d", r"two views \(3D\)"),
        (b"btrt", b"mdcv", "a clip with HDR"),
        (b"avc1", b"encv", "a clip with encryption"),
        (b"avc1", b"png ", "images of the kind 'png '"),
        (b"free", b"pnot", "a clip with a preview image"),
        (b"isomiso2", b"heiciso2", "an image file .* is no clip"),
    ],
)
def test_what_players_may_show_differently_is_refused_by_name(clips, old, new, message) -> None:
    data = clips["sound"]
    place = data.rindex(old) if old == b"avc1" else data.index(old)
    with pytest.raises(DecodeError, match=message):
        Clip.open(data[:place] + new + data[place + len(old) :])


def test_fragments_are_refused_by_name() -> None:
    data = clip(drawn(4), container={"movflags": "frag_keyframe+empty_moov"})
    with pytest.raises(
        DecodeError, match="a clip with fragments is not supported: copy it into a new file with `ffmpeg"
    ):
        Clip.open(data)


def test_a_live_recording_is_refused_by_name() -> None:
    data = clip(drawn(4), "webm", container={"live": "1"})
    with pytest.raises(DecodeError, match=r"\(a live recording\) is not supported"):
        Clip.open(data)


def test_a_cover_image_is_refused_by_name() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        if not hasattr(out, "add_attachment"):
            pytest.skip("this PyAV writes no attachments")
        out.add_attachment("cover.png", "image/png", b"\x89PNG\r\n\x1a\n" + bytes(20))
        for image in drawn(2):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        out.mux(stream.encode())
    with pytest.raises(DecodeError, match="attachments, such as a cover image"):
        Clip.open(file.getvalue())


def test_a_cover_image_in_the_notes_of_an_mp4_is_refused_by_name(tmp_path) -> None:
    if not hasattr(av.stream, "Disposition"):
        pytest.skip("this PyAV writes no covers")
    with av.open(str(tmp_path / "clip.mp4"), "w") as out:
        streams = out.add_stream("libx264", rate=24), out.add_stream("png", rate=1)
        streams[1].disposition = av.stream.Disposition.attached_pic
        for stream, pixels in zip(streams, ("yuv420p", "rgb24"), strict=True):
            stream.width, stream.height, stream.pix_fmt = *SIZE, pixels
        for stream in streams:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(drawn(1)[0], "rgb24")))
            out.mux(stream.encode())
    with pytest.raises(DecodeError, match=r"an image in its notes \(a cover or a thumbnail\)"):
        whole((tmp_path / "clip.mp4").read_bytes())


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_a_thumbnail_in_the_notes_is_refused_by_name(kind) -> None:
    jpeg = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(200)).decode()
    with pytest.raises(DecodeError, match=r"an image in its notes \(a cover or a thumbnail\)"):
        Clip.open(clip(drawn(2), kind, metadata={"comment": jpeg}))


def test_vp8_images_that_are_never_shown_are_no_fault(clips) -> None:
    """VP8 keeps some for prediction; a bit in their first byte says so, and the decoder gives no frame for them."""
    data = clips["vp8"]
    with av.open(io.BytesIO(data)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    place = data.index(packets[3])
    assert data[place] & 0x10
    video = Clip.open(data[:place] + bytes([data[place] & ~0x10]) + data[place + 1 :])
    assert (video.frames, len(list(video))) == (COUNT, COUNT - 1)


def test_a_second_stream_of_images_is_refused() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="webm") as out:
        streams = [out.add_stream("libvpx-vp9", rate=24) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for stream in streams:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(drawn(1)[0], "rgb24")))
            out.mux(stream.encode())
    with pytest.raises(DecodeError, match="a clip with 2 tracks of images"):
        Clip.open(file.getvalue())


@pytest.mark.parametrize(("kind", "codec"), [("webm", "libvpx-vp9"), ("vp8", "libvpx")])
def test_transparency_is_refused_by_name(kind, codec) -> None:
    images = [np.dstack([image, np.full(image.shape[:2], 90, np.uint8)]) for image in drawn(3)]
    data = clip(images, kind, codec=codec, pixels="yuva420p", options={"auto-alt-ref": "0"})
    with pytest.raises(DecodeError, match="transparency"):
        Clip.open(data)
    flag = data.index(b"\x53\xc0\x81\x01")  # the header no longer says so, but the blocks have it
    with pytest.raises(DecodeError, match="transparency or other additions"):
        Clip.open(data[: flag + 3] + b"\0" + data[flag + 4 :])


@pytest.mark.parametrize(
    ("transfer", "primaries", "message"),
    [
        (16, 9, r"HDR \(PQ\)"),
        (18, 9, r"HDR \(HLG\)"),
        (8, 1, "linear light"),
        (1, 9, "colours beyond"),
        (9, 1, "number 9"),
    ],
)
def test_colours_beyond_standard_video_are_refused_by_name(transfer, primaries, message) -> None:
    def setup(stream) -> None:
        stream.codec_context.color_trc, stream.codec_context.color_primaries = transfer, primaries

    with pytest.raises(DecodeError, match=message):
        whole(clip(drawn(2), setup=setup))


def test_odd_formats_of_pixels_are_refused_by_name() -> None:
    with pytest.raises(DecodeError, match="pixels in the format 'yuv440p'"):
        whole(clip(drawn(2), "webm", pixels="yuv440p"))


def test_what_an_edit_list_hides_is_shown(clips) -> None:
    """Players that follow the list begin with the seventh frame; the others with the first one."""
    data = clip(drawn(COUNT), options={"bf": "0", "g": "1"})
    place = data.index(b"elst") + 4
    scale = int.from_bytes(data[data.index(b"mdhd") + 16 :][:4], "big")
    begin = (scale * 6 // 24).to_bytes(4, "big")
    hidden = data[: place + 12] + begin + data[place + 16 :]
    with av.open(io.BytesIO(hidden)) as container:
        assert len(list(container.decode(video=0))) == 6
    assert len(whole(hidden)) == COUNT


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((0, 1, -1, 0), lambda a: np.rot90(a, -1)),
        ((-1, 0, 0, -1), lambda a: np.rot90(a, 2)),
        ((0, -1, 1, 0), np.rot90),
        ((-1, 0, 0, 1), lambda a: a[:, ::-1]),
        ((1, 0, 0, -1), lambda a: a[::-1]),
        ((0, 1, 1, 0), lambda a: a.swapaxes(0, 1)),
    ],
)
def test_a_turned_clip_is_shown_turned_and_as_it_is_stored(clips, matrix, turn) -> None:
    a, b, c, d = (int(v * 65536).to_bytes(4, "big", signed=True) for v in matrix)
    turned = patched(clips["fast"], b"tkhd", 40, a + b + bytes(4) + c + d)
    frames = list(Clip.open(turned))
    plain = whole(clips["fast"])
    assert [(f.index, f.way) for f in frames] == [(i, way) for i in range(COUNT) for way in (0, 1)]
    for frame in frames:
        expected = plain[frame.index] if frame.way else turn(plain[frame.index])
        assert np.array_equal(frame.pixels, expected)
        assert frame.pixels.flags["C_CONTIGUOUS"]


def test_an_oblique_rotation_is_refused_by_name(clips) -> None:
    turned = patched(clips["fast"], b"tkhd", 40, (46341).to_bytes(4, "big"))
    with pytest.raises(DecodeError, match="a rotation by less than a quarter turn, or a scale"):
        whole(turned)


def test_pixels_that_are_not_square_are_shown_stretched_and_as_stored() -> None:
    def setup(stream) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)

    shapes = [pixels.shape for pixels in whole(clip(drawn(2), setup=setup))]
    assert shapes == [(48, 128, 3), (48, 64, 3)] * 2

    def thin(stream) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(1, 9)

    with pytest.raises(DecodeError, match=r"pixels of 0\.111:1"):
        whole(clip(drawn(2), setup=thin))


def test_each_field_of_interlaced_frames_is_shown() -> None:
    """Every other row is another image: together they look like neither."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[::2] = 255
    data = clip([image] * 2, options={"x264-params": "interlaced=1", "crf": "1"}, pixels="yuv444p")
    woven, even, odd = whole(data)[:3]
    assert 100 < woven.mean() < 150
    assert even.mean() > 245
    assert odd.mean() < 10
    assert woven.shape == even.shape == odd.shape


# Limits.


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(bytes=1000), "bytes"),
        (Limits(frames=11), "12 frames are more than 11: cut it into parts, or raise limits.frames"),
        (Limits(pixels=1000), "64x48 has more than 1000 pixels"),
        (Limits(total_pixels=64 * 48 * 12 - 1), "raise limits.total_pixels"),
        (Limits(total_pixels=64 * 48 * 20), "raise limits.total_pixels"),
    ],
)
def test_a_clip_beyond_the_limits_is_an_error(clips, limits, message) -> None:
    with pytest.raises(DecodeError, match=message):
        whole(clips["mp4"], limits=limits)


def test_decoding_ends_when_its_time_is_spent() -> None:
    data = clip(drawn(200, (640, 480)))
    with pytest.raises(DecodeError, match=r"takes more than 0\.05 s to decode"):
        whole(data, limits=Limits(seconds=0.05, total_pixels=10**9))


def test_a_process_of_its_own_is_refused_rather_than_forgotten(clips) -> None:
    with pytest.raises(ConfigError, match="clips are not decoded in a process of their own"):
        Clip.open(clips["mp4"], limits=Limits(process=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nth": 0}, "nth must be a whole number of at least 1"),
        ({"nth": True}, "nth must be a whole number"),
        ({"per_second": 0}, "per_second must be a number above 0"),
        ({"per_second": float("nan")}, "per_second must be a number above 0"),
        ({"nth": 2, "per_second": 1}, "choose one of them"),
    ],
)
def test_senseless_samplings_are_refused(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        ClipSampling(**settings)


def test_without_the_library_the_error_says_what_to_install(clips, monkeypatch) -> None:
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "av":
            raise ImportError("no av")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"av is not installed: run `pip install 'nsfw-guard\[video\]'`"):
        Clip.open(clips["mp4"])


# What is read.


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_of_every_format_is_read_in_order(clips, kind) -> None:
    video = Clip.open(clips[kind])
    frames = list(video)
    assert (video.width, video.height, video.frames, video.partial) == (64, 48, COUNT, "")
    assert video.seconds == pytest.approx(COUNT / 24, abs=0.002)
    assert [frame.index for frame in frames] == list(range(COUNT))
    assert [frame.seconds for frame in frames] == pytest.approx([i / 24 for i in range(COUNT)], abs=0.001)
    for frame, image in zip(frames, drawn(COUNT), strict=True):
        assert frame.pixels.dtype == np.uint8
        assert np.abs(frame.pixels.astype(int) - image).mean() < 3


@pytest.mark.parametrize("source", ["path", "bytes", "file"])
def test_a_clip_comes_from_a_path_bytes_or_a_file(clips, tmp_path, source) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clips["mp4"])
    given = {"path": path, "bytes": clips["mp4"], "file": io.BytesIO(clips["mp4"])}[source]
    video = Clip.open(given)
    assert [len(list(video)), len(list(video))] == [COUNT, COUNT]


def test_sound_gives_no_frames(clips) -> None:
    assert len(whole(clips["sound"])) == COUNT


@pytest.mark.parametrize(
    ("every", "indices", "partial"),
    [
        (ClipSampling(nth=5), [0, 5, 10], "only every 5. frame"),
        (ClipSampling(per_second=8), [0, 3, 6, 9], "only 8 frames a second"),
        (ClipSampling(nth=1), list(range(COUNT)), ""),
    ],
)
def test_a_sampling_says_what_is_left_out(clips, every, indices, partial) -> None:
    video = Clip.open(clips["mp4"], every=every)
    assert [frame.index for frame in video] == indices
    assert video.partial == partial


def test_a_sampled_clip_is_still_read_to_its_end(clips) -> None:
    data = clips["fast"]
    with pytest.raises(DecodeError):
        whole(data[:-40] + bytes(40), every=ClipSampling(nth=100))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("matrix", "label"), [("bt709", 1), ("smpte170m", 6), ("none", 2)])
def test_colours_are_read_by_the_matrix_that_the_clip_names(matrix, label, full) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[:] = (200, 40, 90)

    def setup(stream) -> None:
        stream.codec_context.colorspace = label
        stream.codec_context.color_range = 2 if full else 1

    frame = av.VideoFrame.from_ndarray(image, "rgb24")
    to, other = (1, 5) if label == 1 else (5, 1)  # of two equal ones, PyAV before 16 takes no notice
    ends = {"src_color_range": 2, "dst_color_range": 2 if full else 1}
    target = frame.reformat(format="yuv444p", src_colorspace=other, dst_colorspace=to, **ends)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=24, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        setup(stream)
        out.mux(stream.encode(target))
        out.mux(stream.encode())
    (pixels,) = whole(file.getvalue())
    assert np.abs(pixels.astype(int) - image).max() <= 3, matrix


def test_the_full_range_is_read_as_such() -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, 32:] = 255
    (pixels,) = whole(clip([image], pixels="yuvj420p"))
    assert pixels[:, :28].max() <= 2
    assert pixels[:, 36:].min() >= 253


def test_memory_does_not_grow_with_the_length() -> None:
    peaks = []
    for count in (8, 80):
        data = clip(drawn(count, (320, 240)))
        tracemalloc.start()
        for frame in Clip.open(data):
            assert isinstance(frame, ClipFrame)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2 * 320 * 240 * 3


def test_the_usual_limits_take_a_minute_of_full_hd() -> None:
    assert CLIP_LIMITS.total_pixels > 2 * 1920 * 1080 * 30 * 60
    assert CLIP_LIMITS.frames > 60 * 60
