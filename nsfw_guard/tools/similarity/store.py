"""What a store of embeddings does, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Match:
    """An image that is like the one that was asked about.

    Args:
        key: of the image.
        similarity: the cosine of both embeddings, from -1 to 1.
        facts: what is known of the image, such as its outcome.
    """

    key: str
    similarity: float
    facts: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"key": self.key, "similarity": self.similarity, "facts": dict(self.facts)}


class Store(Protocol):
    """Embeddings by key. All of one model: a store of another model or width is refused when it is opened."""

    @property
    def count(self) -> int:
        """How many images it holds."""
        ...

    def add(self, keys: Sequence[str], vectors: Tensor, facts: Sequence[Mapping[str, str]]) -> None:
        """Add images; one whose key is there takes the place of the earlier one. Shape of `vectors`: (N, width)."""
        ...

    def remove(self, keys: Sequence[str]) -> int:
        """Remove images, and return how many of the keys were there."""
        ...

    def search(self, vectors: Tensor, *, k: int = 10, where: Mapping[str, str] | None = None) -> list[list[Match]]:
        """Return the `k` most similar images for each vector, the most similar first, of those with these facts."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...
