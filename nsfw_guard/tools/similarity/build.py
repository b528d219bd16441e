"""An index from the rows of a scan, and embeddings of images to search with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nsfw_guard.errors import ConfigError, ImageError
from nsfw_guard.guard import Guard
from nsfw_guard.tools.screening.recording import Wants
from nsfw_guard.tools.screening.results import rows_of
from nsfw_guard.tools.similarity.exact import ExactIndex
from nsfw_guard.tools.similarity.store import Store

FACTS = ("outcome", "category", "sha256")
BATCH = 4096  # rows of one segment at least


def build(scan: Path, folder: Path) -> ExactIndex:
    """Make an index of all images of a scan that have an embedding.

    Raises:
        ConfigError: the scan has no embeddings, or the folder is not empty.
    """
    batches = _batches(scan)
    first = next(batches, None)
    if first is None:
        raise ConfigError(
            f"the scan in {str(scan)!r} has no embeddings: scan without --no-embeddings, to parquet or jsonl, with a "
            "model that has one"
        )
    index = ExactIndex.create(
        folder, model=first[0]["model"], revision=first[0]["revision"], width=len(first[0]["embedding"])
    )
    _add(index, first)
    for batch in batches:
        _add(index, batch)
    return index


def add(index: Store, scan: Path) -> int:
    """Add the images of another scan by the same model, and return how many."""
    count = 0
    for batch in _batches(scan):
        _add(index, batch)
        count += len(batch)
    return count


def _batches(scan: Path) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows_of(scan, ["key", "embedding", "model", "revision", *FACTS]):
        if row["embedding"]:
            batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _add(index: Store, rows: Sequence[dict[str, Any]]) -> None:
    head = getattr(index, "head", None)
    for row in rows:
        if head is not None and (row["model"], row["revision"]) != (head.model, head.revision):
            raise ConfigError(
                f"the scan is by {row['model']!r} {row['revision']!r}, the index by {head.model!r} {head.revision!r}: "
                "embeddings of different models cannot be compared"
            )
    vectors = torch.tensor([row["embedding"] for row in rows])
    index.add([row["key"] for row in rows], vectors, [{name: row[name] for name in FACTS} for row in rows])


def embed(guard: Guard, images: Sequence[Any]) -> Tensor:
    """Return the embedding of each image. Shape: (N, width).

    Raises:
        ImageError: an image cannot be judged, or the model has no embedding.
    """
    asking = Guard(guard.backend, policy=guard.policy, limits=guard.limits, listeners=[Wants(embeddings=True)])
    vectors = []
    for image, verdict in zip(images, asking.check(list(images)), strict=True):
        if verdict.scores is None or verdict.scores.embedding is None:
            raise ImageError(f"{image!r} has no embedding ({verdict.reason}): search with another image or model"[:400])
        vectors.append(verdict.scores.embedding.float().cpu())
    return torch.stack(vectors)
