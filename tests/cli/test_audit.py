"""`audit verify`, and the log that `check` writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run, lines_of, write_log


def test_a_good_log_verifies(run: Run, folder: Path, tmp_path: Path) -> None:
    run("check", folder, "--model", "red", "--audit", tmp_path / "log")
    head = json.loads((tmp_path / "log.head").read_text())
    ran = run("audit", "verify", tmp_path / "log", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines == [{"ok": True, "lines": 4, "count": 4, "hash": head["hash"], "faults": []}]
    assert run("audit", "verify", tmp_path / "log").out == f"ok  4 lines  head 4 {head['hash']}\n"


def tampered(lines: list[bytes]) -> dict[str, list[bytes]]:
    return {
        "changed": [lines[0].replace(b"allow", b"error"), *lines[1:]],
        "dropped": [lines[0], *lines[2:]],
        "moved": [lines[1], lines[0], *lines[2:]],
        "torn": [*lines[:3], lines[3][:40]],
        "cut off": lines[:2],
        "emptied": [],
    }


@pytest.mark.parametrize("how", tampered([b""] * 4))
def test_a_tampered_log_does_not_verify(how: str, run: Run, tmp_path: Path) -> None:
    write_log(tmp_path / "log")
    (tmp_path / "log").write_bytes(b"".join(tampered(lines_of(tmp_path / "log"))[how]))
    ran = run("audit", "verify", tmp_path / "log", "--json")
    assert ran.code == 1
    assert ran.lines[0]["ok"] is False
    assert ran.lines[0]["faults"]
    plain = run("audit", "verify", tmp_path / "log")
    assert (plain.code, plain.err) == (1, "")
    assert plain.out.startswith("NOT OK  ")
    assert len(plain.out.splitlines()) == 1 + len(ran.lines[0]["faults"])


@pytest.mark.parametrize(
    ("key", "given_", "code"),
    [(b"k" * 32, b"k" * 32, 0), (b"k" * 32, b"k" * 32 + b"\n", 0), (b"k" * 32, b"j" * 32, 1), (b"k" * 32, None, 1),
     (None, b"k" * 32, 1)],
)  # fmt: skip
def test_a_log_verifies_with_its_own_key_only(
    key: bytes | None, given_: bytes | None, code: int, run: Run, tmp_path: Path
) -> None:
    write_log(tmp_path / "log", key)
    (tmp_path / "key").write_bytes(given_ or b"")
    flags = ["--key-file", tmp_path / "key"] if given_ else []
    assert run("audit", "verify", tmp_path / "log", *flags).code == code


def test_a_keyed_log_is_written_with_audit_key(run: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"k" * 32)
    keyed = ["--audit", tmp_path / "log", "--audit-key", tmp_path / "key"]
    assert run("check", folder / "allow.png", "--model", "red", *keyed).code == 0
    assert run("audit", "verify", tmp_path / "log", "--key-file", tmp_path / "key").code == 0
    assert run("audit", "verify", tmp_path / "log").code == 1
    assert run("check", folder / "allow.png", "--model", "red", "--audit-key", tmp_path / "key").code == 3


def test_a_kept_head_finds_a_tail_that_was_cut_off_with_its_head(run: Run, tmp_path: Path) -> None:
    write_log(tmp_path / "log")
    (tmp_path / "log.head").rename(tmp_path / "elsewhere")
    assert run("audit", "verify", tmp_path / "log", "--head", tmp_path / "elsewhere").code == 0
    (tmp_path / "log").write_bytes(b"".join(lines_of(tmp_path / "log")[:2]))
    assert run("audit", "verify", tmp_path / "log").code == 0
    ran = run("audit", "verify", tmp_path / "log", "--head", tmp_path / "elsewhere")
    assert ran.code == 1
    assert "truncated: the log ends at line 2, the kept head at line 4" in ran.out


def test_images_whose_verdict_cannot_be_logged_are_errors(run: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("")
    (tmp_path / "log.head").write_text(json.dumps({"count": 9, "hash": "0" * 64}))
    ran = run("check", folder / "allow.png", "--model", "red", "--audit", tmp_path / "log", "--json")
    assert (ran.code, ran.lines[0]["outcome"]) == (2, "error")
    assert ran.lines[0]["reason"].startswith("AuditError: ")
