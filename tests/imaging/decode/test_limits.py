"""Limits hold before anything is decoded."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import warnings
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image, PngImagePlugin

import nsfw_guard.imaging.decode as module
from nsfw_guard.errors import ConfigError, DecodeError
from nsfw_guard.imaging.decode import decode
from nsfw_guard.imaging.files.formats import FORMATS, pillow_is_old
from nsfw_guard.imaging.limits import Limits
from tests.attacks.files import exif
from tests.imaging.decode.files import BLUE, MPO, RED, animation, chunk, flat, mended, moving, one, png, saved, shows


@pytest.mark.parametrize(
    ("width", "height", "limit"),
    [
        (60_000, 60_000, "pixels|bomb"),
        (13_300, 13_300, "pixels"),
        (2**31 - 1, 2**31 - 1, "pixels|bomb"),
        (7000, 7000, "pixels"),
        (1, 60_000, "aspect"),
        (2, 40_000, "aspect"),
        (40_000, 2, "aspect"),
        (101, 1, "aspect"),
    ],
)
def test_bombs_are_refused_from_the_header(width: int, height: int, limit: str) -> None:
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(DecodeError, match=limit):
            decode(png(width, height))
    assert time.perf_counter() - started < 0.5


def test_an_image_at_the_limits_passes() -> None:
    one(saved(flat(RED, (100, 1))))
    one(saved(flat(RED, (20, 10))), limits=Limits(pixels=200, total_pixels=500))
    with pytest.raises(DecodeError, match=r"limits\.total_pixels"):
        decode(saved(flat(RED, (20, 10))), limits=Limits(total_pixels=499))
    with pytest.raises(DecodeError):
        decode(saved(flat(RED, (21, 10))), limits=Limits(pixels=200))


def least(source: Any) -> int:
    """The smallest total with which an image is decoded: the work that is booked for it."""
    low, high = 0, 1 << 20
    while high - low > 1:
        middle = (low + high) // 2
        try:
            decode(source(), limits=Limits(total_pixels=middle))
            high = middle
        except DecodeError as error:
            assert "limits.total_pixels" in str(error)  # noqa: PT017
            low = middle
    return high


# Half a look to two looks for decoding, and one for looking: measured by benchmarks/files.py.
LOOKS = {"JPEG": 1.55, "PNG": 2.5, "WEBP": 3.0, "AVIF": 3.0, "BMP": 2.0, "GIF": 2.0, "TIFF": 2.0}


@pytest.mark.parametrize("kind", [k for k in LOOKS if k in FORMATS])
def test_the_work_on_an_image_is_counted_by_its_format(kind: str) -> None:
    data = saved(flat(BLUE, (40, 30)), kind)
    assert least(lambda: data) == 1200 * LOOKS[kind]
    assert least(lambda: Image.open(io.BytesIO(data))) == 1200 * LOOKS[kind]


def test_the_passes_of_a_progressive_jpeg_are_counted() -> None:
    data = saved(flat(BLUE, (40, 30)), "JPEG", progressive=True)
    assert data.count(b"\xff\xda") == 10
    assert least(lambda: data) == 1200 * (1.5 + 10 / 20)


@pytest.mark.skipif(not MPO, reason="this Pillow writes MPO files that it cannot read")
@pytest.mark.parametrize(("progressive", "looks"), [(False, 1.55), (True, 2.0)])
def test_the_frames_of_an_mpo_are_counted_as_jpegs(progressive: bool, looks: float) -> None:
    frames = [flat(BLUE, (160, 125)), flat(RED, (160, 125))]  # each over the least that a frame costs
    data = mended(saved(frames[0], "MPO", save_all=True, append_images=frames[1:], progressive=progressive), 2)
    assert least(lambda: data) == 2 * 20_000 * looks


def test_too_many_frames_are_refused_before_the_first_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = moving([flat((i, 0, 0), (160, 125)) for i in range(40)], "TIFF")
    tiny = moving([flat((i, 0, 0)) for i in range(40)], "TIFF")
    looked_at: list[Any] = []
    appearances = module.appearances
    monkeypatch.setattr(
        module, "appearances", lambda *args, **more: looked_at.append(args) or appearances(*args, **more)
    )
    with pytest.raises(DecodeError, match=r"limits\.total_pixels"):
        decode(data, limits=Limits(total_pixels=40 * 160 * 125 - 1))
    with pytest.raises(DecodeError, match=r"limits\.total_pixels"):
        decode(tiny, limits=Limits(total_pixels=40 * 16_384 - 1))  # what tiny frames cost at the least
    assert looked_at == []


def test_an_image_beside_the_image_that_is_over_a_limit_is_refused() -> None:
    data = saved(flat(BLUE, (20, 20)), "JPEG", exif=b"Exif\0\0" + exif(saved(flat(BLUE, (60, 50)), "JPEG")))
    assert len(decode(data).frames) == 2
    with pytest.raises(DecodeError, match=r"thumbnail: 60x50 has more than 2999 pixels"):
        decode(data, limits=Limits(pixels=2999))


def test_an_animation_over_the_total_is_refused() -> None:
    data = animation("GIF", count=20)
    with pytest.raises(DecodeError, match=r"limits\.total_pixels"):
        decode(data, limits=Limits(total_pixels=20 * 8 * 6 - 1))


def test_pages_over_the_total_are_refused() -> None:
    pages = [flat(BLUE, (200, 200))] * 2
    data = saved(flat(BLUE, (4, 4)), "TIFF", save_all=True, append_images=pages)
    assert len(decode(data, limits=Limits(total_pixels=160_032)).frames) == 2  # the last two are equal
    with pytest.raises(DecodeError, match=r"limits\.total_pixels"):
        decode(data, limits=Limits(total_pixels=160_031))


@pytest.mark.parametrize(("count", "why"), [(20_000, "more than 256 frames"), (500_000, "more than 256 frames")])
def test_a_gif_of_nothing_but_frames_costs_little(count: int, why: str) -> None:
    head = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\0\0\0\xff\xff\xff"
    frame = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\x00"
    started = time.perf_counter()
    with pytest.raises(DecodeError, match=why):
        decode(head + frame * count + b";")
    assert time.perf_counter() - started < 1


def test_a_tiff_that_points_at_itself_ends() -> None:
    data = bytearray(saved(flat(RED, (2, 2)), "TIFF"))
    start = struct.unpack("<I", data[4:8])[0]
    entries = struct.unpack("<H", data[start : start + 2])[0]
    data[start + 2 + 12 * entries : start + 6 + 12 * entries] = struct.pack("<I", start)
    with suppress(DecodeError):
        assert shows(decode(bytes(data)), RED)


def test_text_and_profile_bombs_are_refused() -> None:
    bomb = zlib.compress(b"\0" * 100_000_000, 9)
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "b" * 10)
    assert one(saved(flat(RED), pnginfo=info)).shape == (6, 8, 3)
    rows = (b"\0" + bytes(RED)) * 1
    for extra in (chunk(b"zTXt", b"a\0\0" + bomb), chunk(b"iCCP", b"a\0\0" + bomb)):
        with suppress(DecodeError):
            assert one(png(1, 1, rows, extra=extra))[0, 0].tolist() == [*RED]


class Endless(io.RawIOBase):
    """A file without end, which counts what was taken."""

    taken = 0

    def read(self, size: int = -1) -> bytes:
        assert size > 0
        self.taken += min(size, 4096)
        return b"\0" * min(size, 4096)


def test_files_are_read_up_to_the_limit_only(tmp_path: Path) -> None:
    endless, limits = Endless(), Limits(bytes=10_000)
    with pytest.raises(DecodeError, match=r"limits\.bytes"):
        decode(endless, limits=limits)
    assert endless.taken == 10_001
    path = tmp_path / "big.png"
    path.write_bytes(b"\0" * 10_001)
    for source in (path, path.read_bytes(), bytearray(10_001), memoryview(bytes(20_000))[::2]):
        with pytest.raises(DecodeError):
            decode(source, limits=limits)


@pytest.mark.parametrize(
    "options",
    [
        {"pixels": 0},
        {"pixels": -1},
        {"pixels": 1.5},
        {"pixels": True},
        {"pixels": "9"},
        {"total_pixels": None},
        {"frames": 1},
        {"aspect": 0.5},
        {"aspect": float("nan")},
        {"aspect": float("inf")},
        {"bytes": 0},
        {"seconds": 0},
        {"process": 1},
        {"memory": 0},
    ],
)
def test_limits_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"limits\.{next(iter(options))} must be .*, got "):
        Limits(**options)


@pytest.mark.parametrize(
    ("version", "old"), [("9.5.0", True), ("12.3.0", True), ("13.0.0", False), ("14.1", False), ("?", True)]
)
def test_an_old_pillow_is_recognised(version: str, old: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL, "__version__", version)
    assert pillow_is_old() is old


def test_an_old_pillow_warns_once_and_for_files_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL, "__version__", "12.3.0")
    monkeypatch.setattr(module, "_warned", [])
    data = saved(flat(RED))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decode(flat(RED))
        decode(np.zeros((2, 2, 3), np.uint8))
        assert not caught
        decode(data)
        decode(io.BytesIO(data))
    assert [w.category for w in caught] == [RuntimeWarning]
    assert "pillow>=13.0.0" in str(caught[0].message)
    assert caught[0].filename == __file__


def test_no_torch_is_needed() -> None:
    code = "import sys, nsfw_guard.imaging.decode, nsfw_guard.listeners.audit; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
