"""Verdicts to log, and logs to look at."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from nsfw_guard.listeners.audit import Audit, AuditReport
from nsfw_guard.listeners.audit_chain import ZEROS
from nsfw_guard.scores import Scores, Severity, View, ViewScores
from nsfw_guard.verdict import Outcome, Verdict

KEY = b"k" * 32
LEVELS = {"sexual": {Severity.LOW: 0.75, Severity.HIGH: 0.25}}
SCORES = Scores(tuple(ViewScores(View(kind), LEVELS) for kind in ("full", "left", "right")), digest="ab" * 32)
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


def verdict(reason: str = "fine", **rest: Any) -> Verdict:
    values: dict[str, Any] = {
        "category": "sexual",
        "severity": Severity.HIGH,
        "score": 0.25,
        "threshold": 0.5,
        "view": "full",
        "scores": SCORES,
        "model": "tiny",
        "revision": "r1",
        "policy": "default",
        "policy_hash": "cd" * 32,
        "state": {"self_test": "passed"},
        "requested": {"precision": "exact"},
    }
    return Verdict(Outcome.ALLOW, reason, **{**values, **rest})


def filled(log: Path, count: int = 6, **options: Any) -> list[bytes]:
    audit = Audit(log, **options)
    for i in range(count):
        audit([verdict(f"number {i}")])
    audit.close()
    return log.read_bytes().splitlines(keepends=True)


def whole(report: AuditReport, lines: int) -> bool:
    return report.ok and report.lines == report.head.count == lines


def forged(line: bytes, **values: Any) -> bytes:
    record = {**json.loads(line), **values}
    del record["hash"]
    body = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return f'{body[:-1]},"hash":"{hashlib.sha256(body.encode()).hexdigest()}"}}\n'.encode()


def rewritten(lines: list[bytes], at: int) -> bytes:
    new, prev = lines[:at], json.loads(lines[at - 1])["hash"] if at else ZEROS
    for line in lines[at:]:
        new.append(forged(line, prev=prev, outcome="block"))
        prev = json.loads(new[-1])["hash"]
    return b"".join(new)
