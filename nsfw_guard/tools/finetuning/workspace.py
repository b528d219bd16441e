"""The folder of a run beside the folder of its model: one run at a time, and only the run that it was begun for."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nsfw_guard.backends.files.cache import put
from nsfw_guard.errors import ConfigError
from nsfw_guard.jsonfile import read_json
from nsfw_guard.tools.lock import locked

MARK, MODEL, ENDING = "run.json", "model", ".run"


def work_of(out: Path) -> Path:
    """Return where the run of a model works, until its folder appears whole."""
    return out.with_name(f"{out.name}{ENDING}")


def model_in(out: Path) -> Path:
    """Return where the model is written before it appears; its folder has the same name already."""
    return work_of(out) / MODEL / out.name


@contextmanager
def workspace(out: Path, identity: Any, *, alone: bool = True) -> Iterator[Path]:
    """Hold the folder of a run, new or begun before.

    Args:
        out: the folder of the model, which must not be there yet, or be empty.
        identity: JSON-ready values that say which run it is.
        alone: False for the other processes of a run that one has begun.

    Raises:
        ConfigError: the folder is in use, holds something else, or belongs to another run.
    """
    work = work_of(out)
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise ConfigError(f"{str(out)!r} is there already: name a new folder")
    mark = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode("utf-8", "replace")).hexdigest()
    if not alone:
        yield work
        return
    _begin(work, mark)
    with locked(work):
        if read_json(work / MARK).get("run") != mark:
            raise ConfigError(
                f"the run in {str(work)!r} was begun with other images, another model or other settings: give the same "
                "ones, another --out, or delete that folder"
            )
        yield work


def _begin(work: Path, mark: str) -> None:
    """Make the folder of a run with its mark, unless it is there."""
    marked = (work / MARK).is_file()
    if work.is_symlink() or (work.exists() and not marked and (not work.is_dir() or any(work.iterdir()))):
        raise ConfigError(f"{str(work)!r} is not the folder of a run: move it away, or use another --out")
    if not marked:
        try:
            work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{str(work)!r} cannot be made ({error.strerror}): use another --out") from error
        put(work / MARK, json.dumps({"run": mark}).encode())


def appear(out: Path) -> None:
    """Let the model's folder appear, whole, and remove what only the run needed."""
    if out.is_dir():
        out.rmdir()
    os.replace(model_in(out), out)
    shutil.rmtree(work_of(out))
