"""Plug-ins that misbehave: backends, actions, listeners, regions and logs. Whatever they do, nothing unsafe leaves."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from nsfw_guard.actions import COVERED_SHARE, Action, Blur, boxes, covered
from nsfw_guard.backends.wrappers.cascade import Cascade
from nsfw_guard.backends.wrappers.ensemble import Ensemble
from nsfw_guard.backends.wrappers.time_limited import TimeLimited
from nsfw_guard.errors import PolicyError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging import frames
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.listeners.audit import Audit
from nsfw_guard.scores import Region, Scores, Severity, View, ViewScores
from nsfw_guard.testing import RED, FakeBackend
from nsfw_guard.verdict import Outcome, Verdict
from tests.attacks.scenes import BATCH, CLEAN, UNSAFE

ALLOW, REVIEW, BLOCK, ERROR = Outcome
HIGH = Severity.HIGH
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


def leaks(out: Any, unsafe: Tensor = UNSAFE) -> bool:
    """Whether what left is the unsafe image, within 0.02, on more than an eighth of its pixels."""
    array = np.asarray(out, dtype=np.float32) if not isinstance(out, Tensor) else out.float()
    pixels = torch.as_tensor(array / 255 if float(array.max()) > 1 else array)
    pixels = pixels if pixels.shape[0] == 3 else pixels.permute(2, 0, 1)
    return float(((pixels - unsafe).abs().amax(0) < 0.02).float().mean()) > COVERED_SHARE


# ---- actions: what is handed back for a flagged image


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
def test_a_cover_that_does_not_cover_is_replaced_by_a_solid_one(name, caplog) -> None:
    out, verdicts = Guard(FakeBackend(), action=Custom(COVERS[name]))(BATCH)

    assert verdicts[1].outcome is BLOCK
    assert out[1].unique().tolist() == [0.0]
    assert torch.equal(out[0], CLEAN)
    assert "a solid image is used instead" in caplog.text


@pytest.mark.parametrize("name", COVERS)
def test_a_cover_that_does_not_cover_is_replaced_under_review_too(name) -> None:
    guard = Guard(FakeBackend(), policy={"rules": {"red": {"review": 0.1}}}, on_review=Custom(COVERS[name]))
    out, verdicts = guard(BATCH)
    assert verdicts[1].outcome is REVIEW
    assert out[1].unique().tolist() == [0.0]


@pytest.mark.parametrize("name", [n for n in COVERS if n not in {"pil", "a number"}])
def test_a_cover_that_does_not_cover_a_region_is_replaced(name) -> None:
    """Under a region the cover must differ there: elsewhere it may change what it likes."""

    def elsewhere(frame: Tensor) -> Any:
        cover = COVERS[name](frame)
        if isinstance(cover, Tensor) and cover.shape == frame.shape and cover.dtype == frame.dtype:
            cover = cover.clone()
            cover[:, :, 24:] = 0.0
        return cover

    class Boxes(FakeBackend):
        def score(self, stacks, *, embeddings=False, digests=False):
            regions = (Region(0.1, 0.1, 0.4, 0.9, "red"), Region(0.6, 0.1, 0.9, 0.9, "red"))
            return [Scores(s.views, regions=regions) for s in super().score(stacks)]

    out, _ = Guard(Boxes(), action=Custom(elsewhere))(BATCH)
    assert out[1].unique().tolist() == [0.0]


def test_a_custom_cover_that_covers_is_kept_unchanged() -> None:
    out, _ = Guard(FakeBackend(), action=Custom(lambda f: f.flip(2) * 0.25 + 0.5))(BATCH)
    expected = ((UNSAFE.flip(2) * 0.25 + 0.5) * 255).round() / 255
    assert float((out[1] - expected).abs().max()) < 1.5 / 255


def test_a_cover_out_of_range_by_a_rounding_is_clipped() -> None:
    result = covered(
        UNSAFE, Guard(FakeBackend()).check(UNSAFE[None])[0], Custom(lambda f: (f < 0.5) * (1 + 1 / 128) - 1 / 256)
    )
    assert result.unique().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("name", ["block", "blur", "pixelate", "replace"])
def test_the_actions_of_this_package_pass_their_own_check(name, caplog) -> None:
    out, _ = Guard(FakeBackend(), action=name)(BATCH)
    assert not caplog.text
    assert not leaks(out[1])


def test_a_cover_that_equals_a_flat_image_is_not_reported(caplog) -> None:
    flat = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1).expand(3, 16, 16)
    out, verdicts = Guard(FakeBackend(), action=Blur())(flat[None])
    assert verdicts[0].outcome is BLOCK
    assert out.unique().tolist() == [0.0]
    assert not caplog.text


def test_only_the_action_flag_may_show_a_flagged_image() -> None:
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
def test_no_return_value_of_an_action_shows_the_image(scale, shift, dtype, rows) -> None:
    def make(frame: Tensor) -> Tensor:
        result = frame.clone()
        result[:, :rows] = result[:, :rows] * scale + shift
        return result.to(dtype)

    result = covered(UNSAFE, Guard(FakeBackend()).check(UNSAFE[None])[0], Custom(make))
    assert result.shape == UNSAFE.shape
    assert result.dtype == UNSAFE.dtype
    assert 0.0 <= float(result.min()) <= float(result.max()) <= 1.0
    assert float(((result - UNSAFE).abs().amax(0) > 8 / 255).float().mean()) >= COVERED_SHARE


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
def test_a_backend_that_writes_into_its_input_releases_nothing(write, wrap) -> None:
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
def test_a_backend_that_writes_into_any_kind_of_input_releases_nothing(form, write, tmp_path) -> None:
    array = (UNSAFE * 255).round().to(torch.uint8)
    image = Image.fromarray(array.permute(1, 2, 0).numpy())
    image.save(tmp_path / "disc.png")
    with torch.inference_mode():
        inference = UNSAFE.clone()[None]
        images = {
            "pil": [image], "numpy": [np.array(image)], "uint8": array[None], "inference": inference,
            "png": [tmp_path / "disc.png"],
        }  # fmt: skip
        (verdict,) = Guard(Writer(WRITES[write])).check(images[form])
    assert verdict.outcome is ERROR
    assert "wrote into the pixels" in verdict.reason


class Careless(FakeBackend):
    """Never asks whether what it is given is an image, and finds nothing wrong with it."""

    def score(self, stacks, *, embeddings=False, digests=False):
        return [Scores.single({"red": {HIGH: 0.0}}) for stack in stacks for _ in range(len(stack))]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 7.0, -7.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_an_invalid_image_is_an_error_whatever_the_backend_says(bad, dtype) -> None:
    batch = BATCH.clone().to(dtype)
    batch[1, 2, 40, 3] = bad
    out, verdicts = Guard(Careless())(batch)
    assert [v.outcome for v in verdicts] == [ALLOW, ERROR]
    assert out[1].unique().tolist() == [0.0]
    assert torch.equal(out[0], batch[0])


@pytest.mark.parametrize("bad", [float("nan"), 9.0])
def test_an_invalid_image_is_an_error_in_lists_arrays_and_signed_tensors(bad) -> None:
    broken = UNSAFE.clone()
    broken[0, 0, 0] = bad
    guard = Guard(Careless())
    assert [v.outcome for v in guard.check([CLEAN, broken, CLEAN])] == [ALLOW, ERROR, ALLOW]
    assert [v.outcome for v in guard.check(broken.permute(1, 2, 0).numpy())] == [ERROR]
    assert [v.outcome for v in guard.check(torch.stack([CLEAN, broken]) * 2 - 1, value_range="signed")] == [
        ALLOW,
        ERROR,
    ]


def test_the_extremes_are_read_once(monkeypatch) -> None:
    """A backend that quantises has found them: the guard reads what it kept."""

    def again(pixels):
        raise AssertionError("every pixel is read a second time")

    monkeypatch.setattr(frames, "extremes", again)
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
def test_odd_answers_release_nothing(name, wants, tmp_path) -> None:
    guard = Guard(Answers(ODD[name]), listeners=[Audit(tmp_path / "log.jsonl")] if wants else [])
    out, verdicts = guard(BATCH)
    assert {v.outcome for v in verdicts} <= {BLOCK, ERROR}
    assert not leaks(out[1])


@pytest.mark.parametrize(
    "value", [0.75, np.float32(0.75), np.float64(0.75), Decimal("0.75"), Fraction(3, 4), torch.tensor(0.75)]
)
def test_a_number_of_another_type_is_a_float(value) -> None:
    (verdict,) = Guard(Answers(lambda: one(value))).check(CLEAN[None])
    assert (verdict.outcome, type(verdict.score), verdict.score) == (BLOCK, float, 0.75)
    assert json.loads(json.dumps(verdict.to_dict()))["score"] == 0.75


@pytest.mark.parametrize("embedding", [None, "text", b"", 7, [], object(), np.zeros(3), torch.tensor(float("nan"))])
def test_an_embedding_of_any_type_does_not_break_the_guard(embedding, tmp_path) -> None:
    class Index:
        wants_embeddings = True
        wants_digests = "yes"

        def __call__(self, verdicts):
            self.kept = [v.scores.embedding for v in verdicts]

    index = Index()
    guard = Guard(
        Answers(lambda: Scores(one(0.9).views, embedding=embedding)), listeners=[index, Audit(tmp_path / "log.jsonl")]
    )
    assert [v.outcome for v in guard.check(BATCH)] == [BLOCK, BLOCK]
    assert index.kept[0] is embedding


odd_numbers = st.one_of(
    st.floats(), st.booleans(), st.none(), st.text(max_size=3), st.integers(-2, 2), st.complex_numbers(max_magnitude=1),
    st.decimals(), st.fractions(), st.just(np.False_), st.builds(np.float32, st.floats(width=32)), st.builds(Liar),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(values=st.lists(odd_numbers, max_size=3), drop=st.integers(0, 2))
def test_whatever_a_backend_answers_only_real_low_numbers_are_released(values, drop) -> None:
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
def test_a_region_too_small_to_matter_covers_the_whole_image(region) -> None:
    out, _ = Guard(Boxes(region))(BATCH)
    assert out[1].unique().tolist() == [0.0]


def test_one_tiny_region_among_others_covers_the_whole_image() -> None:
    out, _ = Guard(Boxes(Region(0.1, 0.1, 0.9, 0.9, "red"), Region(0.2, 0.2, 0.2 + 1e-6, 0.3, "red")))(BATCH)
    assert out[1].unique().tolist() == [0.0]


@settings(max_examples=100, deadline=None)
@given(
    left=st.floats(0, 0.99), top=st.floats(0, 0.99), wide=st.floats(1e-12, 1), high=st.floats(1e-12, 1),
    height=st.integers(1, 2000), width=st.integers(1, 2000),
)  # fmt: skip
def test_a_covered_region_is_never_smaller_than_the_minimum(left, top, wide, high, height, width) -> None:
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


# ---- policies that block nothing


def test_a_guard_that_blocks_nothing_reports_it() -> None:
    mild = Guard(FakeBackend(), policy={"rules": {"red": {"review": 0.2}}})
    assert mild.state["blocks"] == "nothing (review rules only)"
    assert mild.check(BATCH)[1].state["blocks"] == "nothing (review rules only)"
    assert "blocks" not in Guard(FakeBackend()).state
    with pytest.raises(PolicyError, match="set block"):
        Guard(FakeBackend(), policy={"rules": {"red": {"review": 0.2, "views": {"full": 0.9}}}})


# ---- images that would be looked at for minutes


def test_a_strip_with_too_many_tiles_is_an_error_of_its_own_and_at_once() -> None:
    guard = Guard.from_pretrained("demo-shapes", views="tiles(8)")
    blue = Image.new("RGB", (64, 64), (40, 84, 226))
    started = time.perf_counter()
    verdicts = guard.check([blue, Image.new("RGB", (64, 6400)), blue])
    assert time.perf_counter() - started < 30  # 80 s before
    assert [v.outcome for v in verdicts] == [ALLOW, ERROR, ALLOW]
    assert "needs 6825 looks at 64x6400" in verdicts[1].reason
    assert guard.check(torch.zeros(2, 3, 6400, 64))[0].outcome is ERROR
