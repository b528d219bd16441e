"""Who may write into a folder: one process, or the ranks of one job. The locks are the system's, and end with it.

A lock for one process is exclusive. The ranks of a job share it: rank 0 takes it alone, prepares the folder, and then
lets the others in, who wait until rank 0 holds the file of its rank. So nobody else gets in while any rank lives.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nsfw_guard.errors import ConfigError

LOCK = ".lock"
MOST_RANKS = 1024
SECONDS_TO_START = 120.0  # in which rank 0 must come
_PROBED = 1.0  # a lock may be held for a moment by somebody who only looks whether it is free
_PAUSE = 0.1


@contextmanager
def locked(folder: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of a folder.

    Args:
        folder: that nobody else shall write into.
        wait: seconds in which another process may let go of it.

    Raises:
        ConfigError: another process holds it.
    """
    with _opened(folder / LOCK) as handle:
        _take(handle, folder, MOST_RANKS, seconds=wait)
        yield


@contextmanager
def leading(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold the lock of a folder as rank 0 of a job: alone, until the function that is yielded lets other ranks in.

    Raises:
        ConfigError: another process, or a rank of another job, holds it.
    """
    with _opened(folder / LOCK) as handle, _opened(_of_rank(folder, 0)) as rank:
        _take(handle, folder, MOST_RANKS, seconds=_PROBED)

        def let_in() -> None:
            _unlock(handle, MOST_RANKS)
            _take(handle, folder, 0, shared=True)
            _take(rank, folder, 1, seconds=_PROBED)

        yield let_in


@contextmanager
def following(folder: Path, rank: int, *, needless: Callable[[], bool]) -> Iterator[None]:
    """Hold the lock of a folder as one of the other ranks, once rank 0 has let them in.

    Args:
        folder: the folder that all ranks write into.
        rank: from 1.
        needless: whether the rank has nothing to do; then rank 0 may have ended already, and is not waited for.

    Raises:
        ConfigError: rank 0 does not come, or another process has this rank.
    """
    with _opened(folder / LOCK) as handle, _opened(_of_rank(folder, rank)) as own_rank:
        deadline = time.monotonic() + SECONDS_TO_START
        while not is_held(folder, 0):
            if needless():
                yield
                return
            if _is_free(handle, rank):
                if time.monotonic() > deadline:
                    raise ConfigError(
                        f"rank {rank} has waited {SECONDS_TO_START:.0f} s for rank 0, which does not write into "
                        f"{str(folder)!r}: start all ranks with the same --out, and see why rank 0 has ended"
                    )
            else:  # rank 0 prepares the folder, which may take as long as listing all images does
                deadline = time.monotonic() + SECONDS_TO_START
            time.sleep(_PAUSE)
        _take(handle, folder, rank, shared=True)
        _take(own_rank, folder, 1, seconds=_PROBED)
        yield


def is_held(folder: Path, rank: int) -> bool:
    """Return whether a process holds the lock of this rank."""
    with _opened(_of_rank(folder, rank)) as handle:
        try:
            _lock(handle, 1, shared=False)
        except OSError:
            return True
        return False


def _of_rank(folder: Path, rank: int) -> Path:
    return folder / f"{LOCK}-{rank}"


def _is_free(handle: int, rank: int) -> bool:
    try:
        _lock(handle, rank, shared=True)
    except OSError:
        return False
    _unlock(handle, rank, shared=True)
    return True


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield handle
    finally:
        os.close(handle)


def _take(handle: int, folder: Path, place: int, *, shared: bool = False, seconds: float = 0.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            _lock(handle, place, shared=shared)
            return
        except OSError as error:
            if time.monotonic() >= deadline:
                raise ConfigError(
                    f"another process writes into {str(folder)!r}: wait for it, or name another folder"
                ) from error
        time.sleep(_PAUSE / 4)


def _lock(handle: int, place: int, *, shared: bool) -> None:
    """Lock a file, without waiting.

    Windows has no shared locks here, but locks bytes: an exclusive lock is that of the first `place` bytes, a shared
    one that of the byte at `place`.
    """
    if os.name == "nt":
        import msvcrt

        _seek(handle, place, shared=shared)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1 if shared else place)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def _unlock(handle: int, place: int, *, shared: bool = False) -> None:
    if os.name == "nt":
        import msvcrt

        _seek(handle, place, shared=shared)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1 if shared else place)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_UN)


def _seek(handle: int, place: int, *, shared: bool) -> None:
    os.lseek(handle, place if shared else 0, os.SEEK_SET)
