"""A store without further packages: every vector is compared, so that nothing is missed, whatever the filter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nsfw_guard.backends.files.cache import put
from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.lock import locked
from nsfw_guard.tools.similarity.segments import (
    HEAD,
    KIND,
    Head,
    Segment,
    delete_unlisted,
    new_folder,
    read_head,
    read_segment,
    write_segment,
)
from nsfw_guard.tools.similarity.store import Facts, Match, Origin, Rows, checked_question, checked_rows

SMALL = 4096  # rows: segments below are merged
MOST_SMALL = 16  # of them that an index has at a time
_MAX_KEPT = 64  # filters whose rows are kept
_BLOCK = 1 << 22  # products that are held at a time, in units of numbers
_TRIES = 5  # to open an index while another process changes it

Place = tuple[str, int]  # the name of a segment, and a row in it


class ExactIndex:
    """Embeddings in a folder, compared one by one.

    Example:
        ```python
        index = ExactIndex.create(Path("likeness"), model="marqo", revision="", width=192)
        index.add(["a.png"], torch.randn(1, 192), [{"outcome": "allow"}])
        (matches,) = index.search(torch.randn(1, 192), k=5, where={"outcome": "allow"})
        ```
    """

    def __init__(self, folder: Path, head: Head) -> None:
        self.folder, self.head = folder, head
        self._keys: list[str] = []
        self._facts: list[Mapping[str, str]] = []
        self._places: list[Place] = []  # of each row
        self._row: dict[str, int] = {}
        self._rows: dict[tuple[tuple[str, str], ...], Tensor] = {}  # by the facts that were asked for
        removed = set(head.removed)
        self._buffer = torch.zeros(sum(segment.count for segment in head.segments), head.width)  # has room for more
        for segment in head.segments:
            self._append(segment.name, read_segment(folder, segment, head.width), removed)

    @classmethod
    def create(cls, folder: Path, *, model: str, revision: str, width: int) -> ExactIndex:
        """Make an empty index in a new or empty folder.

        Raises:
            ConfigError: the folder holds something, or the model has no embedding.
        """
        head = Head(model, revision, width)
        new_folder(folder)
        index = cls(folder, head)
        index._write_head(head)
        return index

    @classmethod
    def open(
        cls, folder: Path, *, model: str | None = None, revision: str | None = None, width: int | None = None
    ) -> ExactIndex:
        """Open an index.

        Args:
            folder: of the index.
            model, revision, width: of the embeddings that are searched with; one of another model is refused.

        Raises:
            ConfigError: it is of another model, or damaged.
        """
        for left in reversed(range(_TRIES)):
            head = read_head(folder)
            head.refuse_others(folder, model=model, revision=revision, width=width)
            try:
                return cls(folder, head)
            except ConfigError:
                # Another process may have merged segments, and deleted what this head lists.
                if not left or read_head(folder) == head:
                    raise
        raise AssertionError("not reached")

    @property
    def origin(self) -> Origin:
        """Which model the embeddings are by."""
        return self.head

    @property
    def count(self) -> int:
        """How many images it holds."""
        return len(self._row)

    def add(self, keys: Sequence[str], vectors: Tensor, facts: Sequence[Facts]) -> None:
        """Add images; one whose key is there takes the place of the earlier one.

        Small segments are merged with them, so that an index of many small additions has few files.
        """
        rows = checked_rows(keys, vectors, facts, self.head.width)
        if not rows.keys:
            return
        with locked(self.folder):
            self._refuse_another_writer()
            small = [segment for segment in self.head.segments if segment.count < SMALL]
            merged = small if len(small) >= MOST_SMALL else []
            kept = self._rows_in({segment.name for segment in merged} if merged else set(), rows.keys)
            segment = self._write(kept, rows)
            self._list(segment, merged, rows.keys)
            if merged:
                delete_unlisted(self.folder, self.head)
        for at, row in enumerate(kept):
            self._places[row] = (segment.name, at)
        self._append(segment.name, rows, set(), len(kept))

    def remove(self, keys: Sequence[str]) -> int:
        """Remove images, and return how many of the keys were there."""
        present = [key for key in dict.fromkeys(keys) if key in self._row]
        if present:
            places = (self._places[self._row[key]] for key in present)
            with locked(self.folder):
                self._refuse_another_writer()
                self._write_head(replace(self.head, removed=(*self.head.removed, *places)))
        for key in present:
            del self._row[key]
        self._rows.clear()
        return len(present)

    def search(self, vectors: Tensor, *, k: int = 10, where: Facts | None = None) -> list[list[Match]]:
        """Return the `k` most similar images for each vector, the most similar first, of those with these facts."""
        asked, where = checked_question(vectors, k, where, self.head.width)
        wanted = self._rows_with(where)
        if not len(wanted):
            return [[] for _ in asked]
        matches = []
        step = max(1, _BLOCK // len(self._keys))
        for start in range(0, len(asked), step):
            products, rows = self._products(asked[start : start + step], wanted)
            values, at = products.topk(min(k, len(wanted)), dim=1)
            matches += [
                [self._match(int(row), float(value)) for row, value in zip(ids, scores, strict=True)]
                for ids, scores in zip(rows[at].tolist(), values.tolist(), strict=True)
            ]
        return matches

    def _products(self, asked: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """The cosines with the wanted rows and perhaps others, which get less than any; and the row of each column."""
        if 2 * len(wanted) <= len(self._keys):
            return asked @ self._vectors[wanted].T, wanted
        products = asked @ self._vectors.T  # most rows: copying them would take longer
        if len(wanted) < len(self._keys):
            unwanted = torch.ones(len(self._keys), dtype=torch.bool)
            unwanted[wanted] = False
            products.masked_fill_(unwanted, -2.0)
        return products, torch.arange(len(self._keys))

    def batches(self) -> Iterator[Rows]:
        """Yield all images, some at a time, in no particular order."""
        rows = list(self._row.values())
        for start in range(0, len(rows), SMALL):
            part = rows[start : start + SMALL]
            facts = [dict(self._facts[row]) for row in part]
            yield Rows([self._keys[row] for row in part], self._vectors[part], facts)

    def stats(self) -> dict[str, Any]:
        """Return JSON-ready facts about the store: its kind, and what it takes."""
        size = sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())
        return {"store": KIND, "segments": len(self.head.segments), "bytes": size}

    def close(self) -> None:
        """Free the vectors."""
        self._buffer = torch.zeros(0, self.head.width)
        self._keys, self._facts, self._places, self._row, self._rows = [], [], [], {}, {}

    @property
    def _vectors(self) -> Tensor:
        return self._buffer[: len(self._keys)]

    def _rows_with(self, where: Facts) -> Tensor:
        """The rows of images with these facts. Kept until the index changes: going through all facts takes a while."""
        key = tuple(sorted(where.items()))
        if key not in self._rows:
            if len(self._rows) >= _MAX_KEPT:
                self._rows.clear()
            rows = [row for row in self._row.values() if _has(self._facts[row], where)]
            self._rows[key] = torch.tensor(rows, dtype=torch.long)
        return self._rows[key]

    def _rows_in(self, names: set[str], without: Sequence[str]) -> list[int]:
        """The rows that count in these segments, without those of some keys."""
        left = set(without)
        return [r for key, r in self._row.items() if names and self._places[r][0] in names and key not in left]

    def _match(self, row: int, similarity: float) -> Match:
        return Match(self._keys[row], max(-1.0, min(1.0, similarity)), self._facts[row])

    def _append(self, name: str, rows: Rows, removed: set[Place], first: int = 0) -> None:
        """Take rows that stand in a segment from `first` on."""
        self._rows.clear()
        start, end = len(self._keys), len(self._keys) + len(rows.keys)
        if end > len(self._buffer):  # half as much again, so that many small additions do not copy everything each time
            larger = torch.zeros(max(end, len(self._buffer) * 3 // 2), self.head.width)
            larger[:start] = self._vectors
            self._buffer = larger
        self._buffer[start:end] = rows.vectors
        self._keys += rows.keys
        self._facts += rows.facts
        self._places += [(name, first + row) for row in range(len(rows.keys))]
        self._row |= {k: start + row for row, k in enumerate(rows.keys) if (name, first + row) not in removed}

    def _write(self, kept: list[int], rows: Rows) -> Segment:
        """Write a segment of rows that are there, and of new ones."""
        keys = [*(self._keys[row] for row in kept), *rows.keys]
        facts = [*(self._facts[row] for row in kept), *rows.facts]
        vectors = torch.cat([self._vectors[kept], rows.vectors]) if kept else rows.vectors
        return write_segment(self.folder, self.head.next_name, keys, vectors, facts)

    def _list(self, segment: Segment, merged: Sequence[Segment], keys: Sequence[str]) -> None:
        """Write a head with a new segment, in place of those that were merged into it."""
        gone = {one.name for one in merged}
        earlier = [self._places[self._row[key]] for key in keys if key in self._row]
        removed = tuple(place for place in (*self.head.removed, *earlier) if place[0] not in gone)
        segments = (*(one for one in self.head.segments if one.name not in gone), segment)
        self._write_head(replace(self.head, segments=segments, removed=removed))

    def _write_head(self, head: Head) -> None:
        """Write the list of segments last: what it does not name does not count."""
        put(self.folder / HEAD, head.to_json().encode())
        self.head = head

    def _refuse_another_writer(self) -> None:
        if read_head(self.folder) != self.head:
            raise ConfigError(f"another process has changed the index in {str(self.folder)!r}: open it again")


def _has(facts: Mapping[str, str], where: Facts) -> bool:
    return all(facts.get(name, "") == value for name, value in where.items())
