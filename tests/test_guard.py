"""No way out for an image that was not judged, and not one bit changed of one that was allowed."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace

import pytest
import torch
from PIL import Image

from nsfw_guard.actions import Action, Block
from nsfw_guard.backends.spec import Label
from nsfw_guard.errors import BlockedError, ImageError, PolicyError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.listeners.audit import Audit, verify
from nsfw_guard.scores import Scores, Severity
from nsfw_guard.testing import FAULTS, RED, FakeBackend, FaultyBackend, red_model
from nsfw_guard.verdict import Outcome, Verdict
from tests.threads import in_threads
from tests.three_images import BATCH, CLEAN, DOUBTFUL, UNSAFE, colours


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("action", ["block", "blur", "pixelate", "replace", "flag"])
def test_a_backend_that_fails_releases_nothing(fault, action) -> None:
    guard = Guard(FaultyBackend(fault, seconds=3), action=action, timeout=0.2 if fault == "hangs" else None)

    out, verdicts = guard(BATCH)

    assert [v.outcome for v in verdicts] == [Outcome.ERROR] * 3
    assert out.unique().tolist() == [0.0]
    assert all(v.flagged and v.reason for v in verdicts)
    assert guard.counter.counts == {"allow": 0, "review": 0, "block": 0, "error": 3}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 7.0])
def test_an_invalid_image_is_an_error_and_the_others_are_judged(bad) -> None:
    batch = BATCH.clone()
    batch[0, 1, 2, 3] = bad

    out, verdicts = Guard(FakeBackend())(batch)

    assert [v.outcome for v in verdicts] == [Outcome.ERROR, Outcome.BLOCK, Outcome.REVIEW]
    assert out[0].unique().tolist() == [0.0]
    assert torch.equal(out[2], DOUBTFUL)


def test_files_that_cannot_be_read_are_errors_with_a_reason(tmp_path) -> None:
    (tmp_path / "text.png").write_text("no image")
    verdicts = Guard(FakeBackend()).check([tmp_path / "text.png", "missing.png", b"", CLEAN])

    assert [v.outcome for v in verdicts] == [Outcome.ERROR] * 3 + [Outcome.ALLOW]
    assert all(v.reason for v in verdicts)
    assert all(v.scores is None and v.score is None for v in verdicts[:3])


@pytest.mark.parametrize("images", [torch.zeros(2, 6, 8, 3), [], torch.zeros(0, 3, 4, 4)])
def test_an_input_that_is_not_a_batch_raises(images) -> None:
    with pytest.raises(ImageError):
        Guard(FakeBackend())(images)


@pytest.mark.parametrize("count", [0, 2, 4])
def test_counts_that_do_not_match_release_nothing(count) -> None:
    guard = Guard(FakeBackend())
    verdicts = guard.check(torch.stack([CLEAN] * 4))[:count]
    with pytest.raises(ImageError, match=f"got {count} verdicts for 3 images"):
        guard.apply(BATCH, verdicts)


@pytest.mark.parametrize(
    ("action", "on_review", "changed"),
    [
        ("block", "flag", [False, True, False]),
        ("pixelate", "flag", [False, True, False]),
        ("block", "pixelate", [False, True, True]),
        ("flag", "flag", [False, False, False]),
        ("flag", "block", [False, False, True]),
    ],
)
def test_the_outcome_table(action, on_review, changed) -> None:
    guard = Guard(FakeBackend(), action=action, on_review=on_review)
    before = digest(BATCH)

    out, verdicts = guard(BATCH)

    assert [v.outcome for v in verdicts] == [Outcome.ALLOW, Outcome.BLOCK, Outcome.REVIEW]
    assert [v.flagged for v in verdicts] == [False, True, False]
    assert [not torch.equal(a, b) for a, b in zip(out, BATCH, strict=True)] == changed
    assert digest(BATCH) == before


def test_when_everything_is_allowed_the_same_object_comes_back() -> None:
    allowed = torch.stack([CLEAN, CLEAN])
    out, _ = Guard(FakeBackend())(allowed)
    assert out is allowed


@pytest.mark.parametrize("fault", ["raises", "nan", "few"])
def test_fail_open_releases_what_could_not_be_judged_and_says_so(fault, caplog) -> None:
    guard = Guard(FaultyBackend(fault), fail_open=True)

    with caplog.at_level(logging.WARNING):
        out, verdicts = guard(BATCH)

    assert out is BATCH
    assert [v.outcome for v in verdicts] == [Outcome.ERROR] * 3
    assert caplog.text.count("released although flagged (ERROR)") == 3
    assert guard.state["fail_open"] == "true"


def test_fail_open_does_not_release_what_is_blocked() -> None:
    out, _ = Guard(FakeBackend(), fail_open=True)(BATCH)
    assert out[1].unique().tolist() == [0.0]


def test_a_backend_without_a_passed_self_test_releases_nothing() -> None:
    class Untested(FakeBackend):
        def state(self):
            return {"self_test": "skipped"}

    out, verdicts = Guard(Untested(), action="flag")(BATCH)
    assert verdicts[0].outcome is Outcome.ALLOW
    assert out.unique().tolist() == [0.0]


def test_raise_raises_and_names_the_reason() -> None:
    with pytest.raises(BlockedError, match=r"red 1\.000 >= 0\.5"):
        Guard(FakeBackend(), action="raise")(BATCH)


def test_an_action_that_breaks_gives_a_solid_image() -> None:
    class Broken(Action):
        name = "broken"

        def cover(self, patch, verdict):
            raise RuntimeError("no")

    out, _ = Guard(FakeBackend(), action=Broken())(BATCH)
    assert out[1].unique().tolist() == [0.0]


def test_a_listener_that_fails_holds_its_images_back() -> None:
    def broken(verdicts):
        raise OSError("disk full")

    out, verdicts = Guard(FakeBackend(), listeners=[broken])(BATCH)
    assert [v.outcome for v in verdicts] == [Outcome.ERROR] * 3
    assert "disk full" in verdicts[0].reason
    assert out.unique().tolist() == [0.0]


def test_a_verdict_says_who_decided_and_how() -> None:
    guard = Guard(FakeBackend(), requested={"model": "red"})
    verdict = guard.check(BATCH)[1]

    line = json.loads(json.dumps(verdict.to_dict()))
    assert (line["model"], line["policy"], line["policy_hash"]) == ("red", "default", guard.policy.hash)
    assert line["state"] == {"self_test": "passed", "action": "block", "on_review": "flag", "fail_open": "false"}
    assert line["requested"]["model"] == "red"
    assert line["reason"] == "red 1.000 >= 0.5 (full view)"
    assert (line["score"], line["threshold"], line["flags"]) == (1.0, 0.5, ["red"])


def test_a_policy_that_does_not_fit_fails_when_the_guard_is_built() -> None:
    with pytest.raises(PolicyError, match="'gore', which the model does not score: choose from red"):
        Guard(FakeBackend(), policy={"rules": {"gore": {"block": 0.5}}})


def test_one_call_of_the_backend_judges_everything() -> None:
    backend = FakeBackend()
    Guard(backend).check([CLEAN, UNSAFE, Image.new("RGB", (30, 20))])
    assert (backend.calls, backend.frames) == (1, 3)


def test_listeners_get_what_they_ask_for() -> None:
    class Index:
        wants_embeddings = True
        seen: tuple[Verdict, ...] = ()

        def __call__(self, verdicts):
            self.seen = tuple(verdicts)

    index = Index()
    Guard(FakeBackend(), listeners=[index]).check(BATCH)
    assert index.seen[1].scores.embedding.tolist() == [255.0, 0.0, 0.0]
    assert Guard(FakeBackend()).check(BATCH)[1].scores.embedding is None


def test_the_audit_holds_every_verdict(tmp_path) -> None:
    guard = Guard(FakeBackend(), listeners=[Audit(tmp_path / "log.jsonl")])
    guard(BATCH)
    guard.check([b"", CLEAN])

    report = verify(tmp_path / "log.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert (report.ok, report.lines) == (True, 5)
    assert [line["outcome"] for line in lines] == ["allow", "block", "review", "error", "allow"]
    assert lines[0]["image"] == lines[4]["image"] == f"{int((CLEAN * 255).round().sum()):064x}"
    assert lines[3]["image"] is None


def test_an_audit_that_cannot_write_stops_the_images(tmp_path) -> None:
    audit = Audit(tmp_path / "log.jsonl")
    (tmp_path / "log.jsonl").mkdir()

    out, verdicts = Guard(FakeBackend(), listeners=[audit])(BATCH)

    assert [v.outcome for v in verdicts] == [Outcome.ERROR] * 3
    assert "AuditError" in verdicts[0].reason
    assert out.unique().tolist() == [0.0]


def test_an_audit_that_may_lose_lines_lets_the_images_go(tmp_path, caplog) -> None:
    audit = Audit(tmp_path / "log.jsonl", on_failure="warn")
    (tmp_path / "log.jsonl").mkdir()

    verdicts = Guard(FakeBackend(), listeners=[audit]).check(BATCH)

    assert [v.outcome for v in verdicts] == [Outcome.ALLOW, Outcome.BLOCK, Outcome.REVIEW]
    assert audit.lost == 3
    assert caplog.records[0].levelname == "WARNING"


def test_sixteen_threads_get_their_own_verdicts() -> None:
    guard = Guard(FakeBackend())
    wrong: list[int] = []

    def work(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(20):
            pick = torch.randint(0, 3, (4,), generator=generator)
            out, verdicts = guard(BATCH[pick])
            if [v.outcome for v in verdicts] != [(Outcome.ALLOW, Outcome.BLOCK, Outcome.REVIEW)[i] for i in pick]:
                wrong.append(seed)
            if out[pick == 1].any():
                wrong.append(seed)

    in_threads(work, 16)

    assert not wrong
    assert sum(guard.counter.counts.values()) == 16 * 20 * 4


def test_signed_tensors_are_judged_and_covered_in_their_range() -> None:
    signed = BATCH * 2 - 1
    out, verdicts = Guard(FakeBackend())(signed, value_range="signed")
    assert [v.outcome for v in verdicts] == [Outcome.ALLOW, Outcome.BLOCK, Outcome.REVIEW]
    assert out[1].unique().tolist() == [-1.0]
    assert torch.equal(out[[0, 2]], signed[[0, 2]])


def test_a_category_that_the_backend_forgot_is_an_error() -> None:
    class Forgetful(FakeBackend):
        def score(self, stacks, *, embeddings=False, digests=False):
            return [Scores.single({"blue": {Severity.HIGH: 0.0}}) for s in stacks for _ in range(len(s))]

    verdicts = Guard(Forgetful()).check(BATCH)
    assert [v.outcome for v in verdicts] == [Outcome.ERROR] * 3
    assert "not evaluated" in verdicts[0].reason
    assert RED.levels == {"red": (Severity.HIGH,)}


def test_a_listener_cannot_change_a_verdict() -> None:
    class Untested(FakeBackend):
        def state(self):
            return {"self_test": "skipped"}

    def tamper(verdicts):
        verdicts[0].state["self_test"] = "passed"

    out, verdicts = Guard(Untested(), listeners=[tamper])(BATCH)
    assert out.unique().tolist() == [0.0]
    assert "is immutable" in verdicts[0].reason


def test_review_takes_its_own_action_and_block_and_error_the_other() -> None:
    guard = Guard(FakeBackend(), action=Block(colour=(0.0, 0.0, 1.0)), on_review=Block(colour=(0.0, 1.0, 0.0)))
    out, _ = guard(BATCH)
    assert torch.equal(out[0], CLEAN)
    assert colours(out, 1) == [0.0, 0.0, 1.0]
    assert colours(out, 2) == [0.0, 1.0, 0.0]

    broken = BATCH.clone()
    broken[2, 0, 0, 0] = float("nan")
    assert colours(guard(broken)[0], 2) == [0.0, 0.0, 0.0]


def test_a_held_review_uses_on_review_and_not_the_action() -> None:
    class Untested(FakeBackend):
        def state(self):
            return {"self_test": "skipped"}

    out, verdicts = Guard(Untested(), action=Block(colour=(0.0, 0.0, 1.0)), on_review=Block(colour=(0.0, 1.0, 0.0)))(
        BATCH
    )
    assert [v.outcome for v in verdicts] == [Outcome.ALLOW, Outcome.BLOCK, Outcome.REVIEW]
    assert [colours(out, i) for i in range(3)] == [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    ("revision", "sha256", "signed_as"), [("r1", "ab", "r1"), ("r1", "", "r1"), ("", "ab", "ab"), ("", "", "")]
)
def test_every_verdict_is_signed(revision, sha256, signed_as) -> None:
    class Signed(FakeBackend):
        spec = replace(red_model(), revision=revision, sha256=sha256)

    guard = Guard(Signed(), policy="strict", requested={"model": "asked", "action": "as asked"})
    broken = BATCH.clone()
    broken[0, 0, 0, 0] = float("nan")
    verdicts = [*guard.check(broken), *guard.check([b""]), *guard.check_prompts("a castle")]
    assert len({v.outcome for v in verdicts}) == 3
    for verdict in verdicts:
        assert (verdict.model, verdict.revision) == ("red", signed_as)
        assert (verdict.policy, verdict.policy_hash) == ("strict", guard.policy.hash)
        assert verdict.state == {"self_test": "passed", "action": "block", "on_review": "flag", "fail_open": "false"}
        assert verdict.requested == {"model": "asked", "action": "as asked", "on_review": "flag", "fail_open": "false"}
    assert guard.requested == verdicts[0].requested


@pytest.mark.parametrize("embeddings", [True, False, None])
@pytest.mark.parametrize("digests", [True, False, None])
def test_the_backend_computes_only_what_a_listener_wants(embeddings, digests) -> None:
    asked = []

    class Asked(FakeBackend):
        def score(self, stacks, **wants):
            asked.append(wants)
            return super().score(stacks, **wants)

    def listener(verdicts):
        pass

    for name, value in (("wants_embeddings", embeddings), ("wants_digests", digests)):
        if value is not None:
            setattr(listener, name, value)
    guard = Guard(Asked(), listeners=[lambda verdicts: None, listener])
    guard.check(BATCH)
    assert asked == [{"embeddings": bool(embeddings), "digests": bool(digests)}]


def test_only_a_released_flagged_image_is_warned_about(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        Guard(FakeBackend(), action="flag")(BATCH)
    assert [r.getMessage() for r in caplog.records] == [
        "released although flagged (BLOCK): 'red 1.000 >= 0.5 (full view)'"
    ]
    caplog.clear()
    Guard(FakeBackend())(BATCH)
    assert not caplog.records


def test_what_cannot_be_judged_is_logged_with_its_cause(caplog) -> None:
    Guard(FaultyBackend("raises")).check(BATCH)
    assert "could not judge 3 images" in caplog.text
    assert "the model broke" in caplog.text


def test_a_limit_of_time_is_in_the_state_and_none_is_not() -> None:
    assert Guard(FakeBackend(), timeout=9).state["timeout"] == "9 s"
    assert "timeout" not in Guard(FakeBackend()).state


@pytest.mark.parametrize(("limits", "said"), [
    (None, None), (Limits(), None), (Limits(process=True), "a process of its own"),
])  # fmt: skip
def test_the_state_says_where_files_are_decoded(limits, said) -> None:
    assert Guard(FakeBackend(), limits=limits).state.get("decoder") == said


@pytest.mark.parametrize(("rules", "said"), [
    ({"red": {"block": 0.5}, "blue": {"block": 0.5}}, None),
    ({"red": {"block": 0.5}, "blue": {"review": 0.5}}, "not blue (review rules only)"),
    ({"red": {"review": 0.5}, "blue": {"review": 0.5}}, "nothing (review rules only)"),
])  # fmt: skip
def test_the_state_says_what_is_never_blocked(rules, said) -> None:
    backend = FakeBackend()
    backend.spec = replace(backend.spec, labels={**backend.spec.labels, "blue": Label("blue")})
    assert Guard(backend, policy={"rules": rules}).state.get("blocks") == said


def test_check_then_apply_equals_a_call() -> None:
    guard = Guard(FakeBackend())
    assert torch.equal(guard.apply(BATCH, guard.check(BATCH)), guard(BATCH)[0])
