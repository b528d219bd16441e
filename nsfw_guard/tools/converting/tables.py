"""A scan as one Parquet file, with the embeddings as they are in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nsfw_guard.errors import MissingExtraError
from nsfw_guard.tools.converting.images import ScannedImage, embedded_of, images_of

_GROUP = 1024  # rows that are held at a time


def write(scan: Path, file: Path) -> dict[str, Any]:
    """Write a row for each image; those without an embedding have none there. Return what is in the file's metadata."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "scan") from None
    first = next(embedded_of(scan))
    width = 0 if first.embedding is None else len(first.embedding)
    texts = [(name, pa.string()) for name in ("key", "outcome", "category", "sha256", "pdq")]
    kinds = [*texts, ("score", pa.float64()), ("embedding", pa.list_(pa.float32(), width))]
    schema = pa.schema(kinds, metadata={f"nsfw_guard.{name}": value for name, value in first.about().items()})
    count = without = 0
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for rows in _groups(images_of(scan)):
            writer.write_table(pa.Table.from_pylist([_row(image) for image in rows], schema=schema))
            count += len(rows)
            without += sum(image.embedding is None for image in rows)
    return {**first.about(), "count": count, "width": width, "without_embedding": without}


def _groups(images: Iterator[ScannedImage]) -> Iterator[list[ScannedImage]]:
    while rows := list(itertools.islice(images, _GROUP)):
        yield rows


def _row(image: ScannedImage) -> dict[str, Any]:
    return {**image.facts(), "score": image.score, "pdq": image.pdq, "embedding": image.embedding}
