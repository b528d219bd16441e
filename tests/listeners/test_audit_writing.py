"""Torn lines, failing disks and clocks, and many writers: the chain goes on, or nothing is written."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import nsfw_guard.listeners.audit_files as module
from nsfw_guard.errors import AuditError, ConfigError
from nsfw_guard.listeners.audit import Audit, Head, verify
from tests.listeners.logs import KEY, filled, posix, rewritten, verdict, whole
from tests.threads import in_threads


@pytest.mark.parametrize("kept", [1, 30, 200, 0.5, -2])
def test_a_torn_line_stays_visible_and_the_chain_goes_on(log: Path, kept: float) -> None:
    lines = filled(log, 3)
    size = int(kept * len(lines[2])) if isinstance(kept, float) else kept
    log.write_bytes(lines[0] + lines[1] + lines[2][:size])
    Path(f"{log}.head").unlink()
    assert verify(log).faults == ("line 3: torn, or not a line of this log",)
    filled(log, 2)
    report = verify(log)
    assert report.faults == ("line 3: torn, or not a line of this log",)
    assert (report.lines, report.head.count) == (4, 4)
    assert log.read_bytes().startswith(lines[0] + lines[1] + lines[2][:size] + b"\n")


def test_a_line_that_lacks_its_end_only_is_whole(log: Path) -> None:
    lines = filled(log, 3)
    log.write_bytes(b"".join(lines)[:-1])
    assert whole(verify(log), 3)
    filled(log, 1)
    assert whole(verify(log), 4)


def test_a_log_with_a_torn_first_line_is_written_on(log: Path) -> None:
    log.write_bytes(b'{"category":')
    filled(log, 2)
    report = verify(log)
    assert (report.faults, report.head.count) == (("line 1: torn, or not a line of this log",), 2)


def test_the_last_line_is_found_behind_much_junk(log: Path) -> None:
    filled(log, 3)
    with open(log, "ab") as file:
        file.write(b"x" * 100_000 + b"\n" + b"y" * 50_000)
    filled(log, 1)
    report = verify(log)
    assert (report.lines, report.head.count, len(report.faults)) == (4, 4, 2)


# ---- what the writer refuses to go on from


def test_a_truncated_log_is_not_continued(log: Path) -> None:
    lines = filled(log)
    log.write_bytes(b"".join(lines[:-2]))
    with pytest.raises(AuditError, match="was truncated or replaced"):
        filled(log, 1)
    log.unlink()
    with pytest.raises(AuditError, match="move both files away"):
        filled(log, 1)
    assert Head.read(log).count == 6  # the evidence stays
    Path(f"{log}.head").unlink()
    filled(log, 1)
    assert whole(verify(log), 1)


def test_a_log_truncated_while_open_is_not_continued(log: Path) -> None:
    audit = Audit(log)
    audit([verdict(), verdict()])
    log.write_bytes(log.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(AuditError, match="was truncated or replaced"):
        audit([verdict()])


def test_a_log_whose_end_was_replaced_is_not_continued(log: Path) -> None:
    lines = filled(log)
    log.write_bytes(rewritten(lines, 5))
    with pytest.raises(AuditError, match="was truncated or replaced"):
        filled(log, 1)


def test_a_log_of_another_key_is_not_continued(log: Path) -> None:
    filled(log, 1, key=KEY)
    for key in (None, b"other"):
        with pytest.raises(AuditError, match="key"):
            filled(log, 1, key=key)
    assert whole(verify(log, key=KEY), 1)


def test_a_log_moved_away_with_its_head_is_started_anew(log: Path, tmp_path: Path) -> None:
    audit = Audit(log)
    audit([verdict()])
    for name in ("", ".head"):
        os.replace(f"{log}{name}", tmp_path / f"old{name}")
    audit([verdict(), verdict()])
    assert whole(verify(log, head=Head.read(log)), 2)
    assert whole(verify(tmp_path / "old", head=Head.read(tmp_path / "old")), 1)


# ---- failures


def test_settings_that_make_no_sense_are_refused(log: Path, tmp_path: Path) -> None:
    for options in ({"on_failure": "ignore"}, {"key": b""}, {"key": "text"}):
        with pytest.raises(ConfigError):
            Audit(log, **options)  # type: ignore[arg-type]
    for path in (tmp_path, tmp_path / "missing" / "log"):
        with pytest.raises(ConfigError, match="existing folder"):
            Audit(path)


def broken_clock() -> float:
    raise RuntimeError("no clock")


@pytest.mark.parametrize("clock", [broken_clock, lambda: math.nan, lambda: 1e300, lambda: "now"])
def test_a_broken_clock_stops_or_is_counted(log: Path, clock: Callable[[], float]) -> None:
    with pytest.raises(AuditError, match="cannot be written"):
        Audit(log, clock=clock)([verdict()])
    warned = Audit(log, clock=clock, on_failure="warn")
    warned([verdict(), verdict()])
    assert warned.lost == 2


def test_a_clock_that_jumps_does_not_matter(log: Path) -> None:
    times = iter([2e9, 0.0, 1e9])
    audit = Audit(log, clock=lambda: next(times))
    for _ in range(3):
        audit([verdict()])
    assert whole(verify(log), 3)


def test_stop_raises_and_warn_counts(log: Path, caplog: pytest.LogCaptureFixture) -> None:
    stop, warn = Audit(log), Audit(log, on_failure="warn")
    log.mkdir()  # whoever runs the tests, root too, cannot write a folder
    with pytest.raises(AuditError, match=r"'audit\.jsonl' is a folder") as caught:
        stop([verdict()])
    assert str(log) not in str(caught.value)
    with caplog.at_level(logging.WARNING, logger="nsfw_guard.listeners.audit"):
        warn([verdict(), verdict()])
        warn([verdict()])
    assert (stop.lost, warn.lost) == (0, 3)
    assert len(caplog.records) == 2
    log.rmdir()
    warn([verdict()])
    assert (warn.lost, whole(verify(log), 1)) == (3, True)


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_log_stops(log: Path) -> None:
    filled(log, 1)
    log.chmod(0o400)
    with pytest.raises(AuditError, match="rights"):
        filled(log, 1)


@pytest.mark.parametrize("written", [0, 1, 100])
def test_a_disk_that_fills_up_leaves_no_half_line(log: Path, written: int, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = Audit(log)
    audit([verdict()])
    whole_write = os.write
    left = [written]

    def write(fd: int, data: bytes) -> int:
        if left[0] <= 0:
            raise OSError(28, "No space left on device")
        done = whole_write(fd, data[: left[0]])
        left[0] -= done
        return done

    monkeypatch.setattr(module.os, "write", write)
    with pytest.raises(AuditError, match="No space left"):
        audit([verdict()])
    monkeypatch.setattr(module.os, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError(1, "append only")))
    left[0] = 50
    with pytest.raises(AuditError, match="No space left"):
        audit([verdict()])
    monkeypatch.undo()
    audit([verdict()])
    assert verify(log).faults == ("line 2: torn, or not a line of this log",)
    assert verify(log).head.count == 2


FULL = """
import resource, sys
from nsfw_guard.listeners.audit import Audit
from nsfw_guard.errors import AuditError
from nsfw_guard.verdict import Outcome, Verdict
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
audit = Audit(sys.argv[1])
for i in range(100):
    try:
        audit([Verdict(Outcome.BLOCK, f"number {i}")])
    except AuditError as error:
        assert "check the disk" in str(error)
        sys.exit(40 + i)
