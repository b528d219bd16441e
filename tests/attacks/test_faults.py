"""Plug-ins that misbehave: backends, actions, listeners, regions and logs. Whatever they do, nothing unsafe leaves."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from nsfw_guard.actions import SHARE, Action, Blur, boxes, covered
from nsfw_guard.audit import Audit, Head, verify
from nsfw_guard.backends.opinions import Cascade, Ensemble
from nsfw_guard.backends.wrap import TimeLimited
from nsfw_guard.errors import AuditError, ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.images import Frames
from nsfw_guard.policy import Policy
from nsfw_guard.prompts import PromptRules
from nsfw_guard.rules import Rule
from nsfw_guard.scores import Region, Scores, Severity, View, ViewScores
from nsfw_guard.testing import RED, FakeBackend
from nsfw_guard.verdict import Outcome, Verdict

ALLOW, REVIEW, BLOCK, ERROR = Outcome
HIGH = Severity.HIGH
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


def scene(side: int = 48) -> Tensor:
    """A red disc on a checked ground: unsafe here. Shape: (3, side, side)."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    ground = ((torch.arange(side)[:, None] // 6 + torch.arange(side) // 6) % 2).float() * 0.5 + 0.2
    made = ground.expand(3, -1, -1).clone()
    made[:, x**2 + y**2 < 0.8] = torch.tensor([0.9, 0.1, 0.1])[:, None]
    return made


UNSAFE = scene()
CLEAN = UNSAFE.flip(0)  # the disc is blue
BATCH = torch.stack([CLEAN, UNSAFE])


def leaks(out: Any, unsafe: Tensor = UNSAFE) -> bool:
    """Whether what left is the unsafe picture, within 0.02, on more than a tenth of its pixels."""
    array = np.asarray(out, dtype=np.float32) if not isinstance(out, Tensor) else out.float()
    pixels = torch.as_tensor(array / 255 if float(array.max()) > 1 else array)
    pixels = pixels if pixels.shape[0] == 3 else pixels.permute(2, 0, 1)
    return float(((pixels - unsafe).abs().amax(0) < 0.02).float().mean()) > SHARE


# ---- actions: what is handed back for a flagged picture


class Custom(Action):
    """Whatever a function makes of a frame."""

    name = "custom"

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        self.make = make

    def __call__(self, frame: Tensor, verdict: Verdict) -> Any:
        return self.make(frame)


def write_and_return(frame: Tensor) -> Tensor:
    kept = frame.clone()
    frame.zero_()
    return kept


COVERS: dict[str, Callable[[Tensor], Any]] = {
    "the frame": lambda f: f,
    "a clone": lambda f: f.clone(),
    "a view": lambda f: f[:],
    "another shape's view": lambda f: f.flatten().view_as(f),
    "float64": lambda f: f.double(),
    "complex": lambda f: f.to(torch.complex64),
    "half": lambda f: f.half(),
    "bytes": lambda f: (f * 255).byte(),
    "bools": lambda f: f > 0.5,
    "nearly the frame": lambda f: f + 1 / 255,
    "fainter by a hair": lambda f: f * 0.98,
    "a corner painted": lambda f: torch.cat([torch.zeros_like(f[:, :2]), f[:, 2:]], 1),
    "one pixel painted": lambda f: f.index_fill(2, torch.tensor([0]), 0.0),
    "the frame, once its own was zeroed": write_and_return,
    "out of range": lambda f: f + 3,
    "below range": lambda f: f - 3,
    "nan": lambda f: f * float("nan"),
    "one nan": lambda f: f.masked_fill(f == f.max(), float("nan")),
    "infinite": lambda f: f + float("inf"),
    "none": lambda f: None,
    "numpy": lambda f: f.numpy(),
    "pil": lambda f: Image.new("RGB", (48, 48)),
    "a list": lambda f: f.tolist(),
    "a number": lambda f: 0,
    "a batch": lambda f: f[None],
    "grey": lambda f: f[:1],
    "empty": lambda f: f[:, :0],
    "meta": lambda f: f.to("meta"),
    "sparse": lambda f: f.to_sparse(),
}


