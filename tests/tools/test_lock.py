"""Who may write into a folder, with the locks of POSIX and with those of Windows."""

from __future__ import annotations

import os
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools import lock
from nsfw_guard.tools.lock import following, is_held, leading, locked


class ByteLocks(types.ModuleType):
    """Locks of bytes as Windows has them: nobody else's lock may hold one of them, and closing a file frees its own."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self.held: dict[int, list[tuple[int, range]]] = {}  # by file: the handle, and its bytes

    def locking(self, handle: int, mode: int, count: int) -> None:
        first = os.lseek(handle, 0, os.SEEK_CUR)
        wanted, there = range(first, first + count), self.held.setdefault(os.fstat(handle).st_ino, [])
        if mode == self.LK_UNLCK:
            there.remove((handle, wanted))  # only what was locked as one can be freed
        elif any(range(max(r.start, wanted.start), min(r.stop, wanted.stop)) for _, r in there):
            raise OSError(13, "Permission denied")
        else:
            there.append((handle, wanted))

    def close(self, handle: int) -> None:
        for there in self.held.values():
            there[:] = [one for one in there if one[0] != handle]
        os.close(handle)


class Windows:
    """The module os, as far as locks need it."""

    name = "nt"

    def __init__(self, locks: ByteLocks) -> None:
        self.close = locks.close

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


@pytest.fixture(params=["posix", "windows"], autouse=True)
def _system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "windows":
        locks = ByteLocks()
        monkeypatch.setitem(sys.modules, "msvcrt", locks)
        monkeypatch.setattr(lock, "os", Windows(locks))
    monkeypatch.setattr(lock, "_PROBED", 0.2)
    monkeypatch.setattr(lock, "SECONDS_TO_START", 0.3)


def never() -> bool:
    return False


@pytest.fixture
def job(tmp_path: Path) -> Iterator[tuple[ExitStack, ExitStack]]:
    """A job of two ranks that write into a folder."""
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(leading(tmp_path))()
        second.enter_context(following(tmp_path, 1, needless=never))
        yield first, second


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(ConfigError, match="another process writes into"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("left", [0, 1])
def test_nobody_else_gets_in_while_any_rank_lives(left: int, job: tuple[ExitStack, ExitStack], tmp_path: Path) -> None:
    job[1 - left].close()
    for other in (locked(tmp_path), leading(tmp_path)):
        with pytest.raises(ConfigError, match="another process writes into"), other:
            pass
    assert is_held(tmp_path, left)
    assert not is_held(tmp_path, 1 - left)
    job[left].close()
    with locked(tmp_path):
        pass


def test_two_processes_cannot_be_one_rank(job: tuple[ExitStack, ExitStack], tmp_path: Path) -> None:
    assert job
    with pytest.raises(ConfigError, match="another process writes into"), following(tmp_path, 1, needless=never):
        pass
    with following(tmp_path, 2, needless=never):
        assert is_held(tmp_path, 2)


def test_the_ranks_of_a_job_keep_off_a_single_process(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(ConfigError, match="another process writes into"), leading(tmp_path):
            pass
        waits = threading.Timer(0.8, lambda: None)
        waits.start()
        # As long as somebody prepares the folder, this is no reason to give up.
        with following(tmp_path, 1, needless=lambda: not waits.is_alive()):
            assert not waits.is_alive()
            assert not is_held(tmp_path, 1)  # a rank that has nothing to do needs no lock


def test_the_others_wait_until_rank_0_has_prepared_the_folder(tmp_path: Path) -> None:
    order: list[str] = []

    def follow() -> None:
        with following(tmp_path, 1, needless=never):
            order.append("follows")

    with leading(tmp_path) as let_in:
        other = threading.Thread(target=follow)
        other.start()
        other.join(0.6)  # longer than it waits for a rank 0 that is not there
        order.append("prepared")
        let_in()
        other.join(5)
    assert order == ["prepared", "follows"]


def test_a_rank_0_that_does_not_come_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rank 1 has waited 0 s for rank 0"), following(tmp_path, 1, needless=never):
        pass
