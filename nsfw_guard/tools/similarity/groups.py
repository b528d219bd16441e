"""Groups of images that are like each other: every pair is compared, in blocks of limited size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.similarity.store import ListedStore

_SIDE = 2048  # rows and columns of a block of products


@dataclass(frozen=True)
class Group:
    """Images that are joined by pairs of at least some similarity.

    Args:
        keys: of the images, in the order of the alphabet.
        facts: of each image.
    """

    keys: tuple[str, ...]
    facts: tuple[dict[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"images": len(self.keys), "keys": list(self.keys), "facts": [dict(one) for one in self.facts]}


def groups_of(store: ListedStore, *, least: float) -> list[Group]:
    """Return the groups of two images and more, the largest first.

    Two images are in one group where a chain of images joins them, in which each is at least this similar to the next.
    Every pair is compared, so that the time grows with the square of the count; memory holds the vectors once.

    Args:
        store: what holds the images.
        least: the least cosine of two images that are joined, above 0 and at most 1.

    Raises:
        ConfigError: `least` is out of range.
    """
    if not 0.0 < least <= 1.0:
        raise ConfigError(f"the least similarity must be above 0 and at most 1, got {least}")
    keys: list[str] = []
    facts: list[dict[str, str]] = []
    parts = []
    for rows in store.batches():
        keys += rows.keys
        facts += rows.facts
        parts.append(rows.vectors)
    if not keys:
        return []
    roots = joined(torch.cat(parts), least).tolist()
    members: dict[int, list[int]] = {}
    for row, root in enumerate(roots):
        members.setdefault(root, []).append(row)
    groups = []
    for rows_of_one in members.values():
        if len(rows_of_one) > 1:
            rows_of_one.sort(key=lambda row: keys[row])
            groups.append(Group(tuple(keys[r] for r in rows_of_one), tuple(facts[r] for r in rows_of_one)))
    return sorted(groups, key=lambda group: (-len(group.keys), group.keys))


def joined(vectors: Tensor, least: float) -> Tensor:
    """Return for each vector of length 1 the first row of its group. Shape: (N,)."""
    parents = torch.arange(len(vectors))
    # Products of float32 are off by less than this: two equal vectors have a similarity of 1.
    bound = least - 1e-6
    for top in range(0, len(vectors), _SIDE):
        for left in range(top, len(vectors), _SIDE):
            root = parents[top]
            if all(bool((parents[at : at + _SIDE] == root).all()) for at in (top, left)):
                continue  # all of one group: thousands that are alike are otherwise millions of pairs
            near = vectors[top : top + _SIDE] @ vectors[left : left + _SIDE].T >= bound
            first, second = near.nonzero(as_tuple=True)
            parents = _join(parents, first + top, second + left)
    return parents


def _join(parents: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Put both ends of each pair under one root, the lower one. Each row's parent is its root before and after."""
    while True:
        one, other = parents[first], parents[second]
        differ = one != other
        if not bool(differ.any()):
            return parents
        first, second, one, other = first[differ], second[differ], one[differ], other[differ]
        parents = parents.scatter_reduce(0, torch.maximum(one, other), torch.minimum(one, other), "amin")
        while not torch.equal(parents, above := parents[parents]):
            parents = above