@pytest.mark.parametrize("name", COVERS)
def test_a_cover_that_does_not_cover_is_replaced_by_a_solid_one(name, caplog):
    out, verdicts = Guard(FakeBackend(), action=Custom(COVERS[name]))(BATCH)

    assert verdicts[1].outcome is BLOCK
    assert out[1].unique().tolist() == [0.0]
    assert torch.equal(out[0], CLEAN)
    assert "a solid picture stands in" in caplog.text


@pytest.mark.parametrize("name", COVERS)
def test_so_it_is_for_a_picture_under_review(name):
    guard = Guard(FakeBackend(), policy={"rules": {"red": {"review": 0.1}}}, on_review=Custom(COVERS[name]))
    out, verdicts = guard(BATCH)
    assert verdicts[1].outcome is REVIEW
    assert out[1].unique().tolist() == [0.0]


@pytest.mark.parametrize("name", [n for n in COVERS if n not in {"pil", "a number"}])
def test_so_it_is_in_each_region(name):
    """Under a region the cover must differ there: elsewhere it may change what it likes."""

    def elsewhere(frame: Tensor) -> Any:
        made = COVERS[name](frame)
        if isinstance(made, Tensor) and made.shape == frame.shape and made.dtype == frame.dtype:
            made = made.clone()
            made[:, :, 24:] = 0.0
        return made

    class Boxes(FakeBackend):
        def score(self, stacks, *, embeddings=False, digests=False):
            regions = (Region(0.1, 0.1, 0.4, 0.9, "red"), Region(0.6, 0.1, 0.9, 0.9, "red"))
            return [Scores(s.views, regions=regions) for s in super().score(stacks)]

    out, _ = Guard(Boxes(), action=Custom(elsewhere))(BATCH)
    assert out[1].unique().tolist() == [0.0]


def test_a_custom_cover_that_covers_is_taken_as_it_is():
    out, _ = Guard(FakeBackend(), action=Custom(lambda f: f.flip(2) * 0.25 + 0.5))(BATCH)
    expected = ((UNSAFE.flip(2) * 0.25 + 0.5) * 255).round() / 255
    assert float((out[1] - expected).abs().max()) < 1.5 / 255


def test_a_cover_out_of_range_by_a_rounding_is_clipped():
    made = covered(UNSAFE, Guard(FakeBackend()).check(UNSAFE[None])[0], Custom(lambda f: 1.001 - f))
    assert float(made.max()) <= 1.0
    assert float(made.max()) > 0.7


@pytest.mark.parametrize("name", ["block", "blur", "pixelate", "replace"])
def test_the_actions_of_this_package_pass_their_own_check(name, caplog):
    out, _ = Guard(FakeBackend(), action=name)(BATCH)
    assert not caplog.text
    assert not leaks(out[1])


def test_nothing_is_said_of_a_cover_that_equals_a_flat_picture(caplog):
    flat = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1).expand(3, 16, 16)
    out, verdicts = Guard(FakeBackend(), action=Blur())(flat[None])
    assert verdicts[0].outcome is BLOCK
    assert out.unique().tolist() == [0.0]
    assert not caplog.text


def test_flag_alone_may_show_what_is_flagged():
    out, verdicts = Guard(FakeBackend(), action="flag")(BATCH)
    assert verdicts[1].outcome is BLOCK
    assert out is BATCH


