"""A decoder in a process of its own: the same frames, and an end for what hangs, swells or crashes."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.errors import DecodeError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging import process
from nsfw_guard.imaging.decode import Stream, decode
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.testing import FakeBackend
from nsfw_guard.verdict import Outcome
from tests.imaging.decode.files import flat, saved
from tests.threads import in_threads

OWN = Limits(process=True, seconds=30)


FILE = saved(flat((200, 30, 90), (9, 7)))


def large(side: int) -> bytes:
    return saved(flat((200, 30, 90), (side, side)), compress_level=1)


@pytest.fixture(autouse=True)
def _no_process_stays():
    yield
    process.end_all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
def test_the_frames_are_the_same(kind: str) -> None:
    data = saved(flat((200, 30, 90), (9, 7)), kind)
    here, there = decode(data), decode(data, limits=OWN)
    assert len(here.frames) == len(there.frames) == 1
    assert np.array_equal(here.frames[0], there.frames[0])
    assert there.frames[0].flags.writeable


def test_partial_and_faults_come_through() -> None:
    frames = [Image.new("RGB", (4, 4), (i, 0, 0)) for i in range(9)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "TIFF", save_all=True, append_images=frames[1:])
    few = Limits(process=True, seconds=30, frames=3, unseen="review")
    decoded = decode(buffer.getvalue(), limits=few)
    assert decoded.partial == "3 of 9 frames"
    assert [int(f[0, 0, 0]) for f in decoded.frames] == [0, 4, 8]
    with pytest.raises(DecodeError, match="not a readable JPEG"):
        decode(b"no image", limits=OWN)


def test_a_new_process_has_no_more_time_for_its_first_file_than_others() -> None:
    slow = large(6000)
    start = time.monotonic()
    with pytest.raises(DecodeError, match=r"not decoded within 0\.02 s"):
        decode(slow, limits=Limits(process=True, seconds=0.02))
    started = time.monotonic() - start
    start = time.monotonic()
    with pytest.raises(DecodeError, match=r"not decoded within 0\.02 s"):
        decode(slow, limits=Limits(process=True, seconds=0.02))
    assert max(started, time.monotonic() - start) < 20  # starting, no more; it was a minute and the whole file
    assert len(decode(FILE, limits=OWN).frames) == 1


def test_one_process_decodes_file_after_file() -> None:
    decode(FILE, limits=OWN)
    (decoder,) = process._idle[os.getpid()]
    with pytest.raises(DecodeError):
        decode(b"no image", limits=OWN)
    decode(FILE, limits=OWN)
    assert process._idle[os.getpid()] == [decoder]


def test_a_file_that_takes_too_long_ends_its_process_and_no_other() -> None:
    decode(FILE, limits=OWN)  # it has started: only the file counts from here on
    (decoder,) = process._idle[os.getpid()]
    slow = large(5000)
    start = time.monotonic()
    with pytest.raises(DecodeError, match=r"not decoded within 0\.01 s.*limits\.seconds"):
        decode(slow, limits=Limits(process=True, seconds=0.01))
    assert time.monotonic() - start < 2
    assert not decoder.is_well
    assert len(decode(FILE, limits=OWN).frames) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there is memory limited")
def test_a_file_that_takes_too_much_memory_is_an_error() -> None:
    slow = large(6000)
    with pytest.raises(DecodeError, match=r"MemoryError|limits\.memory"):
        decode(slow, limits=Limits(process=True, seconds=30, memory=50_000_000))


def test_a_decoder_that_dies_is_an_error_and_the_next_file_gets_another() -> None:
    decode(FILE, limits=OWN)
    (decoder,) = process._idle[os.getpid()]
    decoder._process.kill()
    decoder._process.wait()
    assert len(decode(FILE, limits=OWN).frames) == 1
    (other,) = [d for d in process._idle[os.getpid()] if d.is_well]
    assert other is not decoder


@pytest.mark.parametrize("sides", [(60_000, 60_000), (2**32 - 1, 2**32 - 1), (0, 5)])
def test_a_decoder_that_claims_a_frame_beyond_the_limits_is_ended(sides, monkeypatch, tmp_path) -> None:
    """A file may have taken it over: its numbers are not memory that is asked for."""
    taken_over = tmp_path / "decoder"
    answer = b"F" + struct.pack(">LL", *sides)
    taken_over.write_text(f"#!{sys.executable}\nimport sys, time\nsys.stdout.buffer.write({answer!r})\n"
                          "sys.stdout.flush()\ntime.sleep(60)\n")  # fmt: skip
    taken_over.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(taken_over))
    started = time.monotonic()
    with pytest.raises(DecodeError, match="the decoder crashed"):
        decode(FILE, limits=OWN)
    assert time.monotonic() - started < 20


def test_a_stream_that_is_left_early_ends_its_process() -> None:
    frames = [Image.new("RGB", (400, 400), (i, 0, 0)) for i in range(60)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "TIFF", save_all=True, append_images=frames[1:])
    frames_of = iter(Stream(buffer.getvalue(), limits=OWN))
    next(frames_of)
    frames_of.close()
    assert process._idle.get(os.getpid(), []) == []


def test_a_guard_reports_the_process_and_judges_the_same() -> None:
    guard = Guard(FakeBackend(), limits=OWN)
    verdicts = guard.check([saved(flat((255, 0, 0))), saved(flat((0, 0, 255))), b"junk", Image.new("RGB", (4, 4))])
    assert [v.outcome for v in verdicts] == [Outcome.BLOCK, Outcome.ALLOW, Outcome.ERROR, Outcome.ALLOW]
    assert guard.state["decoder"] == "a process of its own"
    assert "decoder" not in Guard(FakeBackend()).state


def test_threads_have_a_decoder_each() -> None:
    results: list[int] = []
    data = [saved(flat((i, 0, 0))) for i in range(4)]
    in_threads(lambda i: results.append(int(decode(data[i], limits=OWN).frames[0][0, 0, 0])), 4)
    assert sorted(results) == [0, 1, 2, 3]


def test_the_other_process_knows_no_torch_and_none_of_this_ones_secrets() -> None:
    decode(FILE, limits=OWN)
    (decoder,) = process._idle[os.getpid()]
    status = f"/proc/{decoder._process.pid}"
    if not os.path.exists(status):
        pytest.skip("no /proc here")
    with open(f"{status}/maps", encoding="utf-8") as maps, open(f"{status}/environ", "rb") as environment:
        assert "libtorch" not in maps.read()
        names = {entry.partition(b"=")[0] for entry in environment.read().split(b"\0") if entry}
    assert names <= {b"PATH", b"PYTHONPATH", b"LD_LIBRARY_PATH", b"TMPDIR", b"LC_CTYPE"}


def test_the_process_ends_with_its_parent() -> None:
    code = (
        "import os\nfrom nsfw_guard.imaging import process\nfrom nsfw_guard.imaging.decode import decode\n"
        "from nsfw_guard.imaging.limits import Limits\n"
        f"decode({FILE!r}, limits=Limits(process=True, seconds=30))\n"
        "print(process._idle[os.getpid()][0]._process.pid)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(ran.stdout), 0)
