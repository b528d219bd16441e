"""A scan as a dataset of FiftyOne, in the JSON that its importer `LegacyFiftyOneDataset` reads.

The newer `FiftyOneDataset` holds documents of FiftyOne's database with its version; this one holds samples only.
"""

from __future__ import annotations

import base64
import io
import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from nsfw_guard.tools.converting.images import ScannedImage, images_of, refuse_none
from nsfw_guard.tools.converting.lists import JsonList
from nsfw_guard.tools.screening.rows import as_text

SAMPLES, METADATA = "samples.json", "metadata.json"


def write(scan: Path, folder: Path) -> dict[str, Any]:
    """Write a sample for each image file, with its absolute path, and return how many, and how many were left out.

    Names of bytes that are no text are left out too: FiftyOne's database cannot hold them. Read it with
    `fiftyone.Dataset.from_dir(folder, fiftyone.types.LegacyFiftyOneDataset)`.
    """
    folder.mkdir()
    about: dict[str, str] = {}
    left_out = 0
    with JsonList(folder / SAMPLES, "samples") as samples:
        for image in images_of(scan):
            about = about or image.about()
            if image.path and as_text(image.path) == image.path:
                samples.add(_sample(image))
            else:
                left_out += 1
    refuse_none(scan, samples.count)
    metadata = {"media_type": "image", "info": {f"nsfw_guard_{name}": value for name, value in about.items()}}
    (folder / METADATA).write_text(json.dumps(metadata, indent=1, sort_keys=True), encoding="utf-8")
    return {**about, "count": samples.count, "left_out": left_out}


def _sample(image: ScannedImage) -> dict[str, Any]:
    score = image.score if image.score is not None and math.isfinite(image.score) else None
    outcome: dict[str, Any] = {"_cls": "Classification", "tags": [], "label": image.outcome, "confidence": score}
    return {
        "filepath": image.path,
        "tags": [],
        "outcome": outcome,
        "category": image.category or None,
        "score": score,
        "embedding": _vector(image),
        "sha256": image.sha256 or None,
        "pdq": image.pdq or None,
    }


def _vector(image: ScannedImage) -> dict[str, Any] | None:
    """An array as FiftyOne's VectorField keeps it: what NumPy saves, compressed, as binary of extended JSON."""
    if image.embedding is None:
        return None
    file = io.BytesIO()
    np.save(file, image.embedding, allow_pickle=False)
    return {"$binary": {"base64": base64.b64encode(zlib.compress(file.getvalue())).decode("ascii"), "subType": "00"}}
