"""What a store of embeddings does, what it answers, and what every store checks alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from nsfw_guard.errors import ConfigError, UnknownNameError

FACTS = ("outcome", "category", "sha256")  # what is known of an image, as text; one that is not known is ""
Facts = Mapping[str, str]


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
    facts: Facts = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"key": self.key, "similarity": self.similarity, "facts": dict(self.facts)}


@dataclass(frozen=True)
class Origin:
    """Which model the embeddings of a store are by; those of different models cannot be compared.

    Args:
        model: the name of the model.
        revision: its version.
        width: numbers in an embedding.
    """

    model: str
    revision: str
    width: int

    def __post_init__(self) -> None:
        if type(self.width) is not int or not isinstance(self.model, str) or not isinstance(self.revision, str):
            raise ConfigError(
                f"an index is of a model and a revision, as texts, and a whole number, got {self.model!r}, "
                f"{self.revision!r} and {self.width!r}: build the index again"[:400]
            )
        if self.width < 1:
            raise ConfigError(f"{self.model!r} has no embedding: choose a model with one from `nsfw-guard models`")

    def refuse_others(self, place: object, **wanted: str | int | None) -> None:
        """Raise an error where another model, revision or width is wanted; None is any."""
        for name, value in wanted.items():
            has = getattr(self, name)
            if value is not None and value != has:
                raise ConfigError(
                    f"the index in {str(place)!r} has embeddings of the {name} {has!r}, not {value!r}, and these "
                    f"cannot be compared: build an index with the {name} {value!r}"
                )


class Rows(NamedTuple):
    """Images of a store: keys, vectors of length 1 (shape: (N, width)), and what is known of each."""

    keys: list[str]
    vectors: Tensor
    facts: list[dict[str, str]]


class Store(Protocol):
    """Embeddings by key. All of one model: a store of another model or width is refused when it is opened."""

    @property
    def origin(self) -> Origin:
        """Which model the embeddings are by."""
        ...

    @property
    def count(self) -> int:
        """How many images it holds."""
        ...

    def add(self, keys: Sequence[str], vectors: Tensor, facts: Sequence[Facts]) -> None:
        """Add images; one whose key is there takes the place of the earlier one. Shape of `vectors`: (N, width)."""
        ...

    def remove(self, keys: Sequence[str]) -> int:
        """Remove images, and return how many of the keys were there."""
        ...

    def search(self, vectors: Tensor, *, k: int = 10, where: Facts | None = None) -> list[list[Match]]:
        """Return the `k` most similar images for each vector, the most similar first, of those with these facts."""
        ...

    def close(self) -> None:
        """Finish what is to be done on the disk, and free what it holds."""
        ...


class ListedStore(Store, Protocol):
    """A store that can also list what it holds, as every store here can."""

    def batches(self) -> Iterator[Rows]:
        """Yield all images, some at a time, in no particular order."""
        ...

    def stats(self) -> dict[str, Any]:
        """Return JSON-ready facts about the store: its kind, and what it takes."""
        ...


def checked_rows(keys: Sequence[str], vectors: Tensor, facts: Sequence[Facts], width: int) -> Rows:
    """Return what is to be added, with vectors of length 1.

    Raises:
        ConfigError: counts differ, a key is there twice or is no text, a vector has another width or no direction, or
            a fact is not one of `FACTS`.
    """
    if not len(keys) == len(vectors) == len(facts):
        raise ConfigError(f"{len(keys)} keys, {len(vectors)} vectors and {len(facts)} facts: pass as many of each")
    if len(set(keys)) < len(keys):
        raise ConfigError("a key is there twice: add each image once")
    for key in keys:
        _refuse_no_text("key", key)
    return Rows(list(keys), _unit(vectors, width), [plain_facts(one) for one in facts])


def checked_question(vectors: Tensor, k: int, where: Facts | None, width: int) -> tuple[Tensor, dict[str, str]]:
    """Return what is asked for, with vectors of length 1, and the facts that matches must have.

    Raises:
        ConfigError: as in `checked_rows`, or `k` is below 1.
    """
    if k < 1:
        raise ConfigError(f"k must be 1 or more, got {k}")
    for name, value in (where or {}).items():
        _refuse_no_fact(name, value)
    return _unit(vectors, width), dict(where or {})


def plain_facts(facts: Mapping[str, str | None]) -> dict[str, str]:
    """Return the facts that are known: those that are neither empty nor None.

    Raises:
        ConfigError: a fact is not one of `FACTS`, or is no text.
    """
    known = {name: value for name, value in facts.items() if value is not None}
    for name, value in known.items():
        _refuse_no_fact(name, value)
    return {name: value for name, value in known.items() if value}


def _refuse_no_fact(name: str, value: str) -> None:
    if name not in FACTS:
        raise UnknownNameError("fact", name, FACTS)
    _refuse_no_text(name, value)


def _refuse_no_text(what: str, value: object) -> None:
    """Surrogates are no text: a file of an index could not hold them."""
    if not isinstance(value, str):
        raise ConfigError(f"the {what} {value!r} is no text: pass a str")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"the {what} {value!a} is no text: escape it, as a scan does"[:400]) from error


def _unit(vectors: Tensor, width: int) -> Tensor:
    """Vectors of length 1, in float32. One without a direction, or with a NaN, is refused: it is like nothing."""
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise ConfigError(f"expected vectors of {width} numbers, got the shape {tuple(vectors.shape)}")
    plain = vectors.detach().float().cpu()
    lengths = plain.norm(dim=1, keepdim=True)
    if not bool((lengths > 0).all()) or not bool(torch.isfinite(lengths).all()):
        raise ConfigError("an embedding is zero or not finite: leave its image out")
    unit: Tensor = plain / lengths
    return unit
