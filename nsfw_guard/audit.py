"""A log of every verdict that can be checked later: one JSON line each, chained by hashes, never pixels or prompts.

A line that is changed, dropped, moved or put in breaks the chain; with a key nobody else can mend it, and with a kept
head a cut tail shows too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any, Literal

from nsfw_guard.chain import AuditReport, Head, Line, digest, short, verify
from nsfw_guard.errors import AuditError, ConfigError
from nsfw_guard.verdict import Verdict

__all__ = ["Audit", "AuditReport", "Head", "verify"]

SCHEMA = 1
LONGEST = 400  # characters of a text: what a model or a user named may be as long as they like

_DECIDED = ("outcome", "reason", "category", "severity", "score", "cut", "view", "scores")
_BY = ("model", "revision", "policy", "policy_hash", "requested", "state")
_PATIENCE = 10.0  # seconds to wait for the lock: a stopped process must not stop every other one for ever
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, default=str).encode
_log = logging.getLogger(__name__)


class Audit:
    """Appends a line for each verdict; safe with several threads and processes on one file.

    Args:
        path: the log. Beside it stand `<path>.lock` and `<path>.head`.
        key: makes the hashes HMACs, so that only who has the key can write or mend a line, and a picture that
            somebody knows cannot be found by its bare hash.
        on_failure: `stop` raises AuditError when a line cannot be written; `warn` logs it and counts it in `lost`.
        fsync: waits for the disk after every call: nothing written is lost when the power goes.
        clock: seconds since 1970.
    """

    wants_digests = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        key: bytes | None = None,
        on_failure: Literal["stop", "warn"] = "stop",
        fsync: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = os.path.abspath(os.fspath(path))
        if on_failure not in {"stop", "warn"}:
            raise ConfigError(f"on_failure is {on_failure!r}: say 'stop' or 'warn'")
        if key is not None and not (isinstance(key, bytes) and key):
            raise ConfigError("the audit key must be bytes that are not empty: give 32 random bytes, or None")
        if os.path.isdir(self.path) or not os.path.isdir(os.path.dirname(self.path)):
            raise ConfigError("the audit log cannot be there: give a file in a folder that exists")
        self.on_failure = on_failure
        self.fsync = fsync
        self.clock = clock
        self.lost = 0
        self._key = key
        self._files: dict[int, _Files] = {}

    def __call__(self, verdicts: Sequence[Verdict]) -> None:
        """Write one line for each verdict, in order.

        Raises:
            AuditError: with `on_failure="stop"`, when not every line is surely written.
        """
        if not verdicts:
            return
        # Per process: a lock that a fork copied is held for ever, and a file lock is shared with the parent.
        files = self._files.setdefault(os.getpid(), _Files(self.path))
        try:
            records = [self._record(verdict) for verdict in verdicts]
            with files.locked():
                self._append(files, records)
        except Exception as error:  # a listener has one way to fail, whatever broke: the disk, the clock, a verdict
            why = f"the audit log cannot be written ({short(error)}): check the disk and the rights of the file"
            why = str(error) if isinstance(error, AuditError) else why
            if self.on_failure == "stop":
                raise AuditError(why) from error
            missed = len(verdicts)
            self.lost += missed
            _log.warning("%s; verdicts not written so far: %d", why, self.lost)

    def close(self) -> None:
        """Close the files; the next call opens them again."""
        for files in (self._files.pop(pid, None) for pid in list(self._files)):
            if files:
                files.close()

    def __getstate__(self) -> dict[str, Any]:
        # locks and open files stay in their process
        return {**vars(self), "_files": {}}

    def _record(self, verdict: Verdict) -> dict[str, Any]:
        whole = verdict.to_dict()
        record = {name: _plain(whole[name]) for name in (*_DECIDED, *_BY)}
        picture = whole["digest"]
        record["picture"] = digest(self._key, picture.encode()) if picture and self._key else picture
        record["schema"] = SCHEMA
        record["time"] = datetime.fromtimestamp(self.clock(), timezone.utc).isoformat(timespec="microseconds")
        return record

    def _append(self, files: _Files, records: list[dict[str, Any]]) -> None:
        head, torn = files.end(self._key)
        lines = ["\n"] if torn else []
        for record in records:
            body = _encode({**record, "n": head.count + 1, "prev": head.hash})
            head = Head(head.count + 1, digest(self._key, body.encode("ascii")))
            lines.append(f'{body[:-1]},"hash":"{head.hash}"}}\n')
        files.append("".join(lines).encode("ascii"), head, self.fsync)


class _Files:
    """The log, its lock and its head, as one process has them open. Everything but `locked` needs the lock."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.threads = threading.Lock()
        self.lock = self.log = self.beside = self.size = -1
        self.head = Head()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        if not self.threads.acquire(timeout=_PATIENCE):
            raise AuditError("the audit log is held by another thread: look for one that hangs")
        try:
            if not _same(self.lock, f"{self.path}.lock"):
                self.lock = _reopen(self.lock, f"{self.path}.lock", 0)
            _file_lock(self.lock)
            try:
                self.open()
                yield
            finally:
                _file_unlock(self.lock)
        finally:
            self.threads.release()

    def open(self) -> None:
        if not _same(self.log, self.path):
            self.size = -1
            self.log = _reopen(self.log, self.path, os.O_APPEND)
        if not _same(self.beside, f"{self.path}.head"):
            self.size = -1
            self.beside = _reopen(self.beside, f"{self.path}.head", 0)

    def end(self, key: bytes | None) -> tuple[Head, bool]:
        """Where the log stands, and whether its last line is torn. Read anew unless only this process wrote."""
        size = os.fstat(self.log).st_size
        if size == self.size:
            return self.head, False
        head, torn = self.last(size, key)
        if os.fstat(self.beside).st_size:
            kept = Head.read(self.path)
            if kept.count > head.count or (kept.count == head.count and kept.hash != head.hash):
                raise AuditError(
                    f"the log ends at line {head.count}, its head at {kept.count}: it was cut or replaced. "
                    "Verify it, then move log and head away to begin a new one"
                )
        return head, torn

    def last(self, size: int, key: bytes | None) -> tuple[Head, bool]:
        tail, start, torn = b"", size, False
        while start > 0:
            step = min(max(8192, len(tail)), start)
            start -= step
            os.lseek(self.log, start, os.SEEK_SET)
            tail = os.read(self.log, step) + tail
            torn = not tail.endswith(b"\n")
            # without its beginning the first piece says nothing
            whole = tail.split(b"\n") if start == 0 else tail.split(b"\n")[1:]
            for raw in reversed(whole):
                line = Line.parse(raw)
                if line is not None:
                    if line.hash != digest(key, line.body):
                        raise AuditError("the log's last line does not fit the key: give the key it was written with")
                    return Head(line.n, line.hash), torn
        return Head(), torn

    def append(self, data: bytes, head: Head, fsync: bool) -> None:
        size = os.fstat(self.log).st_size
        try:
            done = 0
            while done < len(data):
                done += os.write(self.log, data[done:])
        except OSError:
            # A full disk leaves half a line; where the file allows it, take that back.
            with contextlib.suppress(OSError):
                os.ftruncate(self.log, size)
            raise
        if fsync:
            os.fsync(self.log)
        # In place and of one length: inside one sector that is as whole as a rename, which costs 1 ms on ext4.
        os.lseek(self.beside, 0, os.SEEK_SET)
        os.write(self.beside, f'{{"count":{head.count},"hash":"{head.hash}"}}'.ljust(119).encode() + b"\n")
        if fsync:
            os.fsync(self.beside)
        self.size, self.head = size + len(data), head

    def close(self) -> None:
        with self.threads:
            for fd in (self.lock, self.log, self.beside):
                if fd >= 0:
                    os.close(fd)
            self.lock = self.log = self.beside = self.size = -1


def _same(fd: int, path: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return fd >= 0 and os.path.samestat(os.stat(path), os.fstat(fd))
    return False


def _reopen(fd: int, path: str, flags: int) -> int:
    # A log that was moved away together with its head (rotated) is begun anew where it stood.
    new = os.open(path, _FLAGS | flags, 0o600)
    if fd >= 0:
        os.close(fd)
    return new


def _plain(value: Any) -> Any:
    """JSON with every text cut, and numbers that JSON lacks as their names."""
    if isinstance(value, str):
        return value[:LONGEST]
    if isinstance(value, dict):
        return {str(name)[:LONGEST]: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _file_lock(fd: int) -> None:
    patience = time.monotonic() + _PATIENCE
    while not _try_lock(fd):
        if time.monotonic() > patience:
            raise AuditError("the audit log is locked by another process: look for one that hangs")
        time.sleep(0.001)


def _try_lock(fd: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(fd, 0, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _file_unlock(fd: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
    else:
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_UN)
