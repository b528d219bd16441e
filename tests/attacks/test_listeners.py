"""Listeners that fail, logs that cannot be written or are led elsewhere: what is said is what left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nsfw_guard.errors import AuditError, ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.listeners.audit import Audit, Head, verify
from nsfw_guard.policy.policy import Policy
from nsfw_guard.policy.prompts import PromptRules
from nsfw_guard.policy.rules import Rule
from nsfw_guard.scores import Scores, Severity
from nsfw_guard.testing import FakeBackend, FaultyBackend
from nsfw_guard.verdict import Outcome, Verdict
from tests.attacks.scenes import BATCH, CLEAN, UNSAFE

ALLOW, REVIEW, BLOCK, ERROR = Outcome
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


# ---- listeners: what is said is what left


class Book:
    """Keeps what it is told, and fails on the calls that are named."""

    def __init__(self, *fails: int) -> None:
        self.fails = fails
        self.heard: list[tuple[Outcome, ...]] = []

    def __call__(self, verdicts: Sequence[Verdict]) -> None:
        self.heard.append(tuple(v.outcome for v in verdicts))
        if len(self.heard) - 1 in self.fails:
            raise OSError("disk full")


TRUTH, ERRORS = (ALLOW, BLOCK), (ERROR, ERROR)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("at", range(4))
def test_a_listener_that_fails_leaves_every_record_correct(count, at) -> None:
    if at >= count:
        return
    books = [Book(0) if i == at else Book() for i in range(count)]
    guard = Guard(FakeBackend(), listeners=books)
    out, verdicts = guard(BATCH)

    assert tuple(v.outcome for v in verdicts) == ERRORS
    assert "disk full" in verdicts[0].reason
    assert out.unique().tolist() == [0.0]
    assert [book.heard for book in books] == [[TRUTH, ERRORS] if i <= at else [ERRORS] for i in range(count)]
    assert guard.counter.counts == {"allow": 0, "review": 0, "block": 0, "error": 2}
    guard(BATCH)
    assert [book.heard[-1] for book in books] == [TRUTH] * count
    assert guard.counter.counts == {"allow": 1, "review": 0, "block": 1, "error": 2}


@settings(max_examples=80, deadline=None)
@given(fails=st.lists(st.sets(st.integers(0, 3)), max_size=4))
def test_whichever_listener_fails_the_last_verdict_heard_is_the_final_one(fails) -> None:
    books = [Book(*calls) for calls in fails]
    guard = Guard(FakeBackend(), listeners=books)
    for _ in range(2):
        verdicts = guard.check(BATCH)
        left = tuple(v.outcome for v in verdicts)
        assert left in {TRUTH, ERRORS}
        assert [book.heard[-1] for book in books] == [left] * len(books)
    assert sum(guard.counter.counts.values()) == 4


def test_an_existing_error_is_reported_once() -> None:
    books = [Book(), Book(0), Book()]
    Guard(FaultyBackend("raises"), listeners=books)(BATCH)
    assert [book.heard for book in books] == [[ERRORS]] * 3


def test_one_error_among_others_keeps_its_reason_and_the_others_become_errors() -> None:
    broken = CLEAN.clone()
    broken[0, 0, 0] = float("nan")
    doubtful = torch.cat([UNSAFE[:, :24], CLEAN[:, 24:]], 1)
    books = [Book(), Book(0)]
    verdicts = Guard(FakeBackend(), listeners=books).check(torch.stack([broken, CLEAN, doubtful]))
    assert [book.heard for book in books] == [[(ERROR, ALLOW, REVIEW), (ERROR, ERROR, ERROR)]] * 2
    assert verdicts[0].reason == "the image contains NaN or infinite values"
    assert verdicts[1].reason == "OSError: disk full (a listener failed: held back, although judged ALLOW)"
    assert verdicts[2].reason == "OSError: disk full (a listener failed: held back, although judged REVIEW)"
    assert [v.flags for v in verdicts] == [(), (), ("red",)]


def test_no_listener_is_called_without_verdicts() -> None:
    policy = Policy(rules={"*": Rule(block="default")}, prompts=PromptRules(words=("dragon",)))
    book = Book(0)
    verdicts = Guard(FakeBackend(), policy=policy, listeners=[book]).check_prompts(["a castle", "a lake"])
    assert [v.outcome for v in verdicts] == [ALLOW, ALLOW]
    assert book.heard == []


def test_a_backend_that_raised_is_named_in_words() -> None:
    (verdict,) = Guard(FaultyBackend("raises")).check(CLEAN[None])
    assert verdict.reason == "RuntimeError: the model broke"


def test_prompts_are_corrected_too_and_never_counted() -> None:
    policy = Policy(rules={"*": Rule(block="default")}, prompts=PromptRules(words=("dragon",)))
    books = [Book(), Book(0), Book()]
    guard = Guard(FakeBackend(), policy=policy, listeners=books)
    verdicts = guard.check_prompts(["a castle", "a dragon"])
    assert [v.outcome for v in verdicts] == [ERROR, ERROR]
    assert [book.heard for book in books] == [[(BLOCK,), ERRORS], [(BLOCK,), ERRORS], [ERRORS]]
    assert sum(guard.counter.counts.values()) == 0


def test_fail_open_does_not_release_what_was_flagged_before_a_listener_failed() -> None:
    guard = Guard(FakeBackend(), listeners=[Book(0)], fail_open=True)
    out, verdicts = guard(BATCH)
    assert [v.outcome for v in verdicts] == [ERROR, ERROR]
    assert torch.equal(out[0], CLEAN)
    assert out[1].unique().tolist() == [0.0]


def test_fail_open_does_not_release_an_animation_with_a_blocked_frame(tmp_path) -> None:
    frames = [Image.new("RGB", (8, 8), c) for c in ((255, 0, 0), (0, 0, 250))]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])

    class HalfBlind(FakeBackend):
        def score(self, stacks, *, embeddings=False, digests=False):
            scores = super().score(stacks)
            return [
                Scores.single({"red": {Severity.HIGH: float("nan")}}) if s.numbers().__next__() < 0.5 else s
                for s in scores
            ]

    (out,), (verdict,) = Guard(HalfBlind(), fail_open=True)([tmp_path / "two.gif"])
    assert (verdict.outcome, verdict.flags) == (ERROR, ("red",))
    assert isinstance(out, Image.Image)
    assert np.asarray(out).max() == 0


# ---- the log: what it says is what left


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def test_a_listener_that_fails_after_the_log_is_in_the_log(log) -> None:
    guard = Guard(FakeBackend(), listeners=[Audit(log), Book(0)])
    guard(BATCH)
    entries = lines(log)
    assert [line["outcome"] for line in entries] == ["allow", "block", "error", "error"]
    assert [entries[0]["image"], entries[1]["image"]] == [entries[2]["image"], entries[3]["image"]]
    assert verify(log, head=Head.read(log)).ok


@pytest.mark.parametrize("when", ["the log", "the head", "the head, halfway"])
@pytest.mark.parametrize("first", [True, False])
def test_a_line_that_cannot_be_written_whole_is_rolled_back(log, when, first, monkeypatch) -> None:
    audit = Audit(log)
    guard = Guard(FakeBackend(), listeners=[audit])
    if not first:
        guard(BATCH)
    real, half = os.write, [False]

    def write(fd: int, data: bytes) -> int:
        is_head = data.startswith(b'{"count"')
        if is_head and when == "the head, halfway":
            half[0] = True
            return real(fd, data[:60])
        if half[0] or is_head == (when == "the head"):
            half[0] = False
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    out, verdicts = guard(BATCH)
    monkeypatch.undo()

    assert out.unique().tolist() == [0.0]
    entries = lines(log)
    assert "allow" not in [line["outcome"] for line in entries[0 if first else 2 :]]
    assert [v.outcome for v in verdicts] == [ERROR, ERROR]
    guard(BATCH)
    entries = lines(log)
    assert [line["outcome"] for line in entries[-2:]] == ["allow", "block"]
    assert verify(log, head=Head.read(log)).ok
    assert entries[-2]["unwritten"] == 4  # the two, and their correction


def test_a_line_that_cannot_be_rolled_back_is_named_by_the_next(log, monkeypatch) -> None:
    audit = Audit(log)
    audit([Verdict(BLOCK, "one")])
    real = os.write

    def write(fd: int, data: bytes) -> int:
        if data.startswith(b'{"count"'):
            raise OSError(28, "No space left on device")
        return real(fd, data)

    def refused(*_: object) -> None:
        raise OSError(1, "append only")

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "ftruncate", refused)
    with pytest.raises(AuditError, match="No space"):
        audit([Verdict(ALLOW, "two"), Verdict(ALLOW, "three")])
    monkeypatch.undo()
    audit.close()
    Audit(log)([Verdict(BLOCK, "four")])
    assert lines(log)[-1]["unfinished"] == [2, 3]
    Audit(log)([Verdict(BLOCK, "five")])
    assert "unfinished" not in lines(log)[-1]
    assert verify(log, head=Head.read(log)).ok


FULL = """
import json, resource, sys
import torch
from nsfw_guard.listeners.audit import Audit
from nsfw_guard.guard import Guard
from nsfw_guard.testing import FakeBackend
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
guard, left = Guard(FakeBackend(), listeners=[Audit(sys.argv[1])]), []
for i in range(20):
    left += [v.outcome.name.lower() for v in guard.check(torch.full((1, 3, 8, 8), 0.4))]
