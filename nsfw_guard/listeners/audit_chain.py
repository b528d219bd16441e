"""The chain of an audit log, and its check: every line carries the hash of the one before, so that no line can be
changed, dropped, moved or put in unseen.
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

_LONGEST = 1 << 20  # bytes of a line: a file without line ends must not be read into memory whole
_NAMED = 100  # faults that a report names; the rest is counted


@dataclass(frozen=True)
class Head:
    """Where a log stood: how many lines, and the hash of the last. Keep it elsewhere to see later that none went."""

    count: int = 0
    hash: str = ZEROS

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Head:
        """Return the head that is stored beside the log `path`, in `<path>.head`."""
        return cls._in(f"{os.fspath(path)}.head", "no head beside the log", "verify against a head kept elsewhere")

    @classmethod
    def kept(cls, file: str | os.PathLike[str]) -> Head:
        """Return the head in a file that was kept elsewhere: a copy of `<path>.head`."""
        return cls._in(file, "the kept head cannot be read", "give a copy of the file <log>.head")

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
    """What `verify` found: whole lines, where the log stands, and every fault with its line."""

    lines: int
    head: Head
    faults: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True only when nothing is wrong."""
        return not self.faults


@dataclass(frozen=True)
class Line:
    """A whole line: its number, the hash before it, its own, and the bytes that this one is of."""

    n: int
    prev: str
    hash: str
    body: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Line | None:
        """Return the line in these bytes, or None when they hold no whole one."""
        try:
            record = json.loads(raw)
            n, prev, line_hash = record["n"], record["prev"], record["hash"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        if not (isinstance(n, int) and isinstance(prev, str) and isinstance(line_hash, str)):
            return None
        # The bytes as they stand are hashed: what a parser would overlook (a key given twice, spaces) counts too.
        tail = f',"hash":"{line_hash}"}}'.encode("utf-8", "replace")
        return cls(n, prev, line_hash, raw[: -len(tail)] + b"}") if raw.endswith(tail) else cls(n, prev, "", raw)


def verify(path: str | os.PathLike[str], *, key: bytes | None = None, head: Head | None = None) -> AuditReport:
    """Read a log through and name every fault: lines changed, missing, moved, put in or torn; another key.

    Args:
        path: the log, while nobody writes to it.
        key: what it was written with.
        head: where the log stood when somebody looked last: a cut tail and a rewritten file show too. Lines that were
            appended since are no fault.

    Raises:
        AuditError: when the file cannot be read at all.
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
        raise AuditError(f"the log cannot be read ({describe_error(error)}): check the path and its rights") from error
    if lines > 1 and unfit == lines:
        faults = ["no line fits the key: give the one that the log was written with, or none if it had none"]
    elif more:
        faults.append(f"and {more} more")
    if head is not None and at.count < head.count:
        faults.append(f"cut off: the log ends at line {at.count}, the kept head says {head.count}")
    return AuditReport(lines, at, tuple(faults))


def open_regular(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """Opens a file that is itself what its name says: no link to another one, no pipe, no device.

    Raises:
        AuditError: it is something else. Whoever can write into the folder could lead the log into another file, or
            into a pipe that swallows it.
    """
    name = os.path.basename(os.fspath(path))
    check_regular(path, flags)
    # Without waiting for the other end of a pipe that came there meanwhile; of no effect on a file.
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
    """Check the same before it is opened, where there is something already."""
    with contextlib.suppress(FileNotFoundError):
        _regular(os.lstat(path), os.path.basename(os.fspath(path)), flags)


_NO_LINK = "{!r} is a link: the audit log, its lock and its head must be files of their own. Give the file itself"


def _regular(status: os.stat_result, name: str, flags: int) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise AuditError(_NO_LINK.format(name))
    if not stat.S_ISREG(status.st_mode):
        raise AuditError(f"{name!r} is a folder, a pipe or a device: the audit needs a regular file, give another path")
    # A second name is harmless to who only reads: backups are kept so.
    if flags & (os.O_WRONLY | os.O_RDWR) and status.st_nlink > 1:
        raise AuditError(
            f"{name!r} has {status.st_nlink} names (hard links): what is written there is written elsewhere "
            "too. Copy it to a file of its own"
        )


def _breaks(line: Line | None, at: Head, head: Head | None, *, fits: bool) -> Iterator[str]:
    if line is None:
        # The chain goes on past it, so nothing that was ever written whole is missing: a crash looks like this.
        yield "torn, or no line of this log"
        return
    if not fits:
        yield "changed, its hash does not fit"
    if line.n > at.count + 1:
        yield f"missing before it: {at.count + 1} to {line.n - 1}"
    elif line.n <= at.count:
        yield f"out of order or put in: it is number {line.n} and stands after {at.count}"
    elif line.prev != at.hash:
        yield "does not follow from the line before it: one of them was replaced"
    if head is not None and line.n == head.count and line.hash != head.hash:
        yield "not the line that the kept head names: the log was rewritten"


def digest(key: bytes | None, data: bytes) -> str:
    """Return SHA-256 of `data` in hex; with a key its HMAC."""
    return hmac.new(key, data, "sha256").hexdigest() if key else hashlib.sha256(data).hexdigest()


def describe_error(error: BaseException) -> str:
    """Return what went wrong, in a few words and without a path."""
    # an OSError's own text carries the whole path
    return (isinstance(error, OSError) and error.strerror) or f"{type(error).__name__}: {error}"[:120]