"""


def run(code: str, *args: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-W", "error", "-c", code, *map(str, args)])


@posix
def test_a_full_disk_stops_and_leaves_a_whole_log(log: Path) -> None:
    written = run(FULL, log).wait() - 40
    assert written > 2
    assert whole(verify(log, head=Head.read(log)), written)
    filled(log, 1)
    assert whole(verify(log), written + 1)


@posix
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_device_that_is_full_stops(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/dev/full")
    with pytest.raises(AuditError):
        Audit(tmp_path / "log")([verdict()])


# ---- many writers

WRITER = """
import sys
from nsfw_guard.listeners.audit import Audit
from nsfw_guard.verdict import Outcome, Verdict
audit = Audit(sys.argv[1], key=b"k")
for i in range(100):
    audit([Verdict(Outcome.BLOCK, f"{sys.argv[2]} {i} {j}") for j in range(2)])
"""


def test_two_processes_write_one_chain(log: Path) -> None:
    running = [run(WRITER, log, name) for name in "ab"]
    assert [process.wait() for process in running] == [0, 0]
    assert whole(verify(log, key=b"k", head=Head.read(log)), 400)
    reasons = [json.loads(line)["reason"] for line in log.read_text().splitlines()]
    for name in "ab":
        mine = [f"{name} {i} {j}" for i in range(100) for j in range(2)]
        assert [reason for reason in reasons if reason.startswith(name)] == mine


@pytest.mark.parametrize("shared", [True, False])
def test_eight_threads_write_one_chain(log: Path, shared: bool) -> None:
    one = Audit(log)

    def write(name: int) -> None:
        audit = one if shared else Audit(log)
        for i in range(25):
            audit([verdict(f"{name} {i}")])

    in_threads(write, 8)
    assert whole(verify(log, head=Head.read(log)), 200)


@posix
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_writes_on_with_files_of_its_own(log: Path) -> None:
    audit = Audit(log)
    audit([verdict("before")])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for i in range(50):
                audit([verdict(f"child {i}")])
            code = 0
        finally:
            os._exit(code)
    for i in range(50):
        audit([verdict(f"parent {i}")])
    assert os.waitpid(child, 0)[1] == 0
    assert whole(verify(log, head=Head.read(log)), 101)


KILLED = WRITER.replace("range(100)", "range(10**9)")


@posix
def test_a_killed_writer_leaves_a_log_that_goes_on(log: Path) -> None:
    for _ in range(3):
        process = run(KILLED, log, "a")
        before = log.stat().st_size if log.exists() else 0
        patience = time.monotonic() + 20
        while (log.stat().st_size if log.exists() else 0) < before + 20_000 and time.monotonic() < patience:
            time.sleep(0.005)
        process.kill()
        process.wait()
    Audit(log, key=b"k")([verdict()])
    report = verify(log, key=b"k", head=Head.read(log))
    assert all("torn" in fault for fault in report.faults)
    assert report.lines == report.head.count


@posix
def test_a_lock_that_is_held_for_ever_is_a_failure(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    filled(log, 1)
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    with open(f"{log}.lock", "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(AuditError, match="locked by another process"):
            filled(log, 1)
    filled(log, 1)
    assert whole(verify(log), 2)


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda audit: pickle.loads(pickle.dumps(audit))])  # noqa: S301
def test_a_copy_writes_to_the_same_chain(log: Path, twin: Callable[[Audit], Audit]) -> None:
    audit = Audit(log, key=KEY)
    audit([verdict()])
    twin(audit)([verdict()])
    audit([verdict()])
    assert whole(verify(log, key=KEY), 3)


# ---- cost


def test_a_verdict_of_three_views_costs_little(log: Path) -> None:
    audit, taken = Audit(log, key=KEY), []
    for _ in range(200):
        started = time.perf_counter()
        audit([verdict()])
        taken.append(time.perf_counter() - started)
    assert sorted(taken)[100] < 0.001  # 0.05 ms where nothing else runs; the promise is 0.3


def test_fsync_writes_the_same(log: Path) -> None:
    filled(log, 2, fsync=True)
    assert whole(verify(log, head=Head.read(log)), 2)


def test_a_log_of_schema_1_verifies_and_is_written_on(tmp_path) -> None:
    """Written by the version before: its lines call the threshold "cut"."""
    for path in (Path(__file__).parent / "schema_1").iterdir():
        shutil.copy(path, tmp_path / path.name)
    log = tmp_path / "log.jsonl"
    assert [json.loads(line)["schema"] for line in log.read_text().splitlines()] == [1, 1]
    assert verify(log).ok
    audit = Audit(log)
    audit([verdict()])
    audit.close()
    assert [json.loads(line)["schema"] for line in log.read_text().splitlines()] == [1, 1, 2]
    assert verify(log).ok