print(json.dumps({"left": left, "counts": guard.counter.counts}))
"""


@posix
def test_a_log_on_a_full_disk_never_claims_a_release_that_did_not_happen(log) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL, log], capture_output=True, check=True, env={**os.environ}
    )
    payload = json.loads(ran.stdout)
    written = [line["outcome"] for line in lines(log)]
    assert set(payload["left"]) == {"allow", "error"}
    assert written.count("allow") == payload["left"].count("allow") == payload["counts"]["allow"] > 2
    assert payload["counts"]["error"] == payload["left"].count("error")
    assert verify(log, head=Head.read(log)).ok


ENDS = ["", ".lock", ".head"]


@posix
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", ["symlink", "dangling", "hard link", "pipe", "folder", "device"])
@pytest.mark.parametrize("early", [True, False])
def test_a_log_that_is_a_link_or_a_device_is_refused(log, tmp_path, end, kind, early) -> None:
    victim, path = tmp_path / "victim", Path(f"{log}{end}")
    victim.write_text("precious")
    audit = None if early else Audit(log)
    {
        "symlink": lambda: path.symlink_to(victim),
        "dangling": lambda: path.symlink_to(tmp_path / "nowhere"),
        "hard link": lambda: path.hardlink_to(victim),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "device": lambda: path.symlink_to("/dev/null"),
    }[kind]()
    with pytest.raises((AuditError, ConfigError)):
        (audit or Audit(log))([Verdict(ALLOW, "")])
    assert victim.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()
    if not early:
        out, verdicts = Guard(FakeBackend(), listeners=[audit])(BATCH)
        assert [v.outcome for v in verdicts] == [ERROR, ERROR]
        assert out.unique().tolist() == [0.0]


@posix
@pytest.mark.parametrize("kind", ["symlink", "pipe"])
def test_links_and_pipes_are_not_read(log, tmp_path, kind) -> None:
    Audit(log)([Verdict(BLOCK, "")])
    other = tmp_path / "other"
    other.symlink_to(log) if kind == "symlink" else os.mkfifo(other)
    with pytest.raises(AuditError, match=r"Pass the path of the file itself|pass another path"):
        verify(other)
    with pytest.raises(AuditError, match=r"Pass the path of the file itself|pass another path"):
        Head.kept(other)
    (tmp_path / "copy").hardlink_to(log)
    assert verify(tmp_path / "copy").ok


@posix
def test_a_log_in_a_linked_folder_is_fine(tmp_path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    Audit(tmp_path / "linked" / "log.jsonl")([Verdict(BLOCK, "")])
    assert verify(tmp_path / "linked" / "log.jsonl").lines == 1
