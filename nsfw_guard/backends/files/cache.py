"""The folder of this package in the user's cache."""

from __future__ import annotations

import os
from pathlib import Path


def cache_home() -> Path:
    """Return the folder that this package caches files in: `$XDG_CACHE_HOME/nsfw-guard`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nsfw-guard"
