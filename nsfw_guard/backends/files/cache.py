"""The folder of this package in the user's cache, and files that appear whole."""

from __future__ import annotations

import os
import threading
from pathlib import Path


def cache_home() -> Path:
    """Return the folder that this package caches files in: `$XDG_CACHE_HOME/nsfw-guard`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nsfw-guard"


def put(path: Path, data: bytes) -> None:
    """Write a file; whoever reads it, now or after a loss of power, sees the old file or the new one, never a part.

    Raises:
        OSError: it cannot be written; then the old file is still there, and nothing else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another process or thread may write the same file now.
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
