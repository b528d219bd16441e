"""Counts that no thread loses."""

from __future__ import annotations

import threading

from nsfw_guard.listeners.counter import OutcomeCounter
from nsfw_guard.verdict import Outcome, Verdict
from tests.threads import in_threads

NONE = {"allow": 0, "review": 0, "block": 0, "error": 0}
BATCH = tuple(Verdict(outcome, "") for outcome in (*Outcome, Outcome.BLOCK))


def test_nothing_was_counted_before_the_first_batch_or_by_an_empty_one() -> None:
    tally = OutcomeCounter()
    assert tally.counts == NONE
    tally(())
    assert tally.counts == NONE


def test_each_outcome_is_counted_by_its_name() -> None:
    tally = OutcomeCounter()
    tally(BATCH)
    tally(BATCH[:1])
    assert tally.counts == {"allow": 2, "review": 1, "block": 2, "error": 1}


def test_returned_counts_are_a_copy() -> None:
    tally = OutcomeCounter()
    tally.counts["allow"] = 99
    assert tally.counts == NONE


def test_two_tallies_count_apart() -> None:
    one, other = OutcomeCounter(), OutcomeCounter()
    one(BATCH)
    assert other.counts == NONE


def test_eight_threads_lose_nothing() -> None:
    tally, ready = OutcomeCounter(), threading.Barrier(8)

    def count(_: int) -> None:
        ready.wait()
        for _ in range(2000):
            tally(BATCH)
            assert sum(tally.counts.values()) % len(BATCH) == 0  # never half a batch

    in_threads(count, 8)
    assert tally.counts == {"allow": 16000, "review": 16000, "block": 32000, "error": 16000}