@settings(max_examples=60, deadline=None)
@given(
    scale=st.floats(-2, 2),
    shift=st.floats(-2, 2),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.uint8, torch.complex64]),
    rows=st.integers(0, 48),
)
def test_whatever_an_action_returns_the_picture_is_not_shown(scale, shift, dtype, rows):
    def make(frame: Tensor) -> Tensor:
        made = frame.clone()
        made[:, :rows] = made[:, :rows] * scale + shift
        return made.to(dtype)

    made = covered(UNSAFE, Guard(FakeBackend()).check(UNSAFE[None])[0], Custom(make))
    assert made.shape == UNSAFE.shape
    assert made.dtype == UNSAFE.dtype
    assert 0.0 <= float(made.min()) <= float(made.max()) <= 1.0
    assert float(((made - UNSAFE).abs().amax(0) > 8 / 255).float().mean()) >= SHARE


# ---- backends: what is done to the pixels


class Writer(FakeBackend):
    """Writes into what it is given, then scores that."""

    def __init__(self, write: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.write = write

    def score(self, stacks, *, embeddings=False, digests=False):
        for stack in stacks:
            self.write(stack.pixels)
        return super().score(stacks, embeddings=embeddings, digests=digests)


WRITES: dict[str, Callable[[Tensor], object]] = {
    "zeroes it": lambda p: p.zero_(),
    "scales it": lambda p: p.mul_(0),
    "through data": lambda p: p.data.zero_(),
    "through a view": lambda p: p[:, :, :2].zero_(),
    "through NumPy": lambda p: p.numpy().fill(0),
    "without a gradient": lambda p: p.detach().clamp_(0, 0),
    "one pixel": lambda p: p[0, 0, 7, 7].fill_(0),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("wrap", ["bare", "time limit", "ensemble", "cascade"])
def test_a_backend_that_writes_into_its_input_releases_nothing(write, wrap):
    writer = Writer(WRITES[write])
    other = FakeBackend()
    other.spec = writer.spec.__class__(**{**vars(RED), "name": "other"})
    backend = {
        "bare": lambda: writer,
        "time limit": lambda: TimeLimited(writer, 30),
        "ensemble": lambda: Ensemble([other, writer]),
        "cascade": lambda: Cascade(writer, other, band=(0.01, 0.99)),
    }[wrap]()
    out, verdicts = Guard(backend)(BATCH.clone())

    assert [v.outcome for v in verdicts] == [ERROR, ERROR]
    assert "wrote into the pixels" in verdicts[0].reason
    assert out.unique().tolist() == [0.0]


@pytest.mark.parametrize("form", ["pil", "numpy", "uint8", "inference", "png"])
@pytest.mark.parametrize("write", ["zeroes it", "through NumPy"])
def test_so_it_is_whatever_the_pictures_came_in(form, write, tmp_path):
    array = (UNSAFE * 255).round().to(torch.uint8)
    picture = Image.fromarray(array.permute(1, 2, 0).numpy())
    picture.save(tmp_path / "disc.png")
    with torch.inference_mode():
        inference = UNSAFE.clone()[None]
        pictures = {
            "pil": [picture], "numpy": [np.array(picture)], "uint8": array[None], "inference": inference,
            "png": [tmp_path / "disc.png"],
        }  # fmt: skip
        (verdict,) = Guard(Writer(WRITES[write])).check(pictures[form])
    assert verdict.outcome is ERROR
    assert "wrote into the pixels" in verdict.reason


class Careless(FakeBackend):
    """Never asks whether what it is given is a picture, and finds nothing wrong with it."""

    def score(self, stacks, *, embeddings=False, digests=False):
        return [Scores.single({"red": {HIGH: 0.0}}) for stack in stacks for _ in range(len(stack))]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 7.0, -7.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_picture_that_is_none_is_an_error_whatever_the_backend_says(bad, dtype):
    batch = BATCH.clone().to(dtype)
    batch[1, 2, 40, 3] = bad
    out, verdicts = Guard(Careless())(batch)
    assert [v.outcome for v in verdicts] == [ALLOW, ERROR]
    assert out[1].unique().tolist() == [0.0]
    assert torch.equal(out[0], batch[0])


@pytest.mark.parametrize("bad", [float("nan"), 9.0])
def test_so_it_is_in_lists_arrays_and_signed_tensors(bad):
    broken = UNSAFE.clone()
    broken[0, 0, 0] = bad
    guard = Guard(Careless())
    assert [v.outcome for v in guard.check([CLEAN, broken, CLEAN])] == [ALLOW, ERROR, ALLOW]
    assert [v.outcome for v in guard.check(broken.permute(1, 2, 0).numpy())] == [ERROR]
    assert [v.outcome for v in guard.check(torch.stack([CLEAN, broken]) * 2 - 1, value_range="signed")] == [
        ALLOW,
        ERROR,
    ]


def test_the_extremes_are_read_once(monkeypatch):
    """A backend that quantises has found them: the guard reads what it kept."""
    from nsfw_guard import images

    def again(pixels):
        raise AssertionError("every pixel is read a second time")

    monkeypatch.setattr(images, "extremes", again)
    assert [v.outcome for v in Guard(FakeBackend()).check(BATCH)] == [ALLOW, BLOCK]
    assert Frames((BATCH * 255).byte()).extremes() is None


# ---- backends: what they answer


class Answers(FakeBackend):
    """Gives every frame what a function makes."""

    def __init__(self, make: Callable[[], Any]) -> None:
        super().__init__()
        self.make = make

    def score(self, stacks, *, embeddings=False, digests=False):
        return [self.make() for stack in stacks for _ in range(len(stack))]


class Liar(float):
    """0.9, whatever it is compared with."""

    def _yes(self, other: object) -> bool:
        return True

    __lt__ = __le__ = __ge__ = __gt__ = _yes

    def __float__(self) -> float:
        return 0.0


def one(p: Any) -> Scores:
    return Scores.single({"red": {HIGH: p}})


ODD: dict[str, Callable[[], Any]] = {
    "false": lambda: one(False),
    "true": lambda: one(True),
    "numpy false": lambda: one(np.False_),
    "a false tensor": lambda: one(torch.tensor(False)),
    "a float that lies": lambda: one(Liar(0.9)),
    "none": lambda: one(None),
    "text": lambda: one("0.0"),
    "bytes": lambda: one(b"0"),
    "complex": lambda: one(0j),
    "decimal nan": lambda: one(Decimal("nan")),
    "numpy nan": lambda: one(np.float32("nan")),
    "a list": lambda: one([0.0]),
    "two numbers": lambda: one(np.zeros(2)),
    "views in a generator": lambda: Scores(v for v in [ViewScores(View("full"), {"red": {HIGH: 0.9}})]),
    "views of another kind": lambda: Scores(({"red": {HIGH: 0.0}},)),
    "regions of another kind": lambda: Scores(one(0.0).views, regions=((0, 0, 1, 1),)),
    "a digest of bytes": lambda: Scores(one(0.0).views, digest=b"ab"),
    "a digest of numbers": lambda: Scores(one(0.0).views, digest=12),
    "a fault that is none": lambda: Scores(one(0.9).views, fault=None),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("wants", [True, False])
def test_odd_answers_release_nothing(name, wants, tmp_path):
    guard = Guard(Answers(ODD[name]), listeners=[Audit(tmp_path / "log.jsonl")] if wants else [])
    out, verdicts = guard(BATCH)
    assert {v.outcome for v in verdicts} <= {BLOCK, ERROR}
    assert not leaks(out[1])


@pytest.mark.parametrize(
    "value", [0.75, np.float32(0.75), np.float64(0.75), Decimal("0.75"), Fraction(3, 4), torch.tensor(0.75)]
)
def test_a_number_of_another_type_is_a_float(value):
    (verdict,) = Guard(Answers(lambda: one(value))).check(CLEAN[None])
    assert (verdict.outcome, type(verdict.score), verdict.score) == (BLOCK, float, 0.75)
    assert json.loads(json.dumps(verdict.to_dict()))["score"] == 0.75


@pytest.mark.parametrize("embedding", [None, "text", b"", 7, [], object(), np.zeros(3), torch.tensor(float("nan"))])
def test_an_embedding_of_any_type_does_not_break_the_guard(embedding, tmp_path):
    class Index:
        wants_embeddings = True
        wants_digests = "yes"

        def __call__(self, verdicts):
            self.kept = [v.scores.embedding for v in verdicts]

    index = Index()
    made = Guard(
        Answers(lambda: Scores(one(0.9).views, embedding=embedding)), listeners=[index, Audit(tmp_path / "log.jsonl")]
    )
    assert [v.outcome for v in made.check(BATCH)] == [BLOCK, BLOCK]
    assert index.kept[0] is embedding


odd_numbers = st.one_of(
    st.floats(), st.booleans(), st.none(), st.text(max_size=3), st.integers(-2, 2), st.complex_numbers(max_magnitude=1),
    st.decimals(), st.fractions(), st.just(np.False_), st.builds(np.float32, st.floats(width=32)), st.builds(Liar),
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(values=st.lists(odd_numbers, max_size=3), drop=st.integers(0, 2))
def test_whatever_a_backend_answers_only_real_low_numbers_are_released(values, drop):
    class Odd(FakeBackend):
        def score(self, stacks, *, embeddings=False, digests=False):
            views = tuple(ViewScores(View("full"), {"red": {HIGH: v}}) for v in values)
            return [Scores(views)] * (2 - drop)

    out, verdicts = Guard(Odd())(BATCH)
    if out is BATCH:
        assert drop == 0
        assert values
        for verdict, value in itertools.product(verdicts, values):
            assert verdict.outcome in {ALLOW, REVIEW}
            assert not isinstance(value, (bool, np.bool_, str))
            assert 0.0 <= float.__float__(float(value)) < 0.5


# ---- regions


class Boxes(FakeBackend):
    """Flags what is red, with these regions."""

    def __init__(self, *regions: Region) -> None:
        super().__init__()
        self.regions = regions

    def score(self, stacks, *, embeddings=False, digests=False):
        return [Scores(s.views, regions=self.regions) for s in super().score(stacks)]


@pytest.mark.parametrize(
    "region",
    [
        Region(0.5, 0.5, 0.5 + 1e-9, 0.5 + 1e-9, "red"),
        Region(0.0, 0.0, 1e-9, 1.0, "red"),
        Region(0.3, 0.5, 0.9, 0.5 + 1 / 300, "red"),
        Region(0.1, 0.1, 0.9, 0.9, "blue"),
        Region(0.1, 0.1, 0.9, 0.9),
    ],
    ids=str,
)
def test_a_region_that_is_the_place_of_nothing_covers_the_whole(region):
    out, _ = Guard(Boxes(region))(BATCH)
    assert out[1].unique().tolist() == [0.0]


def test_one_tiny_region_among_others_covers_the_whole():
    out, _ = Guard(Boxes(Region(0.1, 0.1, 0.9, 0.9, "red"), Region(0.2, 0.2, 0.2 + 1e-6, 0.3, "red")))(BATCH)
    assert out[1].unique().tolist() == [0.0]


@settings(max_examples=100, deadline=None)
@given(
    left=st.floats(0, 0.99), top=st.floats(0, 0.99), wide=st.floats(1e-12, 1), high=st.floats(1e-12, 1),
    height=st.integers(1, 2000), width=st.integers(1, 2000),
)  # fmt: skip
def test_what_is_covered_is_never_less_than_the_least(left, top, wide, high, height, width):
    try:
        region = Region(left, top, left + wide, top + high, "red")
    except ValueError:  # so narrow that it rounds to nothing
        return
    scores = Scores.single({"red": {HIGH: 0.9}}, regions=(region,))
    ((y0, x0, y1, x1),) = boxes(Verdict(BLOCK, "", flags=("red",), scores=scores), height, width)
    # At an edge half of it lies outside.
    assert y1 - y0 >= min(height, height / 64)
    assert x1 - x0 >= min(width, width / 64)
    assert 0 <= y0 < y1 <= height
    assert 0 <= x0 < x1 <= width
    assert y0 <= region.top * height
    assert x1 >= region.right * width - 1e-6


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
def test_a_listener_that_fails_anywhere_leaves_every_book_right(count, at):
    if at >= count:
        return
    books = [Book(0) if i == at else Book() for i in range(count)]
    guard = Guard(FakeBackend(), listeners=books)
    out, verdicts = guard(BATCH)

    assert tuple(v.outcome for v in verdicts) == ERRORS
    assert "disk full" in verdicts[0].reason
    assert out.unique().tolist() == [0.0]
    assert [book.heard for book in books] == [[TRUTH, ERRORS] if i <= at else [ERRORS] for i in range(count)]
    assert guard.tally.counts == {"allow": 0, "review": 0, "block": 0, "error": 2}
    guard(BATCH)
    assert [book.heard[-1] for book in books] == [TRUTH] * count
    assert guard.tally.counts == {"allow": 1, "review": 0, "block": 1, "error": 2}


@settings(max_examples=80, deadline=None)
@given(fails=st.lists(st.sets(st.integers(0, 3)), max_size=4))
def test_whoever_fails_whenever_the_last_word_that_was_heard_is_the_truth(fails):
    books = [Book(*calls) for calls in fails]
    guard = Guard(FakeBackend(), listeners=books)
    for _ in range(2):
        verdicts = guard.check(BATCH)
        left = tuple(v.outcome for v in verdicts)
        assert left in {TRUTH, ERRORS}
        assert [book.heard[-1] for book in books] == [left] * len(books)
    assert sum(guard.tally.counts.values()) == 4


def test_what_is_an_error_already_is_said_once():
    books = [Book(), Book(0), Book()]
    Guard(Answers(lambda: one(None)), listeners=books)(BATCH)
    assert [book.heard for book in books] == [[ERRORS]] * 3


def test_prompts_are_corrected_too_and_never_counted():
    policy = Policy(rules={"*": Rule(block="default")}, prompts=PromptRules(words=("dragon",)))
    books = [Book(), Book(0), Book()]
    guard = Guard(FakeBackend(), policy=policy, listeners=books)
    verdicts = guard.check_prompts(["a castle", "a dragon"])
    assert [v.outcome for v in verdicts] == [ERROR, ERROR]
    assert [book.heard for book in books] == [[(BLOCK,), ERRORS], [(BLOCK,), ERRORS], [ERRORS]]
    assert sum(guard.tally.counts.values()) == 0


def test_fail_open_does_not_let_go_what_was_flagged_before_a_listener_failed():
    guard = Guard(FakeBackend(), listeners=[Book(0)], fail_open=True)
    out, verdicts = guard(BATCH)
    assert [v.outcome for v in verdicts] == [ERROR, ERROR]
    assert torch.equal(out[0], CLEAN)
    assert out[1].unique().tolist() == [0.0]


def test_fail_open_does_not_let_go_an_animation_with_a_blocked_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), c) for c in ((255, 0, 0), (0, 0, 250))]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])

    class HalfBlind(FakeBackend):
        def score(self, stacks, *, embeddings=False, digests=False):
            found = super().score(stacks)
            return [one(float("nan")) if s.numbers().__next__() < 0.5 else s for s in found]

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


