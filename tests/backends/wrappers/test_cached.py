"""What was judged once is remembered by its pixels; what could not be judged never is."""

from __future__ import annotations

import pytest
import torch

from nsfw_guard.backends.wrappers.cached import Cached
from nsfw_guard.errors import ConfigError, ScoringError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.testing import FakeBackend, FaultyBackend
from nsfw_guard.verdict import Outcome
from tests.images import smooth
from tests.threads import in_threads


def test_the_same_pixels_are_asked_about_once_whatever_they_come_as() -> None:
    backend = FakeBackend()
    cached = Cached(backend)
    levels = (smooth(2, 20, 30) * 255).round().to(torch.uint8)
    first = cached.score([Frames(levels)])
    again = cached.score(
        [Frames(levels.float() / 255), Frames(levels[:1]), Frames(levels.float() / 127.5 - 1, "signed")]
    )
    assert [list(s.numbers()) for s in again] == [list(first[i].numbers()) for i in (0, 1, 0, 0, 1)]
    assert (backend.frames, cached.misses, cached.hits) == (2, 2, 5)


def test_one_batch_with_the_same_image_twice_asks_once() -> None:
    backend = FakeBackend()
    image = smooth(1, 20, 20)
    assert len(Cached(backend).score([Frames(torch.cat([image] * 3))])) == 3
    assert backend.frames == 1


def test_the_shape_is_part_of_what_an_image_is() -> None:
    backend = FakeBackend()
    flat = torch.zeros(1, 3, 10, 20, dtype=torch.uint8)
    Cached(backend).score([Frames(flat), Frames(flat.reshape(1, 3, 20, 10))])
    assert backend.frames == 2


def test_the_oldest_entries_are_evicted_first() -> None:
    backend = FakeBackend()
    cached = Cached(backend, size=2)
    one, two, three = ([Frames(smooth(1, 8, 8, seed=i))] for i in range(3))
    for stacks in (one, two, one, three, one):
        cached.score(stacks)
    assert backend.frames == 3
    cached.score(two)
    assert backend.frames == 4


def test_embeddings_and_digests_are_asked_for_when_they_were_not_kept() -> None:
    backend = FakeBackend()
    cached, stacks = Cached(backend), [Frames(smooth(1, 8, 8))]
    assert cached.score(stacks)[0].embedding is None
    scores = cached.score(stacks, embeddings=True, digests=True)[0]
    assert scores.embedding is not None
    assert scores.digest
    assert cached.score(stacks)[0].embedding is None
    assert torch.equal(cached.score(stacks, embeddings=True)[0].embedding, scores.embedding)
    assert backend.frames == 2


def test_an_image_with_nan_is_never_taken_for_one_without() -> None:
    pixels = torch.zeros(2, 3, 8, 8)
    pixels[1, 0, 0, 0] = float("nan")
    cached = Cached(FakeBackend())
    for _ in range(2):
        assert [v.outcome for v in Guard(cached).check(pixels)] == [Outcome.ALLOW, Outcome.ERROR]
    assert cached.misses == 3  # the bad one is asked about again


@pytest.mark.parametrize("fault", ["nan", "infinite", "above one"])
def test_an_answer_that_is_not_a_probability_is_not_cached(fault) -> None:
    backend = FaultyBackend(fault)
    cached = Cached(backend)
    for _ in range(2):
        assert Guard(cached).check(torch.zeros(1, 3, 8, 8))[0].outcome is Outcome.ERROR
    assert backend.frames == 2


def test_a_wrong_count_is_an_error() -> None:
    with pytest.raises(ScoringError):
        Cached(FaultyBackend("few")).score([Frames(smooth(2, 8, 8))])


def test_a_cache_of_size_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="remembers nothing"):
        Cached(FakeBackend(), size=0)


def test_the_state_says_how_many_images_are_cached() -> None:
    assert Guard(Cached(FakeBackend(), size=7)).state["cache"] == "7 images"


def test_threads_share_it() -> None:
    cached = Cached(FakeBackend(), size=3)
    wrong: list[int] = []

    def work(seed: int) -> None:
        for i in range(40):
            image = smooth(1, 8, 8, seed=(seed + i) % 5)
            if list(cached.score([Frames(image)])[0].numbers()) != list(
                FakeBackend().score([Frames(image)])[0].numbers()
            ):
                wrong.append(i)

    in_threads(work, 4)
    assert not wrong
    assert cached.hits + cached.misses == 160
