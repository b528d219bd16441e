"""Finds near-duplicates among many images by their perceptual hashes."""

from __future__ import annotations

from collections.abc import Sequence

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
    _join_close(unique.view(np.uint8).reshape(len(unique), BITS // 8), joined, most)
    groups: dict[int, list[int]] = {}
    for position, row in enumerate(where.ravel().tolist()):
        groups.setdefault(joined.root(row), []).append(position)
    return sorted((group for group in groups.values() if len(group) > 1), key=lambda group: (-len(group), group))


def _join_close(packed: NDArray[np.uint8], joined: _Groups, most: int) -> None:
    """Join rows that are at most so many bits apart, of those that agree in a band."""
    signs = None if len(packed) > _UNPACKED else _signs(packed)
    bands = packed.view(np.uint16)
    for band in range(BANDS):
        order = np.argsort(bands[:, band], kind="stable")
        edges = np.flatnonzero(np.diff(bands[order, band])) + 1
        for bucket in np.split(order, edges):
            rows = bucket.tolist()
            roots = [joined.root(row) for row in rows]
            if len(set(roots)) > 1:
                firsts = dict(zip(reversed(roots), reversed(range(len(roots))), strict=True))
                known = np.array([firsts[root] for root in roots])
                places = _close(_signs(packed[bucket]) if signs is None else signs[bucket], known, most)
                for row, place in zip(rows, places.tolist(), strict=True):
                    joined.join(row, rows[place])


def _close(signs: NDArray[np.float32], roots: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """For each row of a bucket the first one of its group, from the groups that are known.

    Blocks of one group are not compared: thousands of images that are nearly the same are otherwise millions of pairs.
    """
    least = BITS - 2 * most  # of the product of two rows
    near = np.flatnonzero(signs @ signs[0] >= least)  # all that is near to one row needs one look
    roots = _join(roots, np.zeros_like(near), near)
    order = np.argsort(roots, kind="stable")
    for start in range(0, len(order), _BLOCK):
        rows = order[start : start + _BLOCK]
        for other in range(start, len(order), _BLOCK):
            columns = order[other : other + _BLOCK]
            if (roots[rows] == roots[rows[0]]).all() and (roots[columns] == roots[rows[0]]).all():
                continue
            i, j = np.nonzero(signs[rows] @ signs[columns].T >= least)
            roots = _join(roots, rows[i], columns[j])
    return roots


def _join(roots: NDArray[np.intp], first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.intp]:
    """Put both ends of each pair under one root, the lower one. Each row's root is its own root before and after."""
    while True:
        one, other = roots[first], roots[second]
        differ = one != other
        if not differ.any():
            return roots
        first, second, one, other = first[differ], second[differ], one[differ], other[differ]
        roots = roots.copy()
        np.minimum.at(roots, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(roots, above := roots[roots]):
            roots = above


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
