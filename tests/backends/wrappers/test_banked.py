"""A model with examples: what they block is blocked by every policy, and nothing else changes."""

from __future__ import annotations

import datetime
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nsfw_guard.backends.examples.bank import Bank
from nsfw_guard.backends.examples.example import Example
from nsfw_guard.backends.examples.matching import hash_of_pixels
from nsfw_guard.backends.spec import Label
from nsfw_guard.backends.wrappers import banked
from nsfw_guard.backends.wrappers.banked import Banked
from nsfw_guard.backends.wrappers.cached import Cached
from nsfw_guard.backends.wrappers.calibrated import Calibrated
from nsfw_guard.backends.wrappers.cascade import Cascade
from nsfw_guard.backends.wrappers.ensemble import Ensemble
from nsfw_guard.backends.wrappers.time_limited import TimeLimited
from nsfw_guard.errors import ConfigError, PolicyError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.pdq import pdq
from nsfw_guard.policy.policy import Policy
from nsfw_guard.policy.rules import Rule
from nsfw_guard.scores import Severity
from nsfw_guard.testing import RED, FakeBackend, FaultyBackend, tiny_model
from nsfw_guard.tools.examples import Decision, add_images
from nsfw_guard.verdict import Outcome
from tests.backends.wrappers.members import TRIPLED, Saying
from tests.images import smooth

IMAGES = smooth(3, 64, 64)


def of(image: torch.Tensor, kind: str = "block", **rest: object) -> Example:
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    return Example(kind=kind, reason="seen before", pixels=hash_of_pixels(pixels), **rest)  # type: ignore[arg-type]


def guard(*examples: Example, score: float = 0.0, **settings: object) -> Guard:
    return Guard(Banked(FakeBackend(score), Bank(examples=examples)), **settings)  # type: ignore[arg-type]


def test_an_example_blocks_its_image_and_no_other() -> None:
    safe, verdicts = guard(of(IMAGES[1]))(IMAGES)
    assert [v.outcome for v in verdicts] == [Outcome.ALLOW, Outcome.BLOCK, Outcome.ALLOW]
    blocked = verdicts[1]
    assert (blocked.category, blocked.score, blocked.flags) == ("example", 1.0, ("example",))
    assert blocked.reason.endswith(f"; blocked by example {of(IMAGES[1]).id} (the same pixels): seen before")
    assert torch.equal(safe[0], IMAGES[0])
    assert not torch.equal(safe[1], IMAGES[1])
    assert safe[1].unique().numel() <= 3


def test_an_example_allows_its_image_and_the_verdict_says_what_the_model_said() -> None:
    verdicts = guard(of(IMAGES[1], "allow"), score=0.9).check(IMAGES)
    assert [v.outcome for v in verdicts] == [Outcome.BLOCK, Outcome.ALLOW, Outcome.BLOCK]
    assert "allowed by example" in verdicts[1].reason
    assert verdicts[1].scores is not None
    assert verdicts[1].scores.views[0].details["model red high"] == 0.9


def test_what_the_examples_are_not_like_is_judged_as_without_them() -> None:
    plain = Guard(FakeBackend()).check(IMAGES)
    compared = Guard(Banked(FakeBackend(), Bank(examples=[of(torch.zeros(3, 8, 8))])))
    for before, after in zip(plain, compared.check(IMAGES), strict=True):
        assert (before.outcome, before.reason, before.score) == (after.outcome, after.reason, after.score)


@pytest.mark.parametrize("fault", ["nan", "raises", "few", "none", "above one"])
def test_a_model_that_fails_is_an_error_even_for_what_is_allowed(fault: str) -> None:
    faulty = Banked(FaultyBackend(fault), Bank(examples=[of(one, "allow") for one in IMAGES]))  # type: ignore[arg-type]
    assert {v.outcome for v in Guard(faulty).check(IMAGES)} == {Outcome.ERROR}


def test_an_image_that_is_no_image_is_an_error_even_with_examples() -> None:
    broken = torch.full((1, 3, 8, 8), float("nan"))
    assert guard(of(IMAGES[0], "allow")).check(broken)[0].outcome is Outcome.ERROR


def test_a_policy_that_would_not_judge_examples_is_refused() -> None:
    policy = Policy(rules={"red": Rule(block=0.5)})
    with pytest.raises(PolicyError, match="does not judge 'example', so it would have no effect"):
        guard(of(IMAGES[0]), policy=policy)
    named = Policy(rules={"red": Rule(block=0.5), "example": Rule(block=0.5)})
    assert guard(of(IMAGES[0]), policy=named).check(IMAGES)[0].outcome is Outcome.BLOCK


@pytest.mark.parametrize("preset", ["default", "strict", "lenient"])
def test_every_preset_judges_examples(preset: str) -> None:
    assert guard(of(IMAGES[0]), policy=preset).check(IMAGES)[0].outcome is Outcome.BLOCK


