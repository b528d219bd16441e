"""Decoding in a process of its own: a file that makes a decoder hang, crash or swell ends that process and no other.

`python -m nsfw_guard.imaging.process` is that process; it knows neither torch nor any model. Requests and answers go
through its standard input and output.
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

FRAME, PARTIAL, FAULT, END = b"F", b"P", b"E", b"."
STARTING = 60.0  # seconds for the first answer of a new process: it has yet to import what it needs
_idle: dict[int, list[_Decoder]] = {}
_lock = threading.Lock()


def decode_in_process(data: bytes, limits: Limits) -> Iterator[Frame | str]:
    """The frames of a file; a text among them says why they are not all of it.

    Raises:
        DecodeError: the file is at fault, or its decoder was ended because it was late or took too much.
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
    """Ends the processes that wait for work; the next file starts a new one."""
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
    """One such process, and a thread that reads its answers, since a pipe cannot be waited for everywhere."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.fresh = True
        # Nothing of this process but what it takes to find Python's modules.
        keep = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "TMPDIR", "TEMP")
        environment = {name: os.environ[name] for name in keep if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._process = subprocess.Popen(  # noqa: S603 - this very Python and this very module
            [sys.executable, "-m", "nsfw_guard.imaging.process", str(memory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        self._answers: queue.Queue[tuple[bytes, Any]] = queue.Queue(maxsize=1)
        self._ended = threading.Event()
        threading.Thread(target=self._listen, name="nsfw-guard-decoder", daemon=True).start()

    @property
    def is_well(self) -> bool:
        """Whether it may be asked again."""
        return self._process.poll() is None and not self._ended.is_set()

    def ask(self, data: bytes, limits: Limits) -> Iterator[Frame | str]:
        """The answers to one file, each in time."""
        self._send(data, limits)
        left, pixels = limits.seconds + (STARTING if self.fresh else 0.0), limits.total_pixels
        while True:
            start = time.monotonic()
            kind, answer = self._wait(left, limits)
            left = (limits.seconds if self.fresh else left) - (0.0 if self.fresh else time.monotonic() - start)
            self.fresh = False
            if kind == END:
                return
            if kind == FAULT:
                raise DecodeError(answer)
            if kind == FRAME:
                pixels -= answer.shape[0] * answer.shape[1]
                if pixels < 0:
                    self.end()
                    raise DecodeError("its decoder gave more than was asked for: it was ended")
            yield answer

    def end(self) -> None:
        """Ends the process."""
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
        asked = json.dumps(asdict(replace(limits, process=False))).encode()
        pipe = _pipe(self._process.stdin)
        try:
            pipe.write(struct.pack(">QQ", len(asked), len(data)) + asked)
            pipe.write(data)
            pipe.flush()
        except OSError:
            self.end()
            raise DecodeError("its decoder did not start: look whether this Python can start another one") from None

    def _wait(self, seconds: float, limits: Limits) -> tuple[bytes, Any]:
        try:
            kind, answer = self._answers.get(timeout=max(seconds, 0.0))
        except queue.Empty:
            self.end()
            raise DecodeError(
                f"not decoded within {limits.seconds:g} s: its decoder was ended. Make it smaller, or "
                "raise limits.seconds"
            ) from None
        if kind:
            return kind, answer
        self.end()
        raise DecodeError(
            f"its decoder ended: it crashed, or took more than {limits.memory} bytes. Make it smaller, or raise "
            "limits.memory"
        )

    def _listen(self) -> None:
        pipe = _pipe(self._process.stdout)
        try:
            while kind := pipe.read(1):
                self._put((kind, _read_answer(pipe, kind)))
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


def _read_answer(pipe: IO[bytes], kind: bytes) -> Any:
    if kind == END:
        return None
    if kind == FRAME:
        height, width = struct.unpack(">LL", pipe.read(8))
        frame = np.empty((height, width, 3), np.uint8)
        if pipe.readinto(frame.data.cast("B")) != frame.nbytes:  # type: ignore[attr-defined]
            raise ValueError("half a frame")
        return frame
    (length,) = struct.unpack(">L", pipe.read(4))
    return pipe.read(length).decode()


def _serve(memory: int, source: IO[bytes], target: IO[bytes]) -> None:
    """What the other process does: one file after the other, until nobody asks any more."""
    from nsfw_guard.imaging.decode import Stream

    _limit(memory)
    while len(head := source.read(16)) == 16:
        asked, size = struct.unpack(">QQ", head)
        limits, data = Limits(**json.loads(source.read(asked))), source.read(size)
        try:
            stream = Stream(data, limits=limits)
            for frame in stream:
                target.write(FRAME + struct.pack(">LL", *frame.shape[:2]))
                target.write(frame.data.cast("B"))
            target.write(_text(PARTIAL, stream.partial) if stream.partial else b"")
            target.write(END)
        except DecodeError as error:
            target.write(_text(FAULT, str(error)))
        target.flush()


def _text(kind: bytes, text: str) -> bytes:
    encoded = text.encode()
    return kind + struct.pack(">L", len(encoded)) + encoded


def _limit(memory: int) -> None:
    """Takes away what a decoder never needs, where the system can."""
    try:
        import resource
    except ImportError:  # Windows: time is limited from outside, memory is not
        return
    with open("/proc/self/statm", encoding="ascii") if os.path.exists("/proc/self/statm") else open(os.devnull) as file:
        pages = file.read().split()
    base = int(pages[0]) * resource.getpagesize() if pages else 0
    if base:
        resource.setrlimit(resource.RLIMIT_AS, (base + memory, base + memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer)
