"""A scan of files, and one of a shard, which the tests of all formats convert."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nsfw_guard.tools.screening.parts import Format
from nsfw_guard.tools.screening.scan import Scan
from nsfw_guard.tools.screening.scorer import ScanSettings
from tests.tools.screening.shapes import RED, encoded, paint, red, shard

__all__ = ["red"]
Scanned = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image of each outcome, and a shard with one."""
    for outcome in ("allow", "review", "block", "error"):
        paint(tmp_path / "in" / f"a {outcome}&.png", outcome)
    shard(tmp_path / "s.tar", {"member.png": encoded("block", 7)})
    return tmp_path / "in"


@pytest.fixture
def scanned(folder: Path, tmp_path: Path) -> Scanned:
    """Scans the folder and the shard."""

    def go(kind: Format = "jsonl", **settings: object) -> Path:
        sources = [str(folder), str(tmp_path / "s.tar")]
        out = tmp_path / "scan"
        list(Scan(sources, out, settings=ScanSettings(model=RED, **settings), kind=kind).run())  # type: ignore[arg-type]
        return out

    return go


@pytest.fixture
def odd(folder: Path) -> str:
    """A name of bytes that are no text; skips where a file system takes none."""
    name = os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")
    try:
        Path(name).write_bytes(encoded("allow", 3))
    except OSError:
        pytest.skip("the file system takes UTF-8 only")
    return name