def test_a_calibration_below_the_bank_does_not_move_it() -> None:
    both = Guard(Banked(Calibrated(FakeBackend(0.5), TRIPLED), Bank(examples=[of(IMAGES[0])])))
    first, second, _ = both.check(IMAGES)
    assert (first.category, first.score) == ("example", 1.0)
    assert second.score == pytest.approx(0.75)


def test_with_a_calibration_an_allow_example_allows_its_own_pixels_only() -> None:
    image = smooth(1, 128, 128)[0]
    small = torch.nn.functional.interpolate(image[None], (64, 64), mode="area")[0]
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    allow = of(image, "allow", pdq=pdq(pixels).hex, ceiling={"red high": 1.0})
    plain, calibrated = FakeBackend(0.5), Calibrated(FakeBackend(0.5), TRIPLED)
    for backend, copy in ((plain, Outcome.ALLOW), (calibrated, Outcome.BLOCK)):
        guard = Guard(Banked(backend, Bank(examples=[allow], model="red")))
        assert guard.check([image])[0].outcome is Outcome.ALLOW
        assert guard.check([small])[0].outcome is copy


def test_a_bank_of_another_model_is_refused_by_name() -> None:
    vectors = {of(IMAGES[0]).id: torch.ones(3)}
    bank = Bank(examples=[of(IMAGES[0])], embeddings=vectors, model="other", revision="2")
    with pytest.raises(ConfigError, match="embeddings of 'other' '2', not of 'red'"):
        Banked(FakeBackend(), bank)


def test_a_model_without_embeddings_cannot_be_compared_and_judges_nothing() -> None:
    class Bare(FakeBackend):
        def score(self, stacks, *, embeddings=False, digests=False):  # type: ignore[no-untyped-def]
            return super().score(stacks, embeddings=False, digests=digests)

    sample = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    bank = Bank(
        examples=[of(IMAGES[0])], embeddings={of(IMAGES[0]).id: 9 * torch.ones(3)}, ordinary=sample, budget=0.05,
        model="red", revision=FakeBackend().spec.version,
    )  # fmt: skip
    first, second, _ = Guard(Banked(Bare(), bank)).check(IMAGES)
    assert {first.outcome, second.outcome} == {Outcome.ERROR}
    assert "returned no embedding" in second.reason


def test_embeddings_come_out_only_where_they_were_asked_for() -> None:
    backend = Banked(FakeBackend(), Bank(examples=[of(IMAGES[0])]))
    from nsfw_guard.imaging.frames import Frames

    assert backend.score([Frames(IMAGES)])[0].embedding is None
    assert backend.score([Frames(IMAGES)], embeddings=True)[0].embedding is not None


def test_a_folder_is_read_again_when_it_changes(tmp_path: Path) -> None:
    folder = tmp_path / "bank"
    Bank().save(folder)
    followed = Guard(Banked(FakeBackend(0.0), folder))
    assert followed.state["bank"].endswith("; read again when it changes")
    assert followed.check(IMAGES)[0].outcome is Outcome.ALLOW
    Bank(examples=[of(IMAGES[0])]).save(folder)
    assert [v.outcome for v in followed.check(IMAGES)] == [Outcome.BLOCK, Outcome.ALLOW, Outcome.ALLOW]
    Bank().save(folder)
    assert followed.check(IMAGES)[0].outcome is Outcome.ALLOW


def test_a_folder_that_goes_or_breaks_judges_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "bank"
    Bank(examples=[of(IMAGES[0])]).save(folder)
    followed = Guard(Banked(FakeBackend(0.0), folder))
    (folder / "bank.json").write_text("{")
    assert {v.outcome for v in followed.check(IMAGES)} == {Outcome.ERROR}
    (folder / "bank.json").unlink()
    assert {v.outcome for v in followed.check(IMAGES)} == {Outcome.ERROR}
    with pytest.raises(ConfigError):
        Guard(Banked(FakeBackend(), folder))


def test_an_example_that_expires_while_the_guard_runs_stops_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    running = guard(of(IMAGES[0], expires="2026-12-01"))
    monkeypatch.setattr(banked, "today", lambda: datetime.date(2026, 12, 1))
    assert running.check(IMAGES)[0].outcome is Outcome.BLOCK
    monkeypatch.setattr(banked, "today", lambda: datetime.date(2026, 12, 2))
    assert running.check(IMAGES)[0].outcome is Outcome.ALLOW