def test_a_listener_that_fails_after_the_log_is_in_the_log(log):
    guard = Guard(FakeBackend(), listeners=[Audit(log), Book(0)])
    guard(BATCH)
    told = lines(log)
    assert [line["outcome"] for line in told] == ["allow", "block", "error", "error"]
    assert [told[0]["picture"], told[1]["picture"]] == [told[2]["picture"], told[3]["picture"]]
    assert verify(log, head=Head.read(log)).ok


@pytest.mark.parametrize("when", ["the log", "the head", "the head, halfway"])
@pytest.mark.parametrize("first", [True, False])
def test_what_cannot_be_written_is_taken_back(log, when, first, monkeypatch):
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
    told = lines(log)
    assert "allow" not in [line["outcome"] for line in told[0 if first else 2 :]]
    assert [v.outcome for v in verdicts] == [ERROR, ERROR]
    guard(BATCH)
    told = lines(log)
    assert [line["outcome"] for line in told[-2:]] == ["allow", "block"]
    assert verify(log, head=Head.read(log)).ok
    assert told[-2]["unwritten"] == 4  # the two, and their correction


def test_what_cannot_be_taken_back_is_named_by_the_next_line(log, monkeypatch):
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
from nsfw_guard.audit import Audit
from nsfw_guard.guard import Guard
from nsfw_guard.testing import FakeBackend
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
guard, left = Guard(FakeBackend(), listeners=[Audit(sys.argv[1])]), []
for i in range(20):
    left += [v.outcome.name.lower() for v in guard.check(torch.full((1, 3, 8, 8), 0.4))]
