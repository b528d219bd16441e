"""The lines of a chain and their hashes; what tampering looks like is tested with whole logs in test_audit."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from nsfw_guard.listeners.audit_chain import ZEROS, AuditReport, Head, Line, describe_error, digest


def test_a_digest_is_a_hash_or_with_a_key_its_hmac() -> None:
    assert digest(None, b"data") == hashlib.sha256(b"data").hexdigest()
    assert digest(b"key", b"data") == hmac.new(b"key", b"data", "sha256").hexdigest()


def test_a_line_is_its_bytes_without_the_hash() -> None:
    line = Line.parse(b'{"n":3,"prev":"p","hash":"h"}')
    assert line == Line(3, "p", "h", b'{"n":3,"prev":"p"}')


@pytest.mark.parametrize("raw", [b'{"hash":"h","n":3,"prev":"p"}', b'{"n":3,"prev":"p","hash":"h"} '])
def test_a_hash_that_does_not_stand_last_fits_nothing(raw: bytes) -> None:
    line = Line.parse(raw)
    assert line is not None
    assert line.hash == ""


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"1", b"[]", b"{}", b'{"n":"3","prev":"p","hash":"h"}', b"\xff", b"[" * 99999]
)
def test_what_is_not_a_line_is_read_as_none(raw: bytes) -> None:
    assert Line.parse(raw) is None


def test_a_report_is_ok_without_faults_only() -> None:
    assert AuditReport(0, Head(0, ZEROS)).ok
    assert not AuditReport(1, Head(1, "h"), ("line 1: torn",)).ok


def test_errors_are_described_without_a_path() -> None:
    assert (
        describe_error(FileNotFoundError(2, "No such file or directory", "/home/somebody/log"))
        == "No such file or directory"
    )
    assert describe_error(ValueError("x" * 500)) == "ValueError: " + "x" * 108
