"""A scan as an array of NumPy, which opens without being read: `np.load(..., mmap_mode="r")`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO

from nsfw_guard.backends.files.weights import sha256_of
from nsfw_guard.tools.converting.images import ScannedImage, embedded_of

VECTORS, KEYS, ABOUT = "embeddings.npy", "keys.jsonl", "about.json"
_HEAD = 128  # bytes of the header, whatever the count


def write(scan: Path, folder: Path) -> dict[str, Any]:
    """Write the embeddings of a scan as they are in it, with their keys, and return what is in `about.json`.

    Line i of `keys.jsonl` is about vector i. One image is held at a time.
    """
    folder.mkdir()
    count = 0
    first: ScannedImage | None = None
    with (folder / VECTORS).open("wb") as vectors, (folder / KEYS).open("w", encoding="utf-8") as keys:
        vectors.write(bytes(_HEAD))
        for image in embedded_of(scan):
            first = first or image
            vectors.write(_vector(image))
            keys.write(json.dumps(image.facts(), sort_keys=True) + "\n")
            count += 1
        width = len(_vector(first)) // 4 if first else 0
        _write_header(vectors, count, width)
    about: dict[str, Any] = {**(first.about() if first else {}), "count": count, "width": width}
    about["sha256"] = {name: sha256_of(folder / name) for name in (VECTORS, KEYS)}
    (folder / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True), encoding="utf-8")
    return about


def _vector(image: ScannedImage) -> bytes:
    return b"" if image.embedding is None else image.embedding.astype("<f4").tobytes()


def _write_header(file: BinaryIO, count: int, width: int) -> None:
    """Version 1.0 of the format, filled up to a fixed length: the count is known at the end only."""
    text = repr({"descr": "<f4", "fortran_order": False, "shape": (count, width)})
    start = b"\x93NUMPY\x01\x00" + (_HEAD - 10).to_bytes(2, "little")
    file.seek(0)
    file.write(start + text.encode("ascii").ljust(_HEAD - len(start) - 1) + b"\n")
