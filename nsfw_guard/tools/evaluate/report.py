"""Writes a report into a folder: JSON for machines, one page for people, and a sheet for each model."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from nsfw_guard.errors import ConfigError
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.tools.evaluate.page import to_html
from nsfw_guard.tools.evaluate.sheet import Shown, draw, thumbnails
from nsfw_guard.tools.evaluate.summary import HarmlessReport

JSON, PAGE = "report.json", "report.html"


def prepare(folder: Path, measured: Sequence[str]) -> None:
    """Create the folder of a report, before hours of measuring.

    Raises:
        ConfigError: it cannot be written, or is in a folder that is measured: the next time its sheets would be too.
    """
    inside = [name for name in measured if folder.resolve().is_relative_to(Path(name).resolve())]
    if inside:
        raise ConfigError(
            f"the folder of the report {str(folder)!r} is in the measured folder {inside[0]!r}, where its sheets would "
            "be measured the next time: pass --out with a folder elsewhere"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"the folder of the report {str(folder)!r} cannot be written ({error.strerror}): pass --out with another"
        ) from error


def write(
    report: HarmlessReport, folder: Path, *, sheet: Shown = "shown", limits: Limits | None = None
) -> tuple[Path, ...]:
    """Write a report, and return the paths of its files.

    Args:
        report: what was measured.
        folder: is created if need be; files of an earlier report are replaced.
        sheet: whether the images with the highest scores are "shown", "blurred", or left out ("none").
        limits: for decoding these images again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # First, so that whatever happens to a sheet, the numbers are kept.
    (folder / JSON).write_text(json.dumps(report.to_dict(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    small: dict[str, list[Image.Image]] = {}
    sheets: list[Path] = []
    if sheet != "none":
        for number, model in enumerate(report.models):
            small[model.name] = thumbnails(model.worst, blurred=sheet == "blurred", limits=limits)
            sheets.append(folder / f"highest-{number + 1}-{_as_file_name(model.name)}.png")
            draw(model, small[model.name]).save(sheets[-1], optimize=True)
    (folder / PAGE).write_text(to_html(report, small), encoding="utf-8")
    return folder / JSON, folder / PAGE, *sheets


def _as_file_name(name: str) -> str:
    """A model's name, which may be a path, as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[-60:].strip("-.") or "model"
