"""A scan as a file of FAISS, for programs that search with it. Files of FAISS are written here, and never read."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nsfw_guard.backends.files.weights import sha256_of
from nsfw_guard.errors import ConfigError, MissingExtraError
from nsfw_guard.tools.converting.images import ScannedImage, embedded_of
from nsfw_guard.tools.similarity.store import FACTS, checked_rows

BATCH = 4096  # vectors that are added at a time
KEYS, HASHES = ".keys.jsonl", ".json"


def write(scan: Path, file: Path) -> dict[str, Any]:
    """Write the embeddings of a scan as an `IndexFlatIP` of FAISS, and return what is in its `.json`.

    Beside `file` are `file.keys.jsonl`, whose line i is the key and the facts of vector i, and `file.json`, written
    last, with the model, the count and the SHA-256 of both. Vectors have length 1: inner products are cosines.

    Args:
        scan: the output of a finished scan.
        file: a new file.

    Raises:
        ConfigError: the file is there, or the scan has no embeddings.
    """
    try:
        import faiss
    except ImportError:
        raise MissingExtraError("faiss", "faiss") from None
    targets = {suffix: file.with_name(file.name + suffix) for suffix in ("", KEYS, HASHES)}
    for target in targets.values():
        if target.exists():
            raise ConfigError(f"{str(target)!r} is there already: name a new file")
    parts = {suffix: target.with_name(f"{target.name}.new") for suffix, target in targets.items()}
    try:
        first, index = _fill(scan, parts[KEYS], faiss.IndexFlatIP)
        faiss.write_index(index, str(parts[""]))
        about: dict[str, Any] = {**first.about(), "width": index.d, "count": index.ntotal}
        about["sha256"] = {targets[suffix].name: sha256_of(parts[suffix]) for suffix in ("", KEYS)}
        parts[HASHES].write_text(json.dumps(about, indent=1, sort_keys=True), encoding="utf-8")
        for suffix, part in parts.items():
            part.replace(targets[suffix])
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return about


def _fill(scan: Path, keys: Path, kind: Any) -> tuple[ScannedImage, Any]:
    """An index of the vectors of a scan, whose keys are written into a file; and the first of its images."""
    index: Any = None
    images = embedded_of(scan)
    with keys.open("w", encoding="utf-8") as file:
        first = next(images)
        chained = itertools.chain([first], images)
        while batch := list(itertools.islice(chained, BATCH)):
            vectors = torch.tensor(np.stack([image.embedding for image in batch if image.embedding is not None]))
            facts = [{name: getattr(image, name) for name in FACTS} for image in batch]
            rows = checked_rows([image.key for image in batch], vectors, facts, vectors.shape[1])
            index = kind(vectors.shape[1]) if index is None else index
            index.add(rows.vectors.numpy())
            lines = ({"key": key, "facts": known} for key, known in zip(rows.keys, rows.facts, strict=True))
            file.writelines(json.dumps(line, sort_keys=True) + "\n" for line in lines)
    return first, index
