"""Reads the bytes of a file from any source, within a limit, and the reader for decoders."""

from __future__ import annotations

import io
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image, ImageFile

from nsfw_guard.errors import DecodeError

_MAX_READS = 2_000_000  # the most reads that a file may take: a 64 MB GIF takes 1,000,000 in two passes
_lock = threading.Lock()
_strict: list[bool] = []  # one entry per decoder at work; the first one keeps the setting of the process


class Reader(io.BytesIO):
    """Bytes with a limit on the number of reads: a file of millions of empty frames would waste time."""

    left = _MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """Read the next bytes."""
        self.left -= 1
        if self.left < 0:
            raise DecodeError("the file has too many small blocks: save it again with fewer frames")
        return super().read(size)


@contextmanager
def whole_files_only() -> Iterator[None]:
    """Make Pillow refuse truncated files within this context, whatever the process has set."""
    with _lock:
        _strict.append(ImageFile.LOAD_TRUNCATED_IMAGES)
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    changed = False
    try:
        yield
    finally:
        with _lock:
            changed = bool(ImageFile.LOAD_TRUNCATED_IMAGES)  # by another thread; its setting is kept
            before = _strict[0] or changed
            _strict[0] = before
            # The first entry stays until the last decoder has gone.
            _strict.pop() if len(_strict) > 1 else _strict.clear()
            ImageFile.LOAD_TRUNCATED_IMAGES = before if not _strict else False
    if changed:
        raise DecodeError("Pillow's LOAD_TRUNCATED_IMAGES was set while this file was decoded: set it before, or never")


def _after_fork() -> None:
    """Restore Pillow's setting in a forked child, where no decoder is at work."""
    if _strict:
        ImageFile.LOAD_TRUNCATED_IMAGES = _strict[0]
        _strict.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
    os.register_at_fork(after_in_child=_after_fork)


def read_bytes(source: Any, most: int) -> bytes:
    """Read the bytes of a path, of bytes, or of a file object from its current position.

    Raises:
        DecodeError: there are more than `most`, none, or they cannot be read.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(memoryview(source).cast("B")[: most + 1])
    elif isinstance(source, (str, os.PathLike)):
        data = _read_path(os.fspath(source), most)
    elif hasattr(source, "read"):
        data = _drain(source, most)
    else:
        raise DecodeError(
            f"{type(source).__name__} is not an image: pass a path, bytes, a file, a PIL image or an array"
        )
    if len(data) > most:
        raise DecodeError(f"more than {most} bytes: make it smaller, or raise limits.bytes")
    if not data:
        raise DecodeError("the file is empty: save the image again")
    return data


def bytes_behind(image: Image.Image, most: int) -> bytes | None:
    """Return the bytes of the file of a PIL image, if it can still be read; its position is kept."""
    for read in (_from_stream, _from_name):
        try:
            data = read(image, most)
            if data:
                with Image.open(io.BytesIO(data)) as again:  # an image keeps other streams than its file as well
                    same = again.format == image.format and again.size == image.size
                if same:
                    return data
        except Exception:  # noqa: BLE001, S112 - no way back in a stream, a file that is gone: the next way, or none
            continue
    return None


def _from_stream(image: Image.Image, most: int) -> bytes | None:
    stream = getattr(image, "fp", None) or getattr(image, "_fp", None)
    if stream is None or getattr(stream, "closed", True):
        return None
    here = stream.tell()
    try:
        stream.seek(0)
        data = stream.read(most + 1)
    finally:
        stream.seek(here)
    return data if isinstance(data, bytes) and len(data) <= most else None


def _from_name(image: Image.Image, most: int) -> bytes | None:
    name = getattr(image, "filename", "")
    data = _read_path(os.fspath(name), most) if name else b""
    return data if len(data) <= most else None


def _read_path(path: str, most: int) -> bytes:
    # Never its name: errors are logged, and file names may identify people.
    try:
        # Reading a pipe or a device may hang or never end.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DecodeError("the path is not a regular file: pass the path of an image file")
        with open(path, "rb") as file:
            return _drain(file, most)
    except (OSError, ValueError) as error:
        if isinstance(error, DecodeError):
            raise
        # `from None`: the cause contains the whole path
        raise DecodeError(
            f"the file cannot be read ({describe_error(error)}): check the path and its permissions"
        ) from None


def _drain(file: Any, most: int) -> bytes:
    parts: list[bytes] = []
    missing = most + 1
    while missing > 0:  # raw files and sockets may return less than requested
        part = file.read(missing)
        if not isinstance(part, bytes):
            raise DecodeError(
                f"reading the file returned {type(part).__name__}, expected bytes: open it in binary mode"
            )
        if not part:
            break
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def describe_error(error: BaseException) -> str:
    """Return an error in one line: its type and the beginning of its text."""
    # An OSError's own text contains the whole path; other texts may repeat the content of the file.
    text = (isinstance(error, OSError) and error.strerror) or str(error)
    return ascii(f"{type(error).__name__}: {text}")[1:-1][:120]
