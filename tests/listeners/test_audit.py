"""What a line of the log says, and what it does not."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import os
from pathlib import Path

import pytest

from nsfw_guard.listeners.audit import Audit, AuditReport, Head, verify
from nsfw_guard.listeners.audit_chain import ZEROS
from nsfw_guard.scores import Scores, Severity
from nsfw_guard.verdict import Outcome, Verdict
from tests.listeners.logs import KEY, LEVELS, filled, posix, verdict, whole


def test_a_line_holds_the_decision_and_nothing_else(log: Path) -> None:
    Audit(log, clock=lambda: 1_800_000_000.25)([verdict()])
    line = json.loads(log.read_text())
    line_hash = line.pop("hash")
    canonical = json.dumps(line, sort_keys=True, separators=(",", ":")).encode()
    assert line_hash == hashlib.sha256(canonical).hexdigest()
    assert line == {
        "schema": 2,
        "n": 1,
        "time": "2027-01-15T08:00:00.250000+00:00",
        "image": "ab" * 32,
        "outcome": "allow",
        "reason": "fine",
        "category": "sexual",
        "severity": "high",
        "score": 0.25,
        "threshold": 0.5,
        "view": "full",
        "scores": [
            {"view": kind, "box": [0.0, 0.0, 1.0, 1.0], "levels": {"sexual": {"low": 0.75, "high": 0.25}}}
            for kind in ("full", "left", "right")
        ],
        "model": "tiny",
        "revision": "r1",
        "policy": "default",
        "policy_hash": "cd" * 32,
        "requested": {"precision": "exact"},
        "state": {"self_test": "passed"},
        "prev": ZEROS,
    }


def test_a_key_hides_the_image_and_signs_the_line(log: Path) -> None:
    Audit(log, key=KEY)([verdict()])
    line = json.loads(log.read_text())
    line_hash = line.pop("hash")
    canonical = json.dumps(line, sort_keys=True, separators=(",", ":")).encode()
    assert line_hash == hmac.new(KEY, canonical, "sha256").hexdigest()
    assert line["image"] == hmac.new(KEY, b"ab" * 32, "sha256").hexdigest()
    assert b"ab" * 32 not in log.read_bytes()


@pytest.mark.parametrize("key", [None, KEY])
def test_what_was_not_evaluated_has_no_image(log: Path, key: bytes | None) -> None:
    bare = Verdict(Outcome.ERROR, "the model raised")
    Audit(log, key=key)([bare, verdict(scores=Scores.single(LEVELS))])
    first, second = (json.loads(line) for line in log.read_text().splitlines())
    assert [first["image"], first["scores"], first["score"], first["outcome"]] == [None, [], None, "error"]
    assert second["image"] is None
    assert whole(verify(log, key=key), 2)


def test_a_listener_asks_for_digests() -> None:
    assert Audit.wants_digests is True


def test_texts_are_escaped_and_cut(log: Path) -> None:
    nasty = 'a"\n\r\x00\x1b[31m\u2028\ud800' + "é" * 1000
    Audit(log)([verdict(nasty, model=nasty, state={nasty: nasty}, category=nasty)])
    raw = log.read_bytes()
    assert raw.count(b"\n") == 1
    assert all(32 <= byte < 127 for byte in raw[:-1])
    line = json.loads(raw)
    for text in (line["reason"], line["model"], line["category"], *line["state"], *line["state"].values()):
        assert text == nasty[:400]
    assert whole(verify(log), 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_are_written_by_name(log: Path, bad: float) -> None:
    scores = Scores.single({"sexual": {Severity.LOW: bad}})
    Audit(log)([verdict(score=bad, threshold=bad, scores=scores)])
    line = json.loads(log.read_text(), parse_constant=pytest.fail)
    assert [line["score"], line["threshold"], line["scores"][0]["levels"]["sexual"]["low"]] == [str(bad)] * 3
    assert whole(verify(log), 1)


def test_lines_are_chained_and_counted_over_openings(log: Path) -> None:
    for start in (0, 3):
        audit = Audit(log)
        audit([verdict(f"{start}"), verdict(f"{start + 1}")])
        audit.close()
        audit([verdict(f"{start + 2}")])
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["n"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["reason"] for line in lines] == list("012345")
    assert [line["prev"] for line in lines] == [ZEROS, *[line["hash"] for line in lines[:-1]]]
    assert Head.read(log) == Head(6, lines[-1]["hash"])
    assert whole(verify(log, head=Head.read(log)), 6)


def test_no_verdicts_write_nothing(log: Path) -> None:
    Audit(log)([])
    assert not log.exists()


@posix
def test_only_the_owner_can_read_the_files(log: Path) -> None:
    filled(log, 1)
    for name in ("", ".head", ".lock"):
        assert os.stat(f"{log}{name}").st_mode & 0o077 == 0


def test_an_empty_log_verifies(log: Path) -> None:
    log.touch()
    assert verify(log) == AuditReport(0, Head())
