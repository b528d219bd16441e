"""What an image is like: itself, its copies, and what is near; block before allow, and never past a ceiling."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from nsfw_guard.backends.examples.bank import Bank
from nsfw_guard.backends.examples.example import Example
from nsfw_guard.backends.examples.matching import Like, Matcher, hash_of_pixels
from nsfw_guard.errors import ScoringError
from nsfw_guard.imaging.pdq import pdq
from tests.images import smooth

TODAY = datetime.date(2026, 11, 30)
NOTHING = {"red": 0.0}


def textured(seed: int, side: int = 128) -> NDArray[np.uint8]:
    pixels = (smooth(1, 128, 128, seed=seed)[0] * 255).byte().permute(1, 2, 0).numpy()
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))


def hashed(kind: str, pixels: NDArray[np.uint8], **rest: object) -> Example:
    content = {"pixels": hash_of_pixels(pixels), "pdq": pdq(pixels).hex, **rest}
    return Example(kind=kind, reason="r", **content)  # type: ignore[arg-type]


def found(examples: list[Example], pixels: NDArray[np.uint8], scores: dict[str, float] | None = None) -> Like | None:
    return Matcher(Bank(examples=tuple(examples)), TODAY).by_hash(pixels, scores or NOTHING)


def test_the_same_pixels_match_and_others_do_not() -> None:
    like = found([hashed("block", textured(1))], textured(1))
    assert like is not None
    assert like.by == "the same pixels"
    assert found([hashed("block", textured(1))], textured(2)) is None
    # The same bytes in another shape are another image.
    flat = np.zeros((8, 16, 3), np.uint8)
    assert found([Example(kind="block", reason="r", pixels=hash_of_pixels(flat))], flat.reshape(16, 8, 3)) is None


def test_a_smaller_or_turned_copy_matches_by_its_hash() -> None:
    examples = [hashed("block", textured(1), label="logo")]
    like = found(examples, textured(1, side=64))
    assert like is not None
    assert "bits differ" in like.by
    assert str(like).startswith(f"blocked by example {examples[0].id} 'logo' (")
    turned = found(examples, np.ascontiguousarray(np.rot90(textured(1))))
    assert turned is not None
    assert "rotate" in turned.by


def test_the_distance_of_an_example_is_its_own() -> None:
    digits = f"{int(pdq(textured(1)).hex, 16) ^ 0b111:064x}"
    assert found([Example(kind="block", reason="r", pdq=digits, distance=3)], textured(1)) is not None
    assert found([Example(kind="block", reason="r", pdq=digits, distance=2)], textured(1)) is None


def test_an_image_with_nothing_to_hash_is_like_no_other() -> None:
    flat = np.full((64, 64, 3), 7, np.uint8)
    assert found([Example(kind="block", reason="r", pdq=pdq(flat).hex)], flat) is None


def test_block_comes_before_allow_and_pixels_before_hashes() -> None:
    block, allow = hashed("block", textured(1)), hashed("allow", textured(1))
    for order in ([block, allow], [allow, block]):
        like = found(order, textured(1))
        assert like is not None
        assert like.example.kind == "block"
    near = Example(kind="block", reason="r", pdq=pdq(textured(1)).hex)
    like = found([near, allow], textured(1))
    assert like is not None
    assert like.example.kind == "allow"  # this image was looked at


def test_what_has_expired_does_not_count() -> None:
    assert found([hashed("block", textured(1), expires="2026-11-29")], textured(1)) is None
    assert found([hashed("block", textured(1), expires="2026-11-30")], textured(1)) is not None


def test_an_allow_example_allows_itself_and_no_copy_with_a_higher_score() -> None:
    allow = hashed("allow", textured(1), ceiling={"red": 0.6})
    assert found([allow], textured(1), {"red": 1.0}) is not None
    assert found([allow], textured(1, side=64), {"red": 0.62}) is not None
    assert found([allow], textured(1, side=64), {"red": 0.7}) is None
    assert found([allow], textured(1, side=64), {"red": 0.1, "gore": 0.2}) is None


def test_a_turned_copy_of_an_allow_example_is_not_allowed() -> None:
    allow = hashed("allow", textured(1), ceiling={"red": 1.0})
    assert found([allow], np.ascontiguousarray(np.rot90(textured(1)))) is None


def embedded(*kinds: str, ceiling: float = 1.0, budget: float = 0.05) -> Matcher:
    """Examples along the first axes, among ordinary images that have nothing there."""
    sample = 0.1 * torch.randn(2000, 8, generator=torch.Generator().manual_seed(0))
    examples = tuple(
        Example(kind=kind, reason="r", pixels=f"{i:064x}", ceiling={"red": ceiling} if kind == "allow" else {})
        for i, kind in enumerate(kinds)
    )
    vectors = {example.id: 5 * torch.eye(8)[i] for i, example in enumerate(examples)}
    return Matcher(Bank(examples=examples, embeddings=vectors, ordinary=sample, budget=budget, model="m"), TODAY)


def test_likeness_finds_the_nearest_and_says_how_near() -> None:
    matcher = embedded("block", "block")
    like, nearest = matcher.by_likeness(torch.eye(8)[1] * 3, NOTHING)
    assert like is not None
    assert (like.example.pixels, round(nearest, 1)) == (f"{1:064x}", 1.0)
    assert like.by.startswith("similarity 0.9") or like.by.startswith("similarity 1.0")
    like, nearest = matcher.by_likeness(-torch.eye(8)[1], NOTHING)
    assert like is None
    assert nearest < 0.5


def test_likeness_to_a_block_example_counts_before_likeness_to_an_allow_example() -> None:
    for kinds in (("block", "allow"), ("allow", "block")):
        both = torch.eye(8)[0] + torch.eye(8)[1] + 0.1 * torch.eye(8)[kinds.index("allow")]
        like, _ = embedded(*kinds, budget=0.3).by_likeness(both, NOTHING)
        assert like is not None
        assert like.example.kind == "block"


@pytest.mark.parametrize(("p", "allowed"), [(0.3, True), (0.54, True), (0.56, False), (1.0, False)])
def test_likeness_to_an_allow_example_holds_up_to_its_own_score(p: float, allowed: bool) -> None:
    like, _ = embedded("allow", ceiling=0.5).by_likeness(torch.eye(8)[0], {"red": p})
    assert (like is not None) == allowed


@pytest.mark.parametrize("vector", [torch.full((8,), float("nan")), torch.ones(7), torch.ones(1, 8)])
def test_an_embedding_that_cannot_be_compared_is_an_error(vector: torch.Tensor) -> None:
    with pytest.raises(ScoringError, match=r"embedding"):
        embedded("block").by_likeness(vector, NOTHING)


def test_without_ordinary_images_only_hashes_are_compared() -> None:
    example = hashed("block", textured(1))
    matcher = Matcher(Bank(examples=(example,), embeddings={example.id: torch.ones(8)}, model="m"), TODAY)
    assert matcher.likeness is None
    assert matcher.wants_pixels
    assert not Matcher(Bank(), TODAY).wants_pixels


def measured(*examples: Example, vectors: list[torch.Tensor]) -> Matcher:
    sample = 0.1 * torch.randn(2000, 8, generator=torch.Generator().manual_seed(0))
    by_id = {example.id: vector for example, vector in zip(examples, vectors, strict=True)}
    return Matcher(Bank(examples=examples, embeddings=by_id, ordinary=sample, budget=0.05, model="m"), TODAY)


def test_what_is_like_a_block_example_is_blocked_although_its_hash_is_that_of_an_allow_example() -> None:
    allow = hashed("allow", textured(1), ceiling={"red": 1.0})
    block = Example(kind="block", reason="r", pixels="a" * 64)
    matcher = measured(allow, block, vectors=[5 * torch.eye(8)[0], 5 * torch.eye(8)[1]])
    copy, near_block = textured(1, side=64), 3 * torch.eye(8)[1]
    like, _ = matcher.compared(copy, near_block, NOTHING)
    assert like is not None
    assert like.example.kind == "block"
    like, _ = matcher.compared(textured(1), near_block, NOTHING)
    assert like is not None
    assert like.exact
    assert like.example.kind == "allow"  # this image was looked at


def test_a_hash_that_is_forged_allows_nothing_that_the_embedding_does_not_allow() -> None:
    allow = hashed("allow", textured(1), ceiling={"red": 0.9})
    matcher = measured(allow, vectors=[5 * torch.eye(8)[0]])
    copy, said = textured(1, side=64), {"red": 0.9}
    like, _ = matcher.compared(copy, 3 * torch.eye(8)[0], said)
    assert like is not None
    assert like.example.kind == "allow"
    assert matcher.compared(copy, 3 * torch.eye(8)[2], said)[0] is None


def test_a_turned_copy_of_a_block_example_is_blocked_although_it_is_like_an_allow_example() -> None:
    turned = np.ascontiguousarray(np.rot90(textured(1)))
    allow = hashed("allow", textured(1), ceiling={"red": 1.0})
    block = Example(kind="block", reason="r", pdq=pdq(turned).hex)
    like = found([allow, block], textured(1, side=64))
    assert like is not None
    assert like.example.kind == "block"
