"""Each way to edit a log afterwards is found, and what cannot be read is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsfw_guard.errors import AuditError
from nsfw_guard.listeners.audit import Head, verify
from tests.listeners.logs import KEY, filled, forged, rewritten, whole


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("at", range(6))
def test_a_changed_line_is_found(log: Path, at: int, key: bytes | None) -> None:
    lines = filled(log, key=key)
    for old, new in ((b"number", b"nUmber"), (b'"allow"', b'"block"'), (b'"n":', b'"n": '), (b"0.25", b"0.26")):
        changed = lines[at].replace(old, new, 1)
        assert changed != lines[at]
        log.write_bytes(b"".join([*lines[:at], changed, *lines[at + 1 :]]))
        report = verify(log, key=key)
        assert report.faults == (f"line {at + 1}: changed: its hash does not match its content",)


def test_a_value_given_twice_is_found(log: Path) -> None:
    lines = filled(log, 2)
    log.write_bytes(lines[0].replace(b"{", b'{"outcome":"block",', 1) + lines[1])
    assert verify(log).faults == ("line 1: changed: its hash does not match its content",)


@pytest.mark.parametrize("at", range(6))
def test_a_dropped_line_is_found(log: Path, at: int) -> None:
    lines = filled(log)
    kept = Head.read(log)
    log.write_bytes(b"".join(lines[:at] + lines[at + 1 :]))
    faults = verify(log, head=kept).faults
    expected = f"line {at + 1}: lines {at + 1} to {at + 1} before it are missing"
    assert faults == ((expected,) if at < 5 else ("truncated: the log ends at line 5, the kept head at line 6",))


@pytest.mark.parametrize("at", range(5))
def test_two_lines_that_changed_places_are_found(log: Path, at: int) -> None:
    lines = filled(log)
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
    log.write_bytes(b"".join(lines))
    faults = verify(log).faults
    assert faults[0] == f"line {at + 1}: lines {at + 1} to {at + 1} before it are missing"
    assert faults[1] == f"line {at + 2}: out of order or inserted: it has number {at + 1} and follows number {at + 2}"


@pytest.mark.parametrize("at", range(6))
def test_a_line_that_was_put_in_is_found(log: Path, at: int) -> None:
    lines = filled(log)
    log.write_bytes(b"".join([*lines[: at + 1], lines[at], *lines[at + 1 :]]))
    faults = verify(log).faults
    assert faults[0] == f"line {at + 2}: out of order or inserted: it has number {at + 1} and follows number {at + 1}"


@pytest.mark.parametrize("at", range(5))
def test_a_line_forged_with_a_right_hash_breaks_the_chain(log: Path, at: int) -> None:
    lines = filled(log)
    log.write_bytes(b"".join([*lines[:at], forged(lines[at], outcome="block"), *lines[at + 1 :]]))
    assert verify(log).faults == (
        f"line {at + 2}: it does not contain the hash of the line before: one of the two was replaced",
    )


@pytest.mark.parametrize("at", range(6))
def test_a_rewritten_log_differs_from_the_kept_head(log: Path, at: int) -> None:
    lines = filled(log)
    kept = Head.read(log)
    log.write_bytes(rewritten(lines, at))
    assert verify(log).ok  # without a key and a head, whoever can write the file can write it all anew
    assert verify(log, head=kept).faults == ("line 6: its hash differs from the kept head: the log was rewritten",)
    assert not verify(log, key=KEY).ok


@pytest.mark.parametrize("at", range(6))
def test_a_log_cannot_be_rewritten_without_its_key(log: Path, at: int) -> None:
    lines = filled(log, key=KEY)
    log.write_bytes(rewritten(lines, at))
    assert not verify(log, key=KEY).ok


@pytest.mark.parametrize("left", range(6))
def test_a_truncated_log_is_found_with_a_kept_head(log: Path, left: int) -> None:
    lines = filled(log)
    kept = Head.read(log)
    log.write_bytes(b"".join(lines[:left]))
    assert verify(log).ok
    assert verify(log, head=kept).faults == (f"truncated: the log ends at line {left}, the kept head at line 6",)


def test_lines_appended_after_the_head_was_kept_are_no_fault(log: Path) -> None:
    filled(log, 3)
    kept = Head.read(log)
    filled(log, 3)
    assert whole(verify(log, head=kept), 6)
    assert whole(verify(log, head=Head()), 6)
    assert verify(log, head=Head(3, "0" * 64)).faults == (
        "line 3: its hash differs from the kept head: the log was rewritten",
    )


@pytest.mark.parametrize(("written", "read"), [(None, KEY), (KEY, None), (KEY, b"other")])
def test_a_wrong_key_is_reported_once(log: Path, written: bytes | None, read: bytes | None) -> None:
    filled(log, key=written)
    assert verify(log, key=read).faults == (
        "no line fits the key: pass the key that the log was written with, or none if it had none",
    )


def test_a_log_of_junk_gives_a_short_report(log: Path) -> None:
    log.write_bytes(b"junk\n" * 5000 + b"x" * 3_000_000)
    report = verify(log)
    assert report.lines == 0
    assert len(report.faults) == 101
    assert report.faults[-1] == "and 4903 more"


@pytest.mark.parametrize(
    "junk", [b"\n", b"{}\n", b"[1]\n", b'{"n":"1","prev":1,"hash":2}\n', b"\xff\xfe\n", b"[" * 9999 + b"\n"]
)
def test_lines_of_another_kind_are_named(log: Path, junk: bytes) -> None:
    lines = filled(log, 2)
    log.write_bytes(lines[0] + junk + lines[1])
    assert verify(log).faults == ("line 2: torn, or not a line of this log",)


def test_a_log_that_cannot_be_read_is_an_error(log: Path) -> None:
    with pytest.raises(AuditError, match="check the path"):
        verify(log)


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"count":1}', '{"count":"x","hash":""}'])
def test_an_invalid_head_is_an_error(log: Path, text: str | None) -> None:
    if text is not None:
        Path(f"{log}.head").write_text(text)
    with pytest.raises(AuditError, match="kept elsewhere"):
        Head.read(log)
