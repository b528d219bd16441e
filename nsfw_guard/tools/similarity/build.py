"""A store from the rows of a scan, and embeddings of images to search with."""

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
from nsfw_guard.tools.similarity.places import create_store
from nsfw_guard.tools.similarity.store import FACTS, ListedStore, Origin, Rows, Store, checked_rows

BATCH = 4096  # rows that are added at a time


def build(scan: Path, place: Path | str, *, kind: str = "exact") -> ListedStore:
    """Make a store of all images of a scan that have an embedding.

    Args:
        scan: the output of a scan.
        place: a new folder, or the address of a server.
        kind: one of `places.KINDS`.

    Raises:
        ConfigError: the scan has no embeddings, or the place is taken.
    """
    batches = rows_with_embeddings(scan)
    origin, first = next(batches)
    store = create_store(kind, place, model=origin.model, revision=origin.revision, width=origin.width)
    store.add(*first)
    for _, rows in batches:
        store.add(*rows)
    return store


def add(store: Store, scan: Path) -> int:
    """Add the images of another scan by the same model, and return how many.

    Raises:
        ConfigError: the scan has no embeddings, or they are by another model.
    """
    count = 0
    for origin, rows in rows_with_embeddings(scan):
        has = store.origin
        if (origin.model, origin.revision, origin.width) != (has.model, has.revision, has.width):
            raise ConfigError(
                f"the scan is by {origin.model!r} {origin.revision!r}, the index by {has.model!r} {has.revision!r}: "
                "embeddings of different models cannot be compared"
            )
        store.add(*rows)
        count += len(rows.keys)
    return count


def rows_with_embeddings(scan: Path) -> Iterator[tuple[Origin, Rows]]:
    """Yield the images of a scan that have an embedding, some at a time, and the model of these.

    Raises:
        ConfigError: there are none, or they are by several models.
    """
    first: Origin | None = None
    for batch in _batches(scan):
        origins = {Origin(row["model"], row["revision"], len(row["embedding"])) for row in batch}
        first = first or next(iter(origins))
        if origins != {first}:
            raise ConfigError(f"the scan in {str(scan)!r} has embeddings of several models: scan again, with one")
        vectors = torch.tensor([row["embedding"] for row in batch])
        facts = [{name: row[name] or "" for name in FACTS} for row in batch]
        yield first, checked_rows([row["key"] for row in batch], vectors, facts, first.width)
    if first is None:
        raise ConfigError(
            f"the scan in {str(scan)!r} has no embeddings: scan without --no-embeddings, to parquet or jsonl, with a "
            "model that has one"
        )


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