print(json.dumps({"left": left, "counts": guard.tally.counts}))
"""


@posix
def test_a_full_disk_never_says_that_something_left_which_did_not(log):
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL, log], capture_output=True, check=True, env={**os.environ}
    )
    told = json.loads(ran.stdout)
    written = [line["outcome"] for line in lines(log)]
    assert set(told["left"]) == {"allow", "error"}
    assert written.count("allow") == told["left"].count("allow") == told["counts"]["allow"] > 2
    assert told["counts"]["error"] == told["left"].count("error")
    assert verify(log, head=Head.read(log)).ok


ENDS = ["", ".lock", ".head"]


@posix
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", ["symlink", "dangling", "hard link", "pipe", "folder", "device"])
@pytest.mark.parametrize("early", [True, False])
def test_a_log_that_is_no_file_of_its_own_is_refused(log, tmp_path, end, kind, early):
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
def test_neither_is_read(log, tmp_path, kind):
    Audit(log)([Verdict(BLOCK, "")])
    other = tmp_path / "other"
    other.symlink_to(log) if kind == "symlink" else os.mkfifo(other)
    with pytest.raises(AuditError, match=r"Give the file itself|give another path"):
        verify(other)
    with pytest.raises(AuditError, match=r"Give the file itself|give another path"):
        Head.kept(other)
    (tmp_path / "copy").hardlink_to(log)
    assert verify(tmp_path / "copy").ok


@posix
def test_a_log_in_a_linked_folder_is_fine(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    Audit(tmp_path / "linked" / "log.jsonl")([Verdict(BLOCK, "")])
    assert verify(tmp_path / "linked" / "log.jsonl").lines == 1


# ---- policies that block nothing


def test_a_guard_that_blocks_nothing_says_so():
    mild = Guard(FakeBackend(), policy={"rules": {"red": {"review": 0.2}}})
    assert mild.state["blocks"] == "nothing (review rules only)"
    assert mild.check(BATCH)[1].state["blocks"] == "nothing (review rules only)"
    assert "blocks" not in Guard(FakeBackend()).state
    assert (
        "blocks" not in Guard(FakeBackend(), policy={"rules": {"red": {"review": 0.2, "views": {"full": 0.9}}}}).state
    )


# ---- pictures that would be looked at for minutes


def test_a_strip_with_too_many_tiles_is_an_error_of_its_own_and_at_once():
    guard = Guard.from_pretrained("demo-shapes", views="tiles(8)")
    blue = Image.new("RGB", (64, 64), (40, 84, 226))
    started = time.perf_counter()
    verdicts = guard.check([blue, Image.new("RGB", (64, 6400)), blue])
    assert time.perf_counter() - started < 10
    assert [v.outcome for v in verdicts] == [ALLOW, ERROR, ALLOW]
    assert "would look at 64x6400 6825 times" in verdicts[1].reason
    assert guard.check(torch.zeros(2, 3, 6400, 64))[0].outcome is ERROR
