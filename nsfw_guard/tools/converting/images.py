"""The images of a finished scan: what other programs want to know of each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsfw_guard.errors import ConfigError
from nsfw_guard.scores import number
from nsfw_guard.tools.screening.results import OUTCOMES, pairs_of
from nsfw_guard.tools.screening.sources.entries import Entry

_COLUMNS = ("outcome", "category", "score", "sha256", "pdq", "embedding", "model", "revision", "policy_hash")


@dataclass(frozen=True, eq=False)
class ScannedImage:
    """An image of a scan.

    Args:
        entry: where it is.
        key: as in the scan.
        outcome, category, score, sha256, pdq: as in the scan; the score of an image that was not judged may be None or
            no number.
        embedding: None where there is none.
        origin: the model, its revision, and the hash of the policy.
    """

    entry: Entry
    key: str
    outcome: str
    category: str
    score: float | None
    sha256: str
    pdq: str
    embedding: NDArray[np.float32] | None
    origin: tuple[str, str, str]

    @property
    def is_file(self) -> bool:
        """True for an image file, as programs that show images want it: no clip, no member of a shard, no row."""
        return self.entry.is_file and not self.entry.is_clip

    @property
    def path(self) -> str:
        """The absolute path of its file, empty where it is none, or is no longer there."""
        return os.path.abspath(self.entry.place) if self.is_file and os.path.isfile(self.entry.place) else ""

    def facts(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "key": self.key,
            "outcome": self.outcome,
            "score": number(self.score),
            "category": self.category,
            "sha256": self.sha256,
        }

    def about(self) -> dict[str, str]:
        """Return which model and policy it was judged by."""
        return dict(zip(("model", "revision", "policy_hash"), self.origin, strict=True))


def images_of(scan: Path) -> Iterator[ScannedImage]:
    """Yield the images of a finished scan, in its order.

    Raises:
        ConfigError: the scan is not finished, or its embeddings are of several models.
    """
    first: ScannedImage | None = None
    for entry, row in pairs_of(scan, _COLUMNS):
        image = _image(scan, entry, row)
        if image.embedding is not None:
            first = first or image
            if _space(image) != _space(first):
                raise ConfigError(f"the scan in {str(scan)!r} has embeddings of several models: scan again, with one")
        yield image


def embedded_of(scan: Path) -> Iterator[ScannedImage]:
    """Yield the images of a finished scan that have an embedding.

    Raises:
        ConfigError: as for `images_of`, or there are none.
    """
    some = False
    for image in images_of(scan):
        if image.embedding is not None:
            some = True
            yield image
    if not some:
        raise ConfigError(
            f"the scan in {str(scan)!r} has no embeddings: scan without --no-embeddings, to parquet or jsonl, with a "
            "model that has one"
        )


def refuse_none(scan: Path, count: int) -> None:
    """Refuse a scan of which no image can be shown.

    Raises:
        ConfigError: the count is 0.
    """
    if not count:
        raise ConfigError(
            f"no image of the scan in {str(scan)!r} is an image file that is there: run this where the scan was run, "
            "and scan files, not shards or tables"
        )


def _space(image: ScannedImage) -> tuple[object, ...]:
    return image.origin[:2], len(image.embedding if image.embedding is not None else ())


def _image(scan: Path, entry: Entry, row: dict[str, Any]) -> ScannedImage:
    if row["outcome"] not in OUTCOMES:
        raise ConfigError(f"the scan holds the outcome {row['outcome']!r}, which no scan writes: scan again")
    embedding = np.asarray(row["embedding"], dtype=np.float32) if row.get("embedding") else None
    if embedding is not None and not np.isfinite(embedding).all():
        raise ConfigError(f"the embedding of {row['key']!r} is not finite: scan {str(scan)!r} again"[:400])
    return ScannedImage(
        entry=entry,
        key=row["key"],
        outcome=row["outcome"],
        category=row["category"] or "",
        score=None if row["score"] in {None, ""} else float(row["score"]),
        sha256=row["sha256"] or "",
        pdq=row["pdq"] or "",
        embedding=embedding,
        origin=(row["model"] or "", row["revision"] or "", row["policy_hash"] or ""),
    )
