"""Near-duplicates: every pair that is close, no pair that is not, whatever the number of images."""

from __future__ import annotations

import time

import numpy as np
import pytest

from nsfw_guard.tools.screening.reporting import duplicates
from nsfw_guard.tools.screening.reporting.duplicates import near_duplicates


def flipped(digits: str, bits: list[int]) -> str:
    return f"{int(digits, 16) ^ sum(1 << bit for bit in bits):064x}"


def drawn(count: int) -> list[str]:
    rng = np.random.default_rng(20261130)
    return [rng.integers(0, 256, 32, dtype=np.uint8).tobytes().hex() for _ in range(count)]


def test_copies_and_images_nearly_the_same_are_one_group() -> None:
    a, b, c = drawn(3)
    near = flipped(a, list(range(31)))  # 31 bits, in two bands
    assert near_duplicates([a, b, a, near, c, b]) == [[0, 2, 3], [1, 5]]


def test_an_image_beyond_the_distance_is_not_in_the_group() -> None:
    (a,) = drawn(1)
    assert near_duplicates([a, flipped(a, list(range(32)))]) == []
    assert near_duplicates([a, flipped(a, [0, 1])], most=1) == []


def test_an_image_may_belong_through_another_one() -> None:
    (a,) = drawn(1)
    b = flipped(a, list(range(20)))
    c = flipped(b, list(range(100, 120)))
    assert near_duplicates([a, c, b]) == [[0, 1, 2]]


@pytest.mark.parametrize("unpacked", [0, 1 << 17])
def test_pairs_that_are_spread_over_all_bands_are_missed_only_near_the_limit(
    unpacked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "_UNPACKED", unpacked)
    rng, firsts = np.random.default_rng(1), drawn(400)
    for bits, least in ((8, 400), (16, 399), (31, 340)):
        seconds = [flipped(one, rng.choice(256, bits, replace=False).tolist()) for one in firsts]
        assert len(near_duplicates(firsts + seconds)) >= least


def test_a_bucket_larger_than_a_block_is_compared_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_BLOCK", 3)
    (a,) = drawn(1)
    alike = [flipped(a, [bit]) for bit in range(10)]
    assert near_duplicates(alike) == [list(range(10))]


def test_thousands_that_are_nearly_the_same_take_no_time_for_each_pair() -> None:
    rng = np.random.default_rng(2)
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(drawn(1)[0]), np.uint8))[None].repeat(20_000, 0)
    bits[np.arange(20_000)[:, None], rng.integers(0, 256, (20_000, 8))] ^= 1
    hashes = [row.tobytes().hex() for row in np.packbits(bits, axis=1)]
    began = time.process_time()
    assert [len(group) for group in near_duplicates(hashes)] == [20_000]
    assert time.process_time() - began < 30  # 200 million pairs, each of which would take some microseconds


def test_groups_are_those_of_every_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that agree in all bands but the last: then each pair is compared, and the groups follow."""
    monkeypatch.setattr(duplicates, "_BLOCK", 7)
    rng = np.random.default_rng(3)
    values = rng.integers(0, 1 << 9, 80)
    hashes = [f"{'ab' * 30}{value:04x}" for value in values.tolist()]
    for most in (1, 2, 3):
        near = {(i, j) for i in range(80) for j in range(80) if (values[i] ^ values[j]).item().bit_count() <= most}
        group = list(range(80))
        for _ in range(80):
            group = [min(group[j] for j in range(80) if (i, j) in near) for i in range(80)]
        wanted = [[i for i in range(80) if group[i] == root] for root in sorted(set(group))]
        assert sorted(near_duplicates(hashes, most=most)) == [one for one in wanted if len(one) > 1]


def test_nothing_is_no_group() -> None:
    assert near_duplicates([]) == []
    assert near_duplicates(["0" * 64]) == []
