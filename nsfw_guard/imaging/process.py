"""Decoding in a separate process: a file that makes a decoder hang, crash or use too much memory ends only that one.

The process runs `worker`. Requests and answers go through its standard input and output.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import IO, Any

import numpy as np

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.appearances import Frame
from nsfw_guard.imaging.limits import Limits

READY, FRAME, PARTIAL, FAULT, END = b"R", b"F", b"P", b"E", b"."
MAX_TEXT_CHARS = 10_000
START_SECONDS = 60.0  # seconds for a new process to be ready: it has yet to import what it needs
_idle: dict[int, list[_Decoder]] = {}
_lock = threading.Lock()


def decode_in_process(data: bytes, limits: Limits) -> Iterator[Frame | str]:
    """Decode a file in another process and yield its frames; a text among them says why some are left out.

    Raises:
        DecodeError: the file cannot be decoded, or its decoder was ended because it took too long or too much memory.
    """
    decoder = _take(limits)
    done = False
    try:
        yield from decoder.ask(data, limits)
        done = True
    except DecodeError as error:
        done = decoder.is_well
        raise error from None
    finally:
        if done:
            with _lock:
                _idle.setdefault(os.getpid(), []).append(decoder)
        else:
            decoder.end()


def end_all() -> None:
    """End the processes that wait for work; the next file starts a new one."""
    with _lock:
        waiting = _idle.pop(os.getpid(), [])
    for decoder in waiting:
        decoder.end()


atexit.register(end_all)


def _take(limits: Limits) -> _Decoder:
    with _lock:
        waiting = _idle.setdefault(os.getpid(), [])
        for decoder in [d for d in waiting if d.memory == limits.memory]:
            waiting.remove(decoder)
            if decoder.is_well:
                return decoder
            decoder.end()
    return _Decoder(limits.memory)


class _Decoder:
    """One decoder process, and a thread that reads its answers: not every system can wait for a pipe with a timeout."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.fresh = True
        # Only the variables that are needed to find Python's modules.
        keep = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "TMPDIR", "TEMP")
        environment = {name: os.environ[name] for name in keep if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._largest = 0
        self._process = subprocess.Popen(  # noqa: S603 - this very Python and this very module
            [sys.executable, "-m", "nsfw_guard.imaging.worker", str(memory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        self._answers: queue.Queue[tuple[bytes, Any]] = queue.Queue(maxsize=1)
        self._ended = threading.Event()
        threading.Thread(target=self._listen, name="nsfw-guard-decoder", daemon=True).start()

    @property
    def is_well(self) -> bool:
        """True while the process can take another file."""
        return self._process.poll() is None and not self._ended.is_set()

    def ask(self, data: bytes, limits: Limits) -> Iterator[Frame | str]:
        """Yield the answers to one file, within the time limit."""
        if self.fresh:  # the start is not part of the file's time
            self._wait(START_SECONDS, limits)
            self.fresh = False
        self._send(data, limits)
        left, pixels = limits.seconds, limits.total_pixels
        while True:
            start = time.monotonic()
            kind, answer = self._wait(left, limits)
            left -= time.monotonic() - start
            if kind == END:
                return
            if kind == FAULT:
                raise DecodeError(answer)
            if kind == FRAME:
                pixels -= answer.shape[0] * answer.shape[1]
                if pixels < 0:
                    self.end()
                    raise DecodeError("the decoder returned more pixels than the limits allow and was ended")
            yield answer

    def end(self) -> None:
        """End the process."""
        self._ended.set()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                try:
                    pipe.close()
                except OSError:  # what was still to be sent has nowhere to go
                    continue

    def _send(self, data: bytes, limits: Limits) -> None:
        self._largest = limits.pixels
        asked = json.dumps(asdict(replace(limits, process=False))).encode()
        pipe = _pipe(self._process.stdin)
        try:
            pipe.write(struct.pack(">QQ", len(asked), len(data)) + asked)
            pipe.write(data)
            pipe.flush()
        except OSError:
            self.end()
            raise DecodeError("the decoder did not start: check that this Python can start another process") from None

    def _wait(self, seconds: float, limits: Limits) -> tuple[bytes, Any]:
        try:
            kind, answer = self._answers.get(timeout=max(seconds, 0.0))
        except queue.Empty:
            self.end()
            raise DecodeError(
                f"not decoded within {limits.seconds:g} s, so the decoder was ended: make the image smaller, or "
                "raise limits.seconds"
            ) from None
        if kind:
            return kind, answer
        self.end()
        raise DecodeError(
            f"the decoder crashed or took more than {limits.memory} bytes: make the image smaller, or raise "
            "limits.memory"
        )

    def _listen(self) -> None:
        pipe = _pipe(self._process.stdout)
        try:
            while kind := pipe.read(1):
                self._put((kind, _read_answer(pipe, kind, self._largest)))
        except (OSError, ValueError, struct.error):  # the pipe was closed, or holds half an answer
            pass
        self._put((b"", None))

    def _put(self, answer: tuple[bytes, Any]) -> None:
        while not self._ended.is_set():
            try:
                self._answers.put(answer, timeout=1.0)
            except queue.Full:
                continue
            return


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101 - both were asked for
    return pipe


def _read_answer(pipe: IO[bytes], kind: bytes, largest: int) -> Any:
    """One answer. A file may have taken over the process, so its numbers are accepted within bounds only."""
    if kind in {END, READY}:
        return None
    if kind == FRAME:
        height, width = struct.unpack(">LL", pipe.read(8))
        if not 0 < height * width <= largest:
            raise ValueError("a frame beyond the limits")
        frame = np.empty((height, width, 3), np.uint8)
        if pipe.readinto(frame.data.cast("B")) != frame.nbytes:  # type: ignore[attr-defined]
            raise ValueError("an incomplete frame")
        return frame
    (length,) = struct.unpack(">L", pipe.read(4))
    if length > MAX_TEXT_CHARS:
        raise ValueError("a text beyond the limits")
    return pipe.read(length).decode()
