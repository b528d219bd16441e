"""A scan as a file of FAISS, for programs that search with it. Files of FAISS are written here, and never read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from nsfw_guard.errors import ConfigError, MissingExtraError
from nsfw_guard.tools.similarity.build import rows_with_embeddings
from nsfw_guard.tools.similarity.store import Origin

KEYS, HASHES = ".keys.jsonl", ".json"


def export(scan: Path, file: Path) -> dict[str, Any]:
    """Write the embeddings of a scan as an `IndexFlatIP` of FAISS, and return what is in its `.json`.

    Beside `file` are `file.keys.jsonl`, whose line i is the key and the facts of vector i, and `file.json`, written
    last, with the model, the count and the SHA-256 of both. Vectors have length 1: inner products are cosines.

    Args:
        scan: the output of a scan.
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
        origin, index = _fill(scan, parts[KEYS], faiss.IndexFlatIP)
        faiss.write_index(index, str(parts[""]))
        about: dict[str, Any] = {
            "model": origin.model,
            "revision": origin.revision,
            "width": origin.width,
            "count": index.ntotal,
        }
        about["sha256"] = {targets[suffix].name: _sha256(parts[suffix]) for suffix in ("", KEYS)}
        parts[HASHES].write_text(json.dumps(about, indent=1, sort_keys=True), encoding="utf-8")
        for suffix, part in parts.items():
            part.replace(targets[suffix])
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return about


def _fill(scan: Path, keys: Path, kind: Any) -> tuple[Origin, Any]:
    """An index of the vectors of a scan, whose keys are written into a file; and the model of these."""
    index = None
    with keys.open("w", encoding="utf-8") as file:
        for origin, rows in rows_with_embeddings(scan):  # at least once
            index = kind(origin.width) if index is None else index
            index.add(rows.vectors.numpy())
            lines = ({"key": key, "facts": facts} for key, facts in zip(rows.keys, rows.facts, strict=True))
            file.writelines(json.dumps(line, sort_keys=True) + "\n" for line in lines)
    return origin, index


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
