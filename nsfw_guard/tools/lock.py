"""One writer at a time in a folder: the lock is the system's, and ends with the process."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nsfw_guard.errors import ConfigError

LOCK = ".lock"
_PAUSE = 0.02  # seconds between two tries


@contextmanager
def locked(folder: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of a folder.

    Args:
        folder: that nobody else shall write into.
        wait: seconds in which another process may let go of it.

    Raises:
        ConfigError: another process holds it.
    """
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    end = time.monotonic() + wait
    try:
        while not _try(handle):
            if time.monotonic() >= end:
                raise ConfigError(f"another process writes into {str(folder)!r}: wait for it, or name another folder")
            time.sleep(_PAUSE)
        yield
    finally:
        os.close(handle)


def _try(handle: int) -> bool:
    try:
        _lock(handle)
    except OSError:
        return False
    return True


def _lock(handle: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
