"""The bytes of a file, from wherever it comes, within a limit; what a decoder reads them through."""

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
_strict: list[bool] = []  # one entry a decoder at work; the first one remembers what the process had set


class Reader(io.BytesIO):
    """Bytes that may be read so many times only: a file of millions of empty frames is built to waste time."""

    left = _MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes."""
        self.left -= 1
        if self.left < 0:
            raise DecodeError("made of too many tiny pieces: save it anew with fewer frames")
        return super().read(size)


@contextmanager
def whole_files_only() -> Iterator[None]:
    """Let Pillow refuse files that are cut off, whatever the rest of the process has set, for as long as this
    lasts.
    """
    with _lock:
        _strict.append(ImageFile.LOAD_TRUNCATED_IMAGES)
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    changed = False
    try:
        yield
    finally:
        with _lock:
            changed = bool(ImageFile.LOAD_TRUNCATED_IMAGES)  # by another thread, which is to find it as it set it
            before = _strict[0] or changed
            _strict[0] = before
            # The first entry stays until the last decoder has gone.
            _strict.pop() if len(_strict) > 1 else _strict.clear()
            ImageFile.LOAD_TRUNCATED_IMAGES = before if not _strict else False
    if changed:
        raise DecodeError("Pillow was told to accept cut files while this one was decoded: set it before, or never")


def _after_fork() -> None:
    """A child has none of the decoders that were at work: it finds Pillow as the process had set it."""
    if _strict:
        ImageFile.LOAD_TRUNCATED_IMAGES = _strict[0]
        _strict.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
    os.register_at_fork(after_in_child=_after_fork)


def read_bytes(source: Any, most: int) -> bytes:
    """Return the bytes of a path, of bytes, or of a file object from where it stands.

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
        raise DecodeError(f"{type(source).__name__} is no picture: give a path, bytes, a file, a PIL picture or array")
    if len(data) > most:
        raise DecodeError(f"more than {most} bytes: make it smaller, or raise limits.bytes")
    if not data:
        raise DecodeError("an empty file: save the picture again")
    return data


def bytes_behind(picture: Image.Image, most: int) -> bytes | None:
    """Return the bytes of the file that a PIL picture was opened from, where it can still be read; it is left as it
    was.
    """
    for read in (_from_stream, _from_name):
        try:
            data = read(picture, most)
            if data:
                with Image.open(io.BytesIO(data)) as again:  # a picture keeps other streams than its file as well
                    same = again.format == picture.format and again.size == picture.size
                if same:
                    return data
        except Exception:  # noqa: BLE001, S112 - no way back in a stream, a file that is gone: the next way, or none
            continue
    return None


def _from_stream(picture: Image.Image, most: int) -> bytes | None:
    stream = getattr(picture, "fp", None) or getattr(picture, "_fp", None)
    if stream is None or getattr(stream, "closed", True):
        return None
    here = stream.tell()
    try:
        stream.seek(0)
        data = stream.read(most + 1)
    finally:
        stream.seek(here)
    return data if isinstance(data, bytes) and len(data) <= most else None


def _from_name(picture: Image.Image, most: int) -> bytes | None:
    name = getattr(picture, "filename", "")
    data = _read_path(os.fspath(name), most) if name else b""
    return data if len(data) <= most else None


def _read_path(path: str, most: int) -> bytes:
    # Never its name: what is wrong with a picture stands in logs, and names of files tell of people.
    try:
        # A pipe or a device would hang or never end.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DecodeError("the path leads to no regular file: give that of a picture")
        with open(path, "rb") as file:
            return _drain(file, most)
    except (OSError, ValueError) as error:
        if isinstance(error, DecodeError):
            raise
        # `from None`: the cause would carry the whole path into logs
        raise DecodeError(f"the file cannot be read ({describe_error(error)}): check the path and its rights") from None


def _drain(file: Any, most: int) -> bytes:
    parts: list[bytes] = []
    missing = most + 1
    while missing > 0:  # raw files and sockets may hand over less than asked for
        part = file.read(missing)
        if not isinstance(part, bytes):
            raise DecodeError(f"the file gave {type(part).__name__}, not bytes: open it in binary mode")
        if not part:
            break
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def describe_error(error: BaseException) -> str:
    """Return what went wrong, in a line: the kind of error and the beginning of its text."""
    # An OSError's own text carries the whole path; other texts may echo what stands in the file.
    text = (isinstance(error, OSError) and error.strerror) or str(error)
    return ascii(f"{type(error).__name__}: {text}")[1:-1][:120]
