"""The process that `process` starts: it decodes one file after the other, without torch or any model."""

from __future__ import annotations

import json
import os
import struct
import sys
from typing import IO

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.decode import Stream
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.imaging.process import END, FAULT, FRAME, PARTIAL, READY


def serve(memory: int, source: IO[bytes], target: IO[bytes]) -> None:
    """Answer one request after the other until the input ends."""
    _limit(memory)
    target.write(READY)
    target.flush()
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
    """Limit memory and privileges of the process, where the system can."""
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
    serve(int(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer)
