"""Every frame is judged, wherever it is."""

from __future__ import annotations

import io
import struct
import time

import pytest
from PIL import Image

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.decode import Decoded, decode
from nsfw_guard.imaging.limits import Limits
from tests.imaging.decode.files import ANIMATED, BLUE, RED, animation, chunk, drawn, flat, moving, saved, shows


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("kind", ANIMATED)
def test_a_frame_is_seen_wherever_it_is(kind: str, at: int) -> None:
    decoded = decode(animation(kind, at=at))
    assert len(decoded.frames) == 6
    assert decoded.partial == ""
    assert shows(decoded, RED, tolerance=12)
    assert [bool(shows(Decoded((f,)), RED, tolerance=12)) for f in decoded.frames].index(True) == at


@pytest.mark.parametrize("kind", ANIMATED)
def test_an_animation_over_the_frame_limit_is_refused_or_partial(kind: str) -> None:
    for at in (0, 19):
        data = animation(kind, count=20, at=at)
        with pytest.raises(DecodeError, match=r"more than 4 (frames|pages): .*limits\.frames"):
            decode(data, limits=Limits(frames=4))
        decoded = decode(data, limits=Limits(frames=4, unseen="review"))
        assert decoded.partial == "4 of 20 frames"
        assert len(decoded.frames) == 4
        assert shows(decoded, RED, tolerance=12)


FEW = Limits(frames=5, unseen="review")


def test_frames_are_sampled_evenly() -> None:
    frames = [Image.new("L", (3, 3), i) for i in range(101)]
    decoded = decode(saved(frames[0], "TIFF", save_all=True, append_images=frames[1:]), limits=FEW)
    assert [int(f[0, 0, 0]) for f in decoded.frames] == [0, 25, 50, 75, 100]
    for count in range(2, 34):
        exact = decode(saved(frames[0], "TIFF", save_all=True, append_images=frames[1:count]), limits=Limits(frames=33))
        assert [int(f[0, 0, 0]) for f in exact.frames] == list(range(count))


@pytest.mark.parametrize("at", [1, 200, 255])
def test_every_frame_up_to_the_limit_is_looked_at(at: int) -> None:
    frames = [Image.new("L", (8, 8), i % 200) for i in range(256)]
    frames[at] = Image.new("L", (8, 8), 255)
    decoded = decode(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert decoded.partial == ""
    assert shows(decoded, (255, 255, 255))


def test_a_gif_of_3000_frames_is_refused_or_partial_and_quick() -> None:
    frames = [Image.new("L", (8, 8), i % 250) for i in range(3000)]
    frames[-1] = Image.new("L", (8, 8), 255)
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    started = time.perf_counter()
    with pytest.raises(DecodeError, match="more than 256 frames"):
        decode(data)
    decoded = decode(data, limits=Limits(unseen="review", seconds=60))
    assert time.perf_counter() - started < 8
    assert decoded.partial == "256 of 3000 frames"
    assert shows(decoded, (255, 255, 255))


def test_frames_that_repeat_are_looked_at_once() -> None:
    data = moving([flat(RED), flat(BLUE), flat(RED), flat(BLUE)], "PNG")
    assert [f[0, 0].tolist() for f in decode(data).frames] == [list(RED), list(BLUE)]


def test_the_default_image_of_an_apng_is_seen() -> None:
    rest = [flat((0, i, 9)) for i in range(3)]
    data = saved(flat(RED), save_all=True, append_images=rest, default_image=True)
    assert shows(decode(data), RED)
    assert len(decode(data).frames) == 4


def test_an_apng_that_counts_fewer_frames_than_it_has_is_refused() -> None:
    data = animation("PNG", count=3, at=2)
    for said in (1, 2):
        at = data.index(b"acTL")
        control = chunk(b"acTL", struct.pack(">II", said, 0))
        lying = data[: at - 4] + control + data[at + 16 :]
        for source in (lying, Image.open(io.BytesIO(lying))):
            with pytest.raises(DecodeError, match=f"3 frames, but its header counts {said}"):
                decode(source)
            decoded = decode(source, limits=Limits(unseen="review"))
            assert decoded.partial == f"{said} of 3 frames"


def test_pages_may_differ_in_size_and_mode() -> None:
    pages = [flat(BLUE, (4, 4)), flat((5,), (10, 2), "L"), drawn("RGBA", (0, 0, 0, 255), (*RED, 0))]
    decoded = decode(saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    assert [f.shape[:2] for f in decoded.frames] == [(4, 4), (2, 10), (8, 8), (8, 8), (8, 8)]
    assert shows(decoded, RED)


def test_a_later_page_beyond_the_limits_is_refused() -> None:
    for size in ((300, 2), (60, 60)):
        data = saved(flat(BLUE, (4, 4)), "TIFF", save_all=True, append_images=[flat(BLUE, size)])
        with pytest.raises(DecodeError, match=r"limits\.(aspect|pixels)"):
            decode(data, limits=Limits(pixels=3000))


def test_a_later_gif_frame_that_widens_the_canvas_is_checked() -> None:
    head = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\0\0\0\xff\xff\xff"
    small = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\x00"
    wide = b"\x2c\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x44\x01\x00"
    with pytest.raises(DecodeError):
        decode(head + small + wide + small + b";")