def test_a_saved_guard_keeps_its_bank_and_what_it_allows_is_said(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    pixels = (IMAGES[0] * 255).round().byte().permute(1, 2, 0).numpy()
    image = np.ascontiguousarray(pixels)
    Guard.from_pretrained(model, bank=Bank(examples=[of(IMAGES[0])])).save_pretrained(tmp_path / "saved")
    again = Guard.from_pretrained(tmp_path / "saved")
    assert again.check([image])[0].category == "example"
    assert again.requested["bank"] == "as saved"
    with pytest.raises(ConfigError, match="holds the bank of another guard, and this one has none"):
        Guard.from_pretrained(model).save_pretrained(tmp_path / "saved")
    allowing = Bank(examples=[of(IMAGES[0], "allow")])
    Guard.from_pretrained(model, bank=allowing).save_pretrained(tmp_path / "loose")
    with pytest.raises(ConfigError, match="its bank allows what is like 1 examples"):
        Guard.from_pretrained(tmp_path / "loose")
    assert Guard.from_pretrained(tmp_path / "loose", trust_guard=True).check([image])[0].outcome is Outcome.ALLOW
    assert Guard.from_pretrained(tmp_path / "loose", bank=allowing).check([image])[0].outcome is Outcome.ALLOW


def test_an_allow_example_of_a_low_severity_allows_no_copy_of_a_high_one() -> None:
    class Graded(FakeBackend):
        """Every image scores 0.9 for the low level, and what is asked for the high one."""

        def __init__(self, high: float) -> None:
            super().__init__(0.9)
            self.high = high
            self.spec = replace(RED, labels={"a": Label("red", Severity.LOW), "b": Label("red", Severity.HIGH)})

        def score(self, stacks, *, embeddings=False, digests=False):  # type: ignore[no-untyped-def]
            levels = {"red": {Severity.LOW: 0.9, Severity.HIGH: self.high}}
            plain = super().score(stacks, embeddings=embeddings, digests=digests)
            return [replace(one, views=tuple(replace(v, levels=levels) for v in one.views)) for one in plain]

    image = np.ascontiguousarray((smooth(1, 128, 128)[0] * 255).byte().permute(1, 2, 0).numpy())
    policy = Policy(rules={"red": Rule(block=0.5, severity=Severity.HIGH), "*": Rule(block=0.5)})
    bank, _ = add_images(Bank(), Guard(Graded(0.1), policy=policy), [image], Decision(kind="allow", reason="art"))
    copy = np.asarray(Image.fromarray(image).resize((96, 96), Image.Resampling.BICUBIC))
    (calm,) = Guard(Banked(Graded(0.1), bank), policy=policy).check([copy])
    assert "allowed by example" in calm.reason
    (worse,) = Guard(Banked(Graded(0.85), bank), policy=policy).check([copy])
    assert worse.outcome is Outcome.BLOCK


def test_a_cache_around_a_bank_is_refused(tmp_path: Path) -> None:
    banked = Banked(FakeBackend(), Bank(examples=[of(IMAGES[0])]))
    for backend in (banked, TimeLimited(banked, 5), Ensemble([banked, Saying("other", times=0.0)])):
        with pytest.raises(ConfigError, match="a cache around a bank"):
            Cached(backend)
    assert Guard(Banked(Cached(FakeBackend()), banked.bank)).check(IMAGES)[0].category == "example"


def test_a_bank_of_a_member_is_heard_and_named_or_refused() -> None:
    bank = Bank(examples=[of(IMAGES[0])])
    first, second = Saying("red", times=0.0), Saying("other", times=0.0)
    (verdict,) = Guard(Ensemble([Banked(first, bank), second])).check(IMAGES[:1])
    assert verdict.outcome is Outcome.BLOCK
    assert "blocked by example" in verdict.reason
    with pytest.raises(ConfigError, match="'other' must be heard on example, and is asked only in doubt"):
        Cascade(first, Banked(second, bank), band=(0.1, 0.9))
    for combine in ("mean", "vote"):
        with pytest.raises(ConfigError, match="may outvote it"):
            Ensemble([Banked(first, bank), Banked(second, Bank())], combine=combine)  # type: ignore[arg-type]
    around = Guard(Banked(Cascade(first, second, band=(0.1, 0.9)), bank))
    assert around.check(IMAGES)[0].category == "example"


def test_the_bank_of_a_saved_guard_is_read_once_and_may_not_be_missing(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    image = np.ascontiguousarray((IMAGES[0] * 255).round().byte().permute(1, 2, 0).numpy())
    Guard.from_pretrained(model, bank=Bank(examples=[of(IMAGES[0])])).save_pretrained(tmp_path / "saved")
    again = Guard.from_pretrained(tmp_path / "saved")
    Bank(examples=[of(IMAGES[0], "allow")]).save(tmp_path / "saved" / "bank")  # what it allows was not checked
    assert again.check([image])[0].category == "example"
    shutil.rmtree(tmp_path / "saved" / "bank")
    with pytest.raises(ConfigError, match="was saved with a bank, which is missing"):
        Guard.from_pretrained(tmp_path / "saved")
