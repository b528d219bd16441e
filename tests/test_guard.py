"""No way out for a picture that was not judged, and not one bit changed of one that was allowed."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from nsfw_guard.actions import Action, Block
from nsfw_guard.backends.spec import Label
from nsfw_guard.errors import BlockedError, ImageError, PolicyError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging import frames
from nsfw_guard.imaging.decode import Stream
from nsfw_guard.imaging.frames import Batch, Frames
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.listeners.audit import Audit, verify
from nsfw_guard.scores import Scores, Severity
from nsfw_guard.testing import FAULTS, RED, FakeBackend, FaultyBackend, red_model
from nsfw_guard.verdict import Outcome, Verdict
from tests.imaging.decode.files import flat, moving
from tests.threads import in_threads

CLEAN = torch.full((3, 8, 12), 0.4)
UNSAFE = torch.zeros(3, 8, 12)
UNSAFE[0] = 1.0
DOUBTFUL = CLEAN.clone()
DOUBTFUL[:, :, :4] = UNSAFE[:, :, :4]  # a third is red: above review 0.25, below block 0.5
BATCH = torch.stack([CLEAN, UNSAFE, DOUBTFUL])


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


def animated(*colours: tuple[int, int, int]) -> bytes:
    return moving([flat(colour, (16, 12)) for colour in colours], "PNG")


@pytest.mark.parametrize("group", [16_000_000, 1])
def test_a_file_is_decoded_once_and_covered_by_its_first_frame(group, monkeypatch) -> None:
    files = [animated((90, 90, 90), (255, 0, 0)), animated((9, 9, 200), (9, 9, 90)), animated((255, 0, 0), (9, 9, 9))]
    opened = []
    monkeypatch.setattr(frames, "Stream", lambda *args, **kwargs: opened.append(args[0]) or Stream(*args, **kwargs))
    monkeypatch.setattr(frames.in_groups, "__kwdefaults__", {**frames.in_groups.__kwdefaults__, "pixels": group})
    guard = Guard(FakeBackend(), action="blur")
    out, verdicts = guard(files)
    assert [v.outcome for v in verdicts] == [Outcome.BLOCK, Outcome.ALLOW, Outcome.BLOCK]
    assert out[1] is files[1]
    # In groups of one frame the flagged frame of the first file comes when its first one is gone.
    assert [files.index(one) for one in opened] == ([0, 1, 2] if group > 1 else [0, 1, 2, 0])
    for index in (0, 2):
        assert np.array_equal(np.asarray(out[index]), np.asarray(guard.apply(files[index], [verdicts[index]])))


def test_frames_are_judged_and_covered_as_the_tensor_they_hold() -> None:
    guard = Guard(FakeBackend())
    out, verdicts = guard(Frames(BATCH))
    assert verdicts == guard.check(BATCH)
    assert torch.equal(out.pixels, guard(BATCH)[0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 7.0])
def test_an_invalid_picture_is_an_error_and_the_others_are_judged(bad) -> None:
    batch = BATCH.clone()
    batch[0, 1, 2, 3] = bad

    out, verdicts = Guard(FakeBackend())(batch)

    assert [v.outcome for v in verdicts] == [Outcome.ERROR, Outcome.BLOCK, Outcome.REVIEW]
    assert out[0].unique().tolist() == [0.0]
    assert torch.equal(out[2], DOUBTFUL)


def test_files_that_cannot_be_read_are_errors_with_a_reason(tmp_path) -> None:
    (tmp_path / "text.png").write_text("no picture")
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
    with pytest.raises(ImageError, match=f"{count} verdicts for 3 pictures"):
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


def test_an_action_that_breaks_gives_a_solid_picture() -> None:
    class Broken(Action):
        name = "broken"

        def cover(self, patch, verdict):
            raise RuntimeError("no")

    out, _ = Guard(FakeBackend(), action=Broken())(BATCH)
    assert out[1].unique().tolist() == [0.0]


def test_a_listener_that_fails_holds_its_pictures_back() -> None:
    def broken(verdicts):
        raise OSError("disk full")

    out, verdicts = Guard(FakeBackend(), listeners=[broken])(BATCH)
    assert [v.outcome for v in verdicts] == [Outcome.ERROR] * 3
    assert "disk full" in verdicts[0].reason
    assert out.unique().tolist() == [0.0]


def test_the_worst_frame_of_a_picture_decides(tmp_path) -> None:
    frames = [Image.new("RGB", (12, 8), (90, 90, i)) for i in range(4)] + [Image.new("RGB", (12, 8), (255, 0, 0))]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])

    (out,), (verdict,) = Guard(FakeBackend())([tmp_path / "moving.gif"])

    assert verdict.outcome is Outcome.BLOCK
    assert np.asarray(out).max() == 0


def test_an_animation_that_is_too_long_to_look_at_is_an_error(tmp_path) -> None:
    frames = [Image.new("RGB", (12, 8), (0, 0, 9 * i)) for i in range(9)]
    frames[0].save(tmp_path / "long.gif", save_all=True, append_images=frames[1:])
    (verdict,) = Guard(FakeBackend(), limits=Limits(frames=4)).check([tmp_path / "long.gif"])
    assert verdict.outcome is Outcome.ERROR
    assert "over 4 frames" in verdict.reason


def test_large_files_are_judged_one_after_the_other(tmp_path) -> None:
    backend = FakeBackend()
    images = [Image.new("RGB", (5000, 2500), colour) for colour in ("blue", "red", "green")]
    verdicts = Guard(backend).check(images)
    assert [v.outcome for v in verdicts] == [Outcome.ALLOW, Outcome.BLOCK, Outcome.ALLOW]
    assert backend.calls == 3


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
    with pytest.raises(PolicyError, match="'gore', which the model does not score: there are red"):
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
    assert lines[0]["picture"] == lines[4]["picture"] == f"{int((CLEAN * 255).round().sum()):064x}"
    assert lines[3]["picture"] is None


def test_an_audit_that_cannot_write_stops_the_pictures(tmp_path) -> None:
    audit = Audit(tmp_path / "log.jsonl")
    (tmp_path / "log.jsonl").mkdir()

    out, verdicts = Guard(FakeBackend(), listeners=[audit])(BATCH)

    assert [v.outcome for v in verdicts] == [Outcome.ERROR] * 3
    assert "AuditError" in verdicts[0].reason
    assert out.unique().tolist() == [0.0]


def test_an_audit_that_may_lose_lines_lets_the_pictures_go(tmp_path, caplog) -> None:
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


def test_regions_of_the_worst_frame_are_covered() -> None:
    from nsfw_guard.scores import Region

    class Boxes(FakeBackend):
        def score(self, stacks, *, embeddings=False, digests=False):
            scores = super().score(stacks)
            return [Scores(s.views, regions=(Region(0.0, 0.0, 0.25, 0.5, "red"),)) for s in scores]

    out, _ = Guard(Boxes())(BATCH)
    assert out[1, :, :4, :3].max() == 0.0
    assert torch.equal(out[1, :, 6:, 6:], UNSAFE[:, 6:, 6:])


def test_a_category_that_the_backend_forgot_is_an_error() -> None:
    class Forgetful(FakeBackend):
        def score(self, stacks, *, embeddings=False, digests=False):
            return [Scores.single({"blue": {Severity.HIGH: 0.0}}) for s in stacks for _ in range(len(s))]

    verdicts = Guard(Forgetful()).check(BATCH)
    assert [v.outcome for v in verdicts] == [Outcome.ERROR] * 3
    assert "not evaluated" in verdicts[0].reason
    assert RED.levels == {"red": (Severity.HIGH,)}


def test_a_picture_of_which_no_frame_was_judged_is_an_error() -> None:
    (verdict,) = Guard(FakeBackend())._judge(iter([Batch(1)]), 1, {})
    assert (verdict.outcome, verdict.reason) == (Outcome.ERROR, "no frame of it was judged")


def test_a_listener_cannot_change_a_verdict() -> None:
    class Untested(FakeBackend):
        def state(self):
            return {"self_test": "skipped"}

    def tamper(verdicts):
        verdicts[0].state["self_test"] = "passed"

    out, verdicts = Guard(Untested(), listeners=[tamper])(BATCH)
    assert out.unique().tolist() == [0.0]
    assert "cannot be changed" in verdicts[0].reason


def colours(out, index: int) -> list[float]:
    """The one colour of a picture that is solid."""
    pixels = out[index].flatten(1)
    assert torch.equal(pixels, pixels[:, :1].expand_as(pixels))
    return [round(value, 2) for value in pixels[:, 0].tolist()]


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
    ("colour", "outcome", "reason"),
    [
        ((255, 0, 0), Outcome.BLOCK, "red 1.000 >= 0.5 (full view)"),
        ((0, 0, 255), Outcome.REVIEW, "only 4 of 9 frames were looked at"),
    ],
)
def test_unseen_frames_never_make_an_animations_verdict_milder(colour, outcome, reason, tmp_path) -> None:
    frames = [Image.new("RGB", (12, 8), colour), *(Image.new("RGB", (12, 8), (0, 0, 9 * i)) for i in range(8))]
    frames[0].save(tmp_path / "long.gif", save_all=True, append_images=frames[1:])
    path = tmp_path / "long.gif"

    (out,), (verdict,) = Guard(FakeBackend(), limits=Limits(frames=4, unseen="review"))([path])

    assert (verdict.outcome, verdict.reason) == (outcome, reason)
    assert (out == path) is (outcome is Outcome.REVIEW)


def test_an_error_in_the_seen_frames_of_an_animation_stays_an_error(tmp_path) -> None:
    frames = [Image.new("RGB", (12, 8), (0, 0, 9 * i)) for i in range(9)]
    frames[0].save(tmp_path / "long.gif", save_all=True, append_images=frames[1:])
    (verdict,) = Guard(FaultyBackend("nan"), limits=Limits(frames=4, unseen="review")).check([tmp_path / "long.gif"])
    assert verdict.outcome is Outcome.ERROR
    assert "no probability" in verdict.reason


def test_a_review_in_the_seen_frames_keeps_its_reason(tmp_path) -> None:
    doubtful = Image.fromarray((DOUBTFUL.permute(1, 2, 0) * 255).byte().numpy())
    frames = [doubtful, *(Image.new("RGB", (12, 8), (0, 0, 9 * i)) for i in range(8))]
    frames[0].save(tmp_path / "long.gif", save_all=True, append_images=frames[1:])
    (verdict,) = Guard(FakeBackend(), limits=Limits(frames=4, unseen="review")).check([tmp_path / "long.gif"])
    assert (verdict.outcome, verdict.flags) == (Outcome.REVIEW, ("red",))
    assert verdict.reason.startswith("red 0.3")


def test_flags_are_those_of_every_frame() -> None:
    class Two(FakeBackend):
        spec = replace(RED, labels={"red": Label("red"), "blue": Label("blue"), "other": None})

        def score(self, stacks, *, embeddings=False, digests=False):
            levels = [(0.9, 0.0), (0.0, 0.6), (0.0, 0.3)]
            return [Scores.single({"red": {Severity.HIGH: r}, "blue": {Severity.HIGH: b}}) for r, b in levels]

    verdict = Guard(Two())._of_image([Guard(Two()).policy.decide(s) for s in Two().score(())], None, None)
    assert (verdict.outcome, verdict.category, verdict.flags) == (Outcome.BLOCK, "red", ("blue", "red"))


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


def test_only_a_released_flagged_picture_is_warned_about(caplog) -> None:
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


def test_a_picture_with_a_fault_is_an_error_whatever_was_seen_of_it() -> None:
    guard = Guard(FakeBackend())
    allowed = guard.check(CLEAN[None])
    verdict = guard._of_image(allowed, "its second half is missing", None)
    assert (verdict.outcome, verdict.reason) == (Outcome.ERROR, "its second half is missing")
