"""A fault is said once a job."""

from __future__ import annotations

from nsfw_guard.hosts.faults import Faults, in_words


def test_each_kind_of_fault_is_said_once_a_job_and_traced_once(caplog):
    faults = Faults()
    for _ in range(2):
        for _ in range(5):
            faults.say("a hook failed", ValueError("one"))
            faults.say("a hook failed", ValueError("another text"))
            faults.say("a hook failed", KeyError("x"))
            faults.say("another hook failed", ValueError("one"))
        faults.begin_job()
    said = [(record.getMessage(), bool(record.exc_info)) for record in caplog.records]
    texts = [
        "NSFW guard: a hook failed (ValueError: one)",
        "NSFW guard: a hook failed (KeyError: 'x')",
        "NSFW guard: another hook failed (ValueError: one)",
    ]
    assert said == [(text, True) for text in texts] + [(text, False) for text in texts]
    assert in_words(ValueError("one")) == "ValueError: one"
