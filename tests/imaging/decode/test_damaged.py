"""Truncated, mutated and foreign files: refused or whole, never half."""

from __future__ import annotations

import io
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import nsfw_guard.imaging.decode as module
from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.decode import decode
from nsfw_guard.imaging.files.formats import FORMATS
from nsfw_guard.imaging.limits import Limits
from tests.imaging.decode.files import ANIMATED, MPO, RED, animation, arrow, flat, moving, noise, png, saved


@pytest.mark.parametrize("kind", [k for k in ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "BMP") if k in FORMATS])
def test_a_cut_file_never_passes_with_pixels_missing(kind: str) -> None:
    image = Image.fromarray(noise(40, 40, 3))
    data = saved(image, kind)
    whole = decode(data).frames[0]
    for percent in range(0, 100, 5):
        try:
            decoded = decode(data[: len(data) * percent // 100])
        except DecodeError:
            continue
        assert percent == 95, f"{percent} % passed"
        np.testing.assert_array_equal(decoded.frames[0], whole)


@pytest.mark.skipif(not MPO, reason="this Pillow writes MPO files that it cannot read")
@pytest.mark.parametrize("half", [0, 1, 2])
@pytest.mark.parametrize("opened", [io.BytesIO, lambda data: Image.open(io.BytesIO(data))])
def test_each_image_of_an_mpo_is_there_whole(opened: Any, half: int) -> None:
    frames = [Image.fromarray(noise(64, 64, 3, seed=i)) for i in range(3)]
    data = moving(frames, "MPO")
    assert len(decode(opened(data)).frames) == 3
    starts = [at for at in range(len(data)) if data[at : at + 3] == b"\xff\xd8\xff"]
    start, end = starts[half], [*starts[1:], len(data)][half]
    middle = (start + end) // 2
    lacking = data[:middle] + b"\xff\xd9" + bytes(end - middle - 2) + data[end:]
    assert len(lacking) == len(data)
    with pytest.raises(DecodeError, match="incomplete"):
        decode(opened(lacking))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_a_cut_animation_gives_whole_frames_or_nothing(kind: str) -> None:
    frames = [Image.fromarray(noise(24, 24, seed=i)) for i in range(4)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    whole = [f.tobytes() for f in decode(data).frames]
    for percent in range(0, 100, 5):
        try:
            decoded = decode(data[: len(data) * percent // 100])
        except DecodeError:
            continue
        assert [f.tobytes() for f in decoded.frames] == whole[: len(decoded.frames)]


@pytest.mark.parametrize(
    "source",
    [
        b"",
        bytearray(),
        b"\0",
        b"NaN or infinite",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"P6 2 2 255\n" + b"\0" * 12,  # a real PPM, but not on the list
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"GIF89a",
        b"II*\0\x08\0\0\0",
        png(0, 5),
        png(5, 0),
        b"BM" + b"\0" * 60,
        b"GIF89a\0\0\0\0\x80\0\0\0\0\0\xff\xff\xff\x2c\0\0\0\0\0\0\0\0\0\x02\x02\x44\x01\0;",
        None,
        7,
        [],
        io.StringIO("text"),
        io.BytesIO(),
        "",
        "no such file",
        "nul\0byte",
    ],
)
def test_data_that_is_not_an_image_is_refused(source: Any) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(source)
    assert str(caught.value)


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "EPS", "PCX", "JPEG2000", "PDF", "ICNS", "SGI", "DDS"])
def test_formats_that_are_not_listed_are_refused(kind: str) -> None:
    with pytest.raises(DecodeError, match=r"save it (as|in)"):
        decode(saved(flat(RED, (16, 16)), kind))


class Broken(io.RawIOBase):
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def read(self, size: int = -1) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    "answer", [OSError("gone"), ValueError("closed"), RuntimeError(), MemoryError(), None, "text", 7]
)
def test_a_file_object_that_fails_is_a_decode_error(answer: Any) -> None:
    with pytest.raises(DecodeError):
        decode(Broken(answer))


def test_paths_that_are_not_files_are_refused_without_naming_them(tmp_path: Path) -> None:
    secret = tmp_path / "secret-folder"
    secret.mkdir()
    (secret / "empty.png").touch()
    paths = [secret, secret / "missing.png", secret / "empty.png", secret / "a" / "b.png"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(secret / "pipe.png")
        paths.append(secret / "pipe.png")
    for path in [*paths, Path(os.devnull)]:
        with pytest.raises(DecodeError) as caught:
            decode(path)
        assert str(tmp_path) not in str(caught.value)
        assert caught.value.__cause__ is None or str(tmp_path) not in str(caught.value.__cause__)


def test_messages_hold_no_control_characters(tmp_path: Path) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(tmp_path / "line\nbreak\x1b[31m.png")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "error",
    [
        Image.DecompressionBombError("x"),
        SyntaxError("x"),
        MemoryError(),
        ZeroDivisionError(),
        RecursionError(),
        OSError("/home/x"),
    ],
)
def test_whatever_pillow_raises_is_a_decode_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(module.Image, "open", fail)
    with pytest.raises(DecodeError, match="save it again"):
        decode(b"data")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"II*\0", b"MM\0*", b"BM", b"RIFF"]),
    st.binary(max_size=300),
)
def test_random_bytes_are_decoded_or_refused(start: bytes, data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(DecodeError):
            assert decode(start + data).frames


MUTANTS = {kind: animation(kind, count=2, at=1) for kind in ANIMATED} | {
    "JPEG": saved(arrow(), "JPEG"),
    "BMP": saved(arrow(), "BMP"),
}


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(MUTANTS)),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_mutated_files_are_decoded_or_refused(kind: str, edits: list[tuple[float, int]]) -> None:
    data = bytearray(MUTANTS[kind])
    for where, value in edits:
        data[int(where * len(data))] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            decoded = decode(bytes(data), limits=Limits(pixels=1_000_000))
        except DecodeError:
            return
    assert all(f.dtype == np.uint8 and f.ndim == 3 and f.shape[2] == 3 and f.flags.c_contiguous for f in decoded.frames)
