"""The three open files of an audit log: the log, its lock and its head."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

from nsfw_guard.errors import AuditError
from nsfw_guard.listeners.audit_chain import Head, Line, digest, open_regular

_PATIENCE = 10.0  # seconds to wait for the lock: a stopped process must not stop all others for ever
_FLAGS = os.O_RDWR | os.O_CREAT


class LogFiles:
    """The log, its lock and its head. Every method except `locked` needs the lock."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.threads = threading.Lock()
        self.lock = self.log = self.beside = self.size = -1
        self.head = Head()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        if not self.threads.acquire(timeout=_PATIENCE):
            raise AuditError("the audit log is locked by another thread: find the thread that hangs")
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

    def end(self, key: bytes | None) -> tuple[Head, bool, list[int]]:
        """Return the head of the log, whether its last line is torn, and the unfinished lines (first, last).

        The file is read again unless only this process wrote. A line beyond the head comes from a writer that failed
        or died within a call and could not take it back.
        """
        size = os.fstat(self.log).st_size
        if size == self.size:
            return self.head, False, []
        head, torn = self.last(size, key)
        unfinished: list[int] = []
        if os.fstat(self.beside).st_size:
            kept = Head.read(self.path)
            if kept.count > head.count or (kept.count == head.count and kept.hash != head.hash):
                raise AuditError(
                    f"the log ends at line {head.count}, its head at line {kept.count}: the log was truncated or "
                    "replaced. Verify it, then move both files away to begin a new log"
                )
            unfinished = [kept.count + 1, head.count] if kept.count < head.count else []
        return head, torn, unfinished

    def last(self, size: int, key: bytes | None) -> tuple[Head, bool]:
        tail, start, torn = b"", size, False
        while start > 0:
            step = min(max(8192, len(tail)), start)
            start -= step
            os.lseek(self.log, start, os.SEEK_SET)
            tail = os.read(self.log, step) + tail
            torn = not tail.endswith(b"\n")
            # the first piece may lack its beginning
            whole = tail.split(b"\n") if start == 0 else tail.split(b"\n")[1:]
            for raw in reversed(whole):
                line = Line.parse(raw)
                if line is not None:
                    if line.hash != digest(key, line.body):
                        raise AuditError("the log's last line does not fit the key: pass the key it was written with")
                    return Head(line.n, line.hash), torn
        return Head(), torn

    def append(self, data: bytes, head: Head, fsync: bool) -> None:
        size, before = os.fstat(self.log).st_size, self._beside()
        try:
            _write(self.log, data)
            if fsync:
                os.fsync(self.log)
            # Overwritten in a fixed length: within one sector as atomic as a rename, which takes 1 ms on ext4.
            os.lseek(self.beside, 0, os.SEEK_SET)
            _write(self.beside, f'{{"count":{head.count},"hash":"{head.hash}"}}'.ljust(119).encode() + b"\n")
            if fsync:
                os.fsync(self.beside)
        except BaseException:
            # Lines of a failed write are removed: they may say "allow" of an image that the caller now holds back.
            self._take_back(size, before)
            raise
        self.size, self.head = size + len(data), head

    def _beside(self) -> bytes:
        os.lseek(self.beside, 0, os.SEEK_SET)
        return os.read(self.beside, 4096)

    def _take_back(self, size: int, head: bytes) -> None:
        """Restore log and head, as far as the file system allows it. The next writer reads both again."""
        self.size = -1
        with contextlib.suppress(OSError):
            os.ftruncate(self.log, size)
        with contextlib.suppress(OSError):
            os.lseek(self.beside, 0, os.SEEK_SET)
            _write(self.beside, head)
            os.ftruncate(self.beside, len(head))

    def close(self) -> None:
        with self.threads:
            for fd in (self.lock, self.log, self.beside):
                if fd >= 0:
                    os.close(fd)
            self.lock = self.log = self.beside = self.size = -1


def _write(fd: int, data: bytes) -> None:
    done = 0
    while done < len(data):
        done += os.write(fd, data[done:])


def _same(fd: int, path: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return fd >= 0 and os.path.samestat(os.lstat(path), os.fstat(fd))
    return False


def _reopen(fd: int, path: str, flags: int) -> int:
    # A log that was moved away together with its head (rotated) is begun again at the same path.
    new = open_regular(path, _FLAGS | flags)
    if fd >= 0:
        os.close(fd)
    return new


def _file_lock(fd: int) -> None:
    patience = time.monotonic() + _PATIENCE
    while not _try_lock(fd):
        if time.monotonic() > patience:
            raise AuditError("the audit log is locked by another process: find the process that hangs")
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
