"""The plan of a scan: what is judged, in which order, written down before the first image is."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.screening.rows import as_text
from nsfw_guard.tools.screening.sources.entries import Entry, Reader

PLAN = "plan.jsonl"


@dataclass(frozen=True)
class Plan:
    """The file that lists every entry, their number, and its hash."""

    path: Path
    count: int
    sha256: str

    def chunks(self, size: int) -> Iterator[list[Entry]]:
        """Yield the entries in lists of `size`; the last one may be shorter."""
        with self.path.open(encoding="ascii") as file:
            lines = iter(file)
            while part := list(itertools.islice(lines, size)):
                yield [Entry.from_line(line) for line in part]


def write_plan(folder: Path, readers: Sequence[Reader]) -> Plan:
    """List every source, and write the plan; it appears under its name when it is whole.

    Raises:
        ConfigError: the sources hold no image, or one key stands for two images.
    """
    count, digest, seen = 0, hashlib.sha256(), dict[bytes, bytes]()
    part = folder / f"{PLAN}.new"
    with part.open("w", encoding="ascii") as file:
        for index, reader in enumerate(readers):
            for entry in reader.entries(index):
                if not _is_new(entry, seen):
                    continue
                line = entry.to_line() + "\n"
                file.write(line)
                digest.update(line.encode("ascii"))
                count += 1
        file.flush()
        os.fsync(file.fileno())
    if not count:
        part.unlink()
        raise ConfigError("the sources hold no image: pass other folders, files or addresses")
    part.replace(folder / PLAN)
    return Plan(folder / PLAN, count, digest.hexdigest())


def _is_new(entry: Entry, seen: dict[bytes, bytes]) -> bool:
    """Whether an image was not listed before; by hashes, so that two million names do not have to be held.

    The key counts as it stands in the output, where names that are no text may become those of others.
    """
    key, source = as_text(entry.key), repr((entry.place, entry.offset, entry.length))
    # Nobody can make two names of one hash of this size.
    short, where = (hashlib.blake2b(text.encode(), digest_size=16).digest() for text in (key, source))
    if seen.get(short, where) != where:
        raise ConfigError(
            f"the key {key!r} stands for two images, the second one in {entry.place!r}: rename one, or scan them into "
            "two folders"
        )
    known = short in seen
    seen[short] = where
    return not known


def read_plan(folder: Path) -> Plan:
    """Return the plan of a scan that was begun.

    Raises:
        ConfigError: there is none.
    """
    path, count, digest = folder / PLAN, 0, hashlib.sha256()
    try:
        with path.open("rb") as file:
            for line in file:
                count += 1
                digest.update(line)
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be read ({error.strerror}): begin with another --out") from error
    return Plan(path, count, digest.hexdigest())
