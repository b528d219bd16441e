"""What a scan judges, one entry an image: listed once, in an order that does not change, and read later."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import PurePath
from typing import Protocol

from nsfw_guard.tools.clips import CLIP_SUFFIXES
from nsfw_guard.tools.screen import SUFFIXES

UNREADABLE = "cannot be read"
JUDGED_SUFFIXES = SUFFIXES | CLIP_SUFFIXES


@dataclass(frozen=True)
class Entry:
    """One image: a key that names it in the output, and where its bytes are.

    Args:
        key: the path or address, and what follows in it, such as the member of a shard.
        reader: the index of the source that reads it.
        place: the file that holds it.
        offset: where in this file: a byte of a shard, a row of a table.
        length: its bytes in a shard; 0 elsewhere.
    """

    key: str
    reader: int
    place: str
    offset: int = 0
    length: int = 0

    @property
    def is_clip(self) -> bool:
        """True for a video file, by its name."""
        return PurePath(self.key).suffix.lower() in CLIP_SUFFIXES

    @property
    def is_file(self) -> bool:
        """True for an image that is a file of its own on this machine: no member, no row, nothing at an address."""
        return not (self.offset or self.length or "://" in self.key or self.key == f"{self.place}#0")

    def to_line(self) -> str:
        """Return one line of JSON. Bytes of a name that are no text survive."""
        return json.dumps(astuple(self))

    @classmethod
    def from_line(cls, line: str) -> Entry:
        """Return the entry of a line."""
        return cls(*json.loads(line))


@dataclass(frozen=True)
class Unreadable:
    """Why an entry has no bytes."""

    reason: str


Content = bytes | Unreadable  # of one entry


class Reader(Protocol):
    """A source of images."""

    def entries(self, reader: int) -> Iterator[Entry]:
        """Yield every image, in an order that is the same each time."""
        ...

    def read(self, entries: Sequence[Entry], most: int) -> Iterator[Content]:
        """Yield the bytes of each entry, or why there are none; more than `most` bytes are refused."""
        ...
