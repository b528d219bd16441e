"""Finds near-duplicates among many images by their perceptual hashes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nsfw_guard.imaging.pdq import BITS, MATCH

BANDS = 16
_BLOCK = 1024  # hashes that are compared with as many others at a time
_UNPACKED = 1 << 17  # hashes whose bits are held as numbers, 1 KB each


def near_duplicates(hashes: Sequence[str], *, most: int = MATCH) -> list[list[int]]:
    """Return groups of near-duplicates, each as positions in order, the largest group first.

    Each image of a group differs from another one of it by at most `most` bits. Only hashes that agree in one of
    sixteen bands are compared, so that a million of them take minutes and not days: of pairs that are 24 bits apart
    1 in 100 is missed, of pairs that are 31 bits apart 1 in 12 (measured on random ones).

    Args:
        hashes: PDQ hashes, 64 hexadecimal digits each.
        most: the greatest distance, in bits.

    Example:
        ```python
        near_duplicates(["0" * 64, "f" * 64, "0" * 63 + "1"])  # [[0, 2]]
        ```
    """
    if not hashes:
        return []
    packed = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(len(hashes), BITS // 8)
    unique, where = np.unique(np.ascontiguousarray(packed).view(f"V{BITS // 8}").ravel(), return_inverse=True)
    joined = _Groups(len(unique))
    for first, second in _pairs(unique.view(np.uint8).reshape(len(unique), BITS // 8), most):
        joined.join(first, second)
    groups: dict[int, list[int]] = {}
    for position, row in enumerate(where.ravel().tolist()):
        groups.setdefault(joined.root(row), []).append(position)
    return sorted((group for group in groups.values() if len(group) > 1), key=lambda group: (-len(group), group))


def _pairs(packed: NDArray[np.uint8], most: int) -> Iterator[tuple[int, int]]:
    """Rows that are at most so many bits apart, of those that agree in a band."""
    signs = None if len(packed) > _UNPACKED else _signs(packed)
    bands = packed.view(np.uint16)
    for band in range(BANDS):
        order = np.argsort(bands[:, band], kind="stable")
        edges = np.flatnonzero(np.diff(bands[order, band])) + 1
        for bucket in np.split(order, edges):
            if len(bucket) > 1:
                yield from _close(_signs(packed[bucket]) if signs is None else signs[bucket], bucket, most)


def _close(signs: NDArray[np.float32], bucket: NDArray[np.intp], most: int) -> Iterator[tuple[int, int]]:
    for start in range(0, len(bucket), _BLOCK):
        for other in range(start, len(bucket), _BLOCK):
            apart = (BITS - signs[start : start + _BLOCK] @ signs[other : other + _BLOCK].T) / 2
            for i, j in zip(*np.nonzero(apart <= most), strict=True):
                if start + i < other + j:
                    yield int(bucket[start + i]), int(bucket[other + j])


def _signs(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Each bit as -1 or 1, so that a product counts the bits that agree."""
    signs: NDArray[np.float32] = np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1
    return signs


class _Groups:
    """Which rows belong together."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))

    def root(self, row: int) -> int:
        """Return the row that stands for the group of this one."""
        while self.parent[row] != row:
            self.parent[row] = row = self.parent[self.parent[row]]
        return row

    def join(self, first: int, second: int) -> None:
        """Make one group of two."""
        first, second = self.root(first), self.root(second)
        self.parent[max(first, second)] = min(first, second)
