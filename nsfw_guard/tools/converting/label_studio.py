"""A scan as tasks of Label Studio, in which people correct the outcomes."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nsfw_guard.tools.converting.images import ScannedImage, images_of, refuse_none
from nsfw_guard.tools.converting.lists import JsonList
from nsfw_guard.tools.screening.acting.placing import path_inside
from nsfw_guard.tools.screening.results import OUTCOMES

TASKS, CONFIG = "tasks.json", "label_config.xml"
LOCAL = "/data/local-files/?d="  # what Label Studio serves below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT
LABELS = f"""<View>
  <Image name="image" value="$image"/>
  <Choices name="outcome" toName="image" choice="single" showInLine="true">
{chr(10).join(f'    <Choice value="{outcome}"/>' for outcome in OUTCOMES)}
  </Choices>
</View>
"""


def write(scan: Path, folder: Path, *, url_prefix: str | None = None) -> dict[str, Any]:
    """Write a task for each image file, and the labelling config; return how many, and how many were left out.

    Args:
        scan: the output of a finished scan.
        folder: a new folder.
        url_prefix: what comes before the key of an image, so that a browser finds it. By default an image is served by
            Label Studio from its absolute path, for a document root of "/".
    """
    folder.mkdir()
    left_out = 0
    with JsonList(folder / TASKS) as tasks:
        for image in images_of(scan):
            if image.path or (url_prefix is not None and image.is_file):
                tasks.add(_task(image, url_prefix))
            else:
                left_out += 1
    refuse_none(scan, tasks.count)
    (folder / CONFIG).write_text(LABELS, encoding="utf-8")
    return {"count": tasks.count, "left_out": left_out}


def _task(image: ScannedImage, url_prefix: str | None) -> dict[str, Any]:
    choice = {
        "id": "outcome",
        "from_name": "outcome",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [image.outcome]},
    }
    prediction: dict[str, Any] = {"model_version": " ".join(image.origin[:2]).strip(), "result": [choice]}
    if image.score is not None and math.isfinite(image.score):
        prediction["score"] = image.score
    facts = {name: value for name, value in image.facts().items() if name in {"key", "category", "sha256"}}
    return {"data": {"image": _address(image, url_prefix), **facts}, "predictions": [prediction]}


def _address(image: ScannedImage, url_prefix: str | None) -> str:
    """Where a browser finds an image; bytes of its name that are no text survive, as percent signs."""
    path = image.path if url_prefix is None else str(path_inside(image.entry))
    plain = os.path.splitdrive(path)[1].replace(os.sep, "/").lstrip("/")
    return (LOCAL if url_prefix is None else url_prefix) + quote(os.fsencode(plain))
