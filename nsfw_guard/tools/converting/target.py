"""Output that appears whole: under another name first, on the disk, and then renamed."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nsfw_guard.errors import ConfigError


def check_target(target: Path, scan: Path) -> None:
    """Refuse a target that is there, that has no folder, or that lies in the scan.

    Raises:
        ConfigError: it is one of these.
    """
    if target.exists() or target.is_symlink():
        raise ConfigError(f"{str(target)!r} is there already: name a new one")
    if not target.parent.is_dir():
        raise ConfigError(f"{str(target.parent)!r} is no folder: make it, or name a target in another one")
    if scan.resolve() in target.resolve().parents:
        raise ConfigError(f"{str(target)!r} is in the folder of the scan: name a target outside of it")


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Give a path for a file or a folder, which gets the name of the target at the end, or is deleted on an error."""
    part = target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex}.new")
    try:
        yield part
        for file in [part] if part.is_file() else sorted(part.iterdir()):
            _sync(file)
        if target.exists():
            raise ConfigError(f"{str(target)!r} has appeared meanwhile: name a new one")
        part.rename(target)
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        part.unlink(missing_ok=True)


def _sync(file: Path) -> None:
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())
