"""Puts the images of a finished scan into folders by their outcome. What is placed is exactly what was judged."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from nsfw_guard.backends.files.weights import sha256_of
from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.tools.screening.results import known_outcome, pairs_of
from nsfw_guard.tools.screening.sources.entries import Entry

Way = Literal["copy", "move", "link"]
NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
COVERS = "covers.json"  # in a folder of covered copies: whose they are
CHANGED = "it could not be read, or was changed after it was judged"


@dataclass(frozen=True)
class Placed:
    """An image and its new path, or why it has none."""

    key: str
    outcome: str
    path: str = ""
    why_not: str = ""


def place(out: Path, into: Path, way: Way) -> Iterator[Placed]:
    """Copy, move or link every image of a scan into `into/OUTCOME/`, and yield each one.

    Done again after any end, it goes on: an image that is in its place already is left there. An image whose bytes are
    no longer those that were judged stays where it is.

    Args:
        out: the output of a finished scan.
        into: the folder that gets the folders `allow`, `review`, `block` and `error`.
        way: "copy", "move", or "link", which makes symbolic links.

    Raises:
        ConfigError: the scan is not finished.
    """
    if way not in get_args(Way):
        raise UnknownNameError("way to place images", way, get_args(Way))
    if (into / COVERS).exists():  # where one could be taken for the other
        raise ConfigError(f"{str(into)!r} holds covered copies: name another folder for the images themselves")
    for entry, row in pairs_of(out, ["outcome", "sha256"]):
        target = into / known_outcome(row) / path_inside(entry)
        try:
            yield _place(entry, target, row["outcome"], row["sha256"], way)
        except OSError as error:
            if error.errno in NO_ROOM:  # the next one would not fit either
                raise
            yield Placed(entry.key, row["outcome"], why_not=f"{type(error).__name__}: {error.strerror}")


def _place(entry: Entry, target: Path, outcome: str, sha256: str, way: Way) -> Placed:
    if entry.length or entry.offset or not os.path.isfile(entry.place):
        there = target.is_file() and sha256_of(target) == sha256
        why = "" if there else "not a file of its own, or no longer there"
        return Placed(entry.key, outcome, str(target) if there else "", why)
    if not sha256 or sha256_of(Path(entry.place)) != sha256:
        return Placed(entry.key, outcome, why_not=CHANGED)
    if target.exists() or target.is_symlink():
        same = target.is_file() and sha256_of(target) == sha256
        if not same:
            return Placed(entry.key, outcome, why_not=f"another file is at {target}")
        if way == "move" and not target.samefile(entry.place):
            os.unlink(entry.place)  # an earlier run was ended between its copy and this
        return Placed(entry.key, outcome, str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    if not _appear(target, _maker(entry.place, way), sha256):
        return Placed(entry.key, outcome, why_not=CHANGED)
    if way == "move" and sha256_of(Path(entry.place)) == sha256:  # not what another program has put there meanwhile
        os.unlink(entry.place)
    return Placed(entry.key, outcome, str(target))


def _maker(place: str, way: Way) -> Callable[[Path], object]:
    """What makes the new file. A move is a copy first, so that at every moment one of both is whole."""
    if way == "link":
        return lambda path: path.symlink_to(os.path.abspath(place))
    return lambda path: shutil.copy2(place, path)


def _appear(target: Path, make: Callable[[Path], object], sha256: str) -> bool:
    """Make a file under another name first, so that it is whole under its own; False if it got other bytes."""
    part = target.with_name(f".{uuid.uuid4().hex}.new")
    try:
        make(part)
        if sha256_of(part) != sha256:
            return False
        part.replace(target)
        return True
    finally:
        part.unlink(missing_ok=True)


def path_inside(entry: Entry) -> Path:
    """Return a path below a folder for a key: without its root, and without steps upwards."""
    parts = [part for part in PurePosixPath(entry.key.replace("\\", "/")).parts if part not in {"/", "..", "."}]
    if os.name == "nt":  # elsewhere a:b.png and a_b.png are two images
        parts = [part.replace(":", "_") for part in parts]
    return Path(*parts or ["image"])
