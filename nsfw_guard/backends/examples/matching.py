"""Which example an image is like: by its pixels first, then by its perceptual hash and its embedding."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nsfw_guard.backends.examples.bank import Bank
from nsfw_guard.backends.examples.example import Example
from nsfw_guard.backends.examples.likeness import Likeness, Radius, measured
from nsfw_guard.errors import ScoringError
from nsfw_guard.imaging.pdq import LEAST_QUALITY, Pdq, pdq_variants
from nsfw_guard.scores import Scores

CEILING_SLACK = 0.05  # by which a score may be above that of the allow-example itself
_ONES = np.array([byte.bit_count() for byte in range(256)], np.uint8)


@dataclass(frozen=True)
class Like:
    """An example that an image is like, and by what."""

    example: Example
    by: str
    exact: bool = False  # the image is the example itself, and not only like it

    def __str__(self) -> str:
        label = f" {self.example.label!r}" if self.example.label else ""
        verb = "blocked" if self.example.kind == "block" else "allowed"
        return f"{verb} by example {self.example.id}{label} ({self.by}): {self.example.reason}"


def hash_of_pixels(pixels: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of an image's size and pixels. Shape: uint8 (H, W, 3)."""
    height, width = pixels.shape[:2]
    return hashlib.sha256(f"{width}x{height} ".encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


class Matcher:
    """The examples of a bank that count on a day, ready to be compared with.

    Args:
        bank: the bank.
        today: the day.
    """

    def __init__(self, bank: Bank, today: datetime.date) -> None:
        active = [example for example in bank.examples if not example.expired(today)]
        # Block-examples first: among those that match in the same way, they count.
        self.active = sorted(active, key=lambda example: example.kind != "block")
        self.by_pixels: dict[str, Example] = {}
        for example in self.active:
            if example.pixels:
                self.by_pixels.setdefault(example.pixels, example)
        self.hashed = [example for example in self.active if example.pdq]
        digits = "".join(example.pdq for example in self.hashed)
        self.hashes = np.frombuffer(bytes.fromhex(digits), np.uint8).reshape(len(self.hashed), -1 if digits else 32)
        self.distances = np.array([example.distance for example in self.hashed])
        self.embedded = [e for e in self.active if e.id in bank.embeddings] if bank.ordinary is not None else []
        self.likeness: Likeness | None = None
        self.radii: dict[tuple[str, str], Radius] = {}
        if self.embedded and bank.ordinary is not None:
            self._measure(bank, bank.ordinary)

    def _measure(self, bank: Bank, ordinary: Tensor) -> None:
        labels = list(dict.fromkeys(map(_labelled, self.embedded)))
        vectors = [torch.stack([bank.embeddings[e.id] for e in self.embedded if _labelled(e) == one]) for one in labels]
        self.likeness, radii = measured(ordinary, vectors, budget=bank.budget)
        self.radii = dict(zip(labels, radii, strict=True))
        self.vectors = self.likeness(torch.stack([bank.embeddings[e.id] for e in self.embedded]))
        self.least = torch.tensor([self.radii[_labelled(e)].least for e in self.embedded])

    @property
    def wants_pixels(self) -> bool:
        """True when images have to be hashed."""
        return bool(self.by_pixels or self.hashed)

    def compared(
        self, pixels: NDArray[np.uint8] | None, embedding: Tensor | None, scores: Mapping[str, float]
    ) -> tuple[Like | None, float | None]:
        """Return the example that an image is like, and the highest similarity to a block-example, where measured.

        Only the example itself, pixel by pixel, is allowed whatever else it is like. What is like an allow-example in
        another way is blocked where it is like a block-example in any way; and a hash, which can be forged, allows
        nothing that the embedding of the same example does not allow too, where there is one to compare.

        Args:
            pixels: of the image; None where no example has a hash. Shape: uint8 (H, W, 3).
            embedding: of the image; None where likeness was not measured. Shape: (width,).
            scores: what the model said, by `said_of`.
        """
        like = self.by_hash(pixels, scores) if pixels is not None else None
        if self.likeness is None or (like is not None and (like.exact or like.example.kind == "block")):
            return like, None
        if embedding is None:
            raise ScoringError("there is no embedding to compare with the bank: use a model that returns one")
        near, nearest = self.by_likeness(embedding, scores)
        forged = like is not None and near is None and like.example in self.embedded
        return (near if forged or near is not None else like), nearest

    def by_hash(self, pixels: NDArray[np.uint8], scores: Mapping[str, float]) -> Like | None:
        """Return the example whose hashes an image has. Shape: uint8 (H, W, 3)."""
        example = self.by_pixels.get(hash_of_pixels(pixels)) if self.by_pixels else None
        if example is not None:
            return Like(example, "the same pixels", exact=True)
        allowing: Like | None = None
        for place, variant in (pdq_variants(pixels) if self.hashed else {}).items():
            apart = self._distances(variant)
            near = apart <= self.distances
            for at in np.flatnonzero(near).tolist():
                if _may(self.hashed[at], scores, turned=place != "original"):
                    how = "" if place == "original" else f", {place}"
                    like = Like(self.hashed[at], f"{apart[at]} of 256 bits differ{how}")
                    if like.example.kind == "block":
                        return like
                    allowing = allowing or like
        return allowing

    def by_likeness(self, embedding: Tensor, scores: Mapping[str, float]) -> tuple[Like | None, float]:
        """Return the example that an embedding is like, and the highest similarity to a block-example."""
        if self.likeness is None:
            return None, 0.0
        if embedding.shape != self.likeness.mean.shape:
            raise ScoringError(
                f"expected an embedding of {len(self.likeness.mean)} numbers as in the bank, got the shape "
                f"{tuple(embedding.shape)}: build the bank with this model"
            )
        similar = self.vectors @ self.likeness(embedding.detach().cpu())
        # What is not a number is near to nothing, and would so be let through.
        if not bool(torch.isfinite(similar).all()):
            raise ScoringError("the embedding is not finite, so it cannot be compared with the bank")
        blocking = [float(s) for s, e in zip(similar, self.embedded, strict=True) if e.kind == "block"]
        above = sorted(
            (at for at in range(len(self.embedded)) if similar[at] >= self.least[at]),
            key=lambda at: (self.embedded[at].kind != "block", -float(similar[at])),
        )
        for at in above:
            if _may(self.embedded[at], scores):
                by = f"similarity {float(similar[at]):.3f} >= {float(self.least[at]):.3f}"
                return Like(self.embedded[at], by), max(blocking, default=-1.0)
        return None, max(blocking, default=-1.0)

    def _distances(self, hashed: Pdq) -> NDArray[np.int64]:
        """The bits by which each hash differs from this one; all of them for an image with too little in it."""
        if hashed.quality < LEAST_QUALITY:
            return np.full(len(self.hashed), 256)
        differing = self.hashes ^ np.frombuffer(bytes.fromhex(hashed.hex), np.uint8)
        counts: NDArray[np.int64] = _ONES[differing].sum(axis=1, dtype=np.int64)
        return counts


def _may(example: Example, scores: Mapping[str, float], *, turned: bool = False) -> bool:
    """Whether an example decides on an image that is like it.

    A block-example always does. An allow-example allows no higher score than it had itself: what is only like a
    harmless image may still be harmful.
    """
    if example.kind == "block":
        return True
    return not turned and all(p <= example.ceiling.get(name, 0.0) + CEILING_SLACK for name, p in scores.items())


def said_of(scores: Scores) -> dict[str, float]:
    """Return the highest score over the views by category and level, such as "red high": a ceiling holds for each."""
    return {f"{name} {level.name.lower()}": p for name, levels in scores.worst.items() for level, p in levels.items()}


def _labelled(example: Example) -> tuple[str, str]:
    """What shares a radius."""
    return example.kind, example.label
