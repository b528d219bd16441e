"""The hash chain of an audit log and its verification: every line contains the hash of the line before, so that
changing, dropping, moving or inserting a line is noticed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from nsfw_guard.errors import AuditError

ZEROS = "0" * 64

_LONGEST = 1 << 20  # bytes of a line: a file without line ends must not fill the memory
_NAMED = 100  # faults that a report names; the others are counted


@dataclass(frozen=True)
class Head:
    """The number of lines in a log and the hash of the last one. A copy kept elsewhere shows if lines were removed."""

    count: int = 0
    hash: str = ZEROS

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Head:
        """Read the head that is stored beside the log `path`, in `<path>.head`."""
        return cls._in(
            f"{os.fspath(path)}.head", "the head beside the log cannot be read", "verify against a head kept elsewhere"
        )

    @classmethod
    def kept(cls, file: str | os.PathLike[str]) -> Head:
        """Read the head from a file that was kept elsewhere, a copy of `<path>.head`."""
        return cls._in(file, "the kept head cannot be read", "pass a copy of the file <log>.head")

    @classmethod
    def _in(cls, file: str | os.PathLike[str], fault: str, cure: str) -> Head:
        try:
            with open(file, encoding="ascii", opener=open_regular) as opened:
                head = json.load(opened)
            return cls(int(head["count"]), str(head["hash"]))
        except AuditError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AuditError(f"{fault} ({describe_error(error)}): {cure}") from error


@dataclass(frozen=True)
class AuditReport:
    """The result of `verify`: the number of valid lines, the head of the log, and every fault with its line."""

    lines: int
    head: Head
    faults: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True when no fault was found."""
        return not self.faults


@dataclass(frozen=True)
class Line:
    """A complete line: its number, the hash of the line before, its own hash, and the bytes that were hashed."""

    n: int
    prev: str
    hash: str
    body: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Line | None:
        """Return the line in these bytes, or None where they are not a complete line."""
        try:
            record = json.loads(raw)
            n, prev, line_hash = record["n"], record["prev"], record["hash"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        if not (isinstance(n, int) and isinstance(prev, str) and isinstance(line_hash, str)):
            return None
        # The raw bytes are hashed, so that changes a parser overlooks (a repeated key, spaces) are noticed.
        tail = f',"hash":"{line_hash}"}}'.encode("utf-8", "replace")
        return cls(n, prev, line_hash, raw[: -len(tail)] + b"}") if raw.endswith(tail) else cls(n, prev, "", raw)


def verify(path: str | os.PathLike[str], *, key: bytes | None = None, head: Head | None = None) -> AuditReport:
    """Read a log and report every fault: lines changed, missing, moved, inserted or torn, or another key.

    Args:
        path: the log, while no process writes to it.
        key: the key that it was written with.
        head: an earlier head of the log, to notice a truncated or rewritten file. Lines appended since then are not a
            fault.

    Raises:
        AuditError: the file cannot be read.
    """
    faults: list[str] = []
    at, lines, unfit, more = Head(), 0, 0, 0
    try:
        with open(path, "rb", opener=open_regular) as file:
            for number, raw in enumerate(iter(lambda: file.readline(_LONGEST), b""), 1):
                line = Line.parse(raw.rstrip(b"\n"))
                fits = line is not None and line.hash == digest(key, line.body)
                breaks = list(_breaks(line, at, head, fits=fits))
                more += max(0, len(faults) + len(breaks) - _NAMED)
                faults += [f"line {number}: {what}" for what in breaks][: _NAMED - len(faults)]
                if line is not None:
                    at, lines, unfit = Head(line.n, line.hash), lines + 1, unfit + (not fits)
    except AuditError:
        raise
    except OSError as error:
        raise AuditError(
            f"the log cannot be read ({describe_error(error)}): check the path and its permissions"
        ) from error
    if lines > 1 and unfit == lines:
        faults = ["no line fits the key: pass the key that the log was written with, or none if it had none"]
    elif more:
        faults.append(f"and {more} more")
    if head is not None and at.count < head.count:
        faults.append(f"truncated: the log ends at line {at.count}, the kept head at line {head.count}")
    return AuditReport(lines, at, tuple(faults))


def open_regular(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """Open a regular file, not a link, a pipe or a device.

    Raises:
        AuditError: it is not a regular file. Anyone who can write into the folder could otherwise redirect the log to
            another file or discard it into a pipe.
    """
    name = os.path.basename(os.fspath(path))
    check_regular(path, flags)
    # Never waits, should a pipe have been put there; without effect on a file.
    safe = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        fd = os.open(path, flags | safe, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise AuditError(_NO_LINK.format(name)) from error
        raise
    try:
        _regular(os.fstat(fd), name, flags)
    except AuditError:
        os.close(fd)
        raise
    return fd


def check_regular(path: str | os.PathLike[str], flags: int = os.O_RDWR) -> None:
    """Check the same before opening, where the path exists."""
    with contextlib.suppress(FileNotFoundError):
        _regular(os.lstat(path), os.path.basename(os.fspath(path)), flags)


_NO_LINK = (
    "{!r} is a link: the audit log, its lock and its head must be regular files. Pass the path of the file itself"
)


def _regular(status: os.stat_result, name: str, flags: int) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise AuditError(_NO_LINK.format(name))
    if not stat.S_ISREG(status.st_mode):
        raise AuditError(f"{name!r} is a folder, a pipe or a device: the audit needs a regular file, pass another path")
    # A second name is harmless when reading: some backups are hard links.
    if flags & (os.O_WRONLY | os.O_RDWR) and status.st_nlink > 1:
        raise AuditError(
            f"{name!r} has {status.st_nlink} hard links, so the log would be written to another file too: copy it to a "
            "new file"
        )


def _breaks(line: Line | None, at: Head, head: Head | None, *, fits: bool) -> Iterator[str]:
    if line is None:
        # A crash leaves such a line. The chain continues after it, so no complete line is missing.
        yield "torn, or not a line of this log"
        return
    if not fits:
        yield "changed: its hash does not match its content"
    if line.n > at.count + 1:
        yield f"lines {at.count + 1} to {line.n - 1} before it are missing"
    elif line.n <= at.count:
        yield f"out of order or inserted: it has number {line.n} and follows number {at.count}"
    elif line.prev != at.hash:
        yield "it does not contain the hash of the line before: one of the two was replaced"
    if head is not None and line.n == head.count and line.hash != head.hash:
        yield "its hash differs from the kept head: the log was rewritten"


def digest(key: bytes | None, data: bytes) -> str:
    """Return the SHA-256 of `data` in hex, or its HMAC with a key."""
    return hmac.new(key, data, "sha256").hexdigest() if key else hashlib.sha256(data).hexdigest()


def describe_error(error: BaseException) -> str:
    """Return an error in a few words and without a path."""
    # an OSError's own text contains the whole path
    return (isinstance(error, OSError) and error.strerror) or f"{type(error).__name__}: {error}"[:120]
