"""A store on disk by LanceDB: an index of neighbours, so that millions of vectors are searched in milliseconds."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nsfw_guard.backends.files.cache import put
from nsfw_guard.errors import ConfigError, MissingExtraError
from nsfw_guard.tools.lock import locked
from nsfw_guard.tools.similarity.segments import HEAD, damaged, new_folder, read_json
from nsfw_guard.tools.similarity.store import FACTS, Facts, Match, Origin, Rows, checked_question, checked_rows

KIND, SCHEMA, TABLE = "lance", 1, "images"
SMALL = 20_000  # rows that are compared one by one
SHARE = 0.1  # of all rows: so many are compared with each question, in the parts of the index that are nearest to it
KEPT = timedelta(minutes=10)  # earlier versions, for searches that still read them
SECONDS = 60.0  # to wait for another writer
BATCH = 1024  # keys of one statement


class LanceStore:
    """Embeddings in a table of LanceDB. Several processes may read while one writes; writers wait for each other.

    Example:
        ```python
        store = LanceStore.create(Path("likeness"), model="marqo", revision="", width=192)
        store.add(["a.png"], torch.randn(1, 192), [{"outcome": "allow"}])
        (matches,) = store.search(torch.randn(1, 192), k=5, where={"outcome": "allow"})
        store.close()
        ```
    """

    def __init__(self, folder: Path, origin: Origin) -> None:
        self.folder, self.origin = folder, origin
        self._table = _connect(folder).open_table(TABLE)

    @classmethod
    def create(cls, folder: Path, *, model: str, revision: str, width: int) -> LanceStore:
        """Make an empty store in a new or empty folder.

        Raises:
            ConfigError: the folder holds something, or the model has no embedding.
            MissingExtraError: LanceDB is not installed.
        """
        origin = Origin(model, revision, width)
        _lancedb()
        new_folder(folder)
        _connect(folder).create_table(TABLE, schema=_schema(width))
        head = {**vars(origin), "kind": KIND, "schema": SCHEMA}
        put(folder / HEAD, json.dumps(head, indent=1, sort_keys=True).encode())
        return cls(folder, origin)

    @classmethod
    def open(
        cls, folder: Path, *, model: str | None = None, revision: str | None = None, width: int | None = None
    ) -> LanceStore:
        """Open a store.

        Args:
            folder: of the store.
            model, revision, width: of the embeddings that are searched with; one of another model is refused.

        Raises:
            ConfigError: it is of another model, or damaged.
            MissingExtraError: LanceDB is not installed.
        """
        content = read_json(folder)
        if (content.pop("kind", None), content.pop("schema", None)) != (KIND, SCHEMA):
            raise ConfigError(f"the index in {str(folder)!r} was written by another version: build it again")
        try:
            origin = Origin(**content)
        except TypeError as error:
            raise damaged(folder, HEAD) from error
        origin.refuse_others(folder, model=model, revision=revision, width=width)
        _lancedb()
        try:
            store = cls(folder, origin)
            fits = store._table.schema.equals(_schema(origin.width))
        except (ValueError, OSError, RuntimeError) as error:  # what LanceDB raises for files that are not its own
            raise damaged(folder, TABLE) from error
        if not fits:
            raise ConfigError(f"{TABLE} in {str(folder)!r} has other columns than {HEAD} says: build the index again")
        return store

    @property
    def count(self) -> int:
        """How many images it holds."""
        return int(self._table.count_rows())

    def add(self, keys: Sequence[str], vectors: Tensor, facts: Sequence[Facts]) -> None:
        """Add images; one whose key is there takes the place of the earlier one.

        They are found at once, and compared one by one until `close` puts them into the index.
        """
        rows = checked_rows(keys, vectors, facts, self.origin.width)
        if not rows.keys:
            return
        with locked(self.folder, wait=SECONDS):
            adding = self._table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
            adding.execute(_arrow(rows, self.origin.width))

    def remove(self, keys: Sequence[str]) -> int:
        """Remove images, and return how many of the keys were there."""
        wanted, removed = list(dict.fromkeys(keys)), 0
        with locked(self.folder, wait=SECONDS):
            for start in range(0, len(wanted), BATCH):
                condition = f"key IN ({', '.join(_quoted(key) for key in wanted[start : start + BATCH])})"
                count = int(self._table.count_rows(condition))
                if count:
                    self._table.delete(condition)
                removed += count
        return removed

    def search(self, vectors: Tensor, *, k: int = 10, where: Facts | None = None) -> list[list[Match]]:
        """Return the `k` most similar images for each vector, the most similar first, of those with these facts.

        Where an index is searched, nearly all of them: `benchmarks/similarity.py` measures the share.
        """
        asked, where = checked_question(vectors, k, where, self.origin.width)
        condition = " AND ".join(f"{name} = {_quoted(value)}" for name, value in where.items())
        total = self.count
        # The fewer rows a filter leaves, the more parts are looked into, up to all: else half of these would be missed.
        wanted = self._table.count_rows(condition) if condition else total
        parts = _parts(total)
        looked = parts if wanted <= SHARE * total else math.ceil(parts * SHARE * total / wanted)
        return [self._search(vector, k, condition, looked) for vector in asked]

    def batches(self) -> Iterator[Rows]:
        """Yield all images, some at a time, in no particular order."""
        for batch in self._table.search().select(["key", "vector", *FACTS]).to_batches(SMALL):
            numbers = batch.column("vector").flatten().to_numpy(zero_copy_only=False)
            vectors = torch.tensor(numbers).reshape(-1, self.origin.width)
            lines = batch.select(FACTS).to_pylist()
            yield Rows(batch.column("key").to_pylist(), vectors, [_known(line) for line in lines])

    def stats(self) -> dict[str, Any]:
        """Return JSON-ready facts about the store: its kind, and what it takes."""
        size = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        waiting, indexed = self._waiting()
        return {"store": KIND, "indexed": indexed, "not indexed": waiting, "bytes": size}

    def close(self) -> None:
        """Put what was added into the index, where it is much, and merge the small files of many additions."""
        with suppress(ConfigError), locked(self.folder):  # another writer will do it
            waiting, indexed = self._waiting()
            self._table.optimize(cleanup_older_than=KEPT)  # first: an index of files that are merged is written twice
            if waiting >= SMALL or (indexed and waiting > indexed // 20):
                self._index()

    def _search(self, vector: Tensor, k: int, condition: str, parts: int) -> list[Match]:
        query = self._table.search(vector.numpy(), vector_column_name="vector").distance_type("cosine").limit(k)
        if condition:
            query = query.where(condition, prefilter=True)
        lines = query.nprobes(parts).select(["key", *FACTS, "_distance"]).to_list()
        cosines = [max(-1.0, min(1.0, 1.0 - float(line["_distance"]))) for line in lines]
        return [Match(line["key"], cosine, _known(line)) for line, cosine in zip(lines, cosines, strict=True)]

    def _waiting(self) -> tuple[int, int]:
        """How many rows are not in the index, and how many are."""
        for index in self._table.list_indices():
            if index.columns == ["vector"]:
                stats = self._table.index_stats(index.name)
                return int(stats.num_unindexed_rows), int(stats.num_indexed_rows)
        return self.count, 0

    def _index(self) -> None:
        """Build the indexes again, of all rows."""
        from lancedb.index import Bitmap, BTree, IvfFlat

        flat = IvfFlat(distance_type="cosine", num_partitions=_parts(self.count))
        self._table.create_index("vector", config=flat, replace=True)
        self._table.create_index("key", config=BTree(), replace=True)
        for name in ("outcome", "category"):
            self._table.create_index(name, config=Bitmap(), replace=True)
        self._table.create_index("sha256", config=BTree(), replace=True)


def _parts(count: int) -> int:
    """Into how many parts the index of so many rows is divided: each holds about as many rows as there are parts."""
    return max(1, math.isqrt(count))


def _lancedb() -> Any:
    os.environ.setdefault("LANCE_LOG", "error")  # else a line for each part of an index that holds nothing
    try:
        import lancedb
    except ImportError:
        raise MissingExtraError("lancedb", "search") from None
    return lancedb


def _connect(folder: Path) -> Any:
    """A connection that sees what other processes have written."""
    return _lancedb().connect(str(folder), read_consistency_interval=timedelta(0))


def _schema(width: int) -> Any:
    import pyarrow

    texts = [(name, pyarrow.string()) for name in FACTS]
    return pyarrow.schema([("key", pyarrow.string()), ("vector", pyarrow.list_(pyarrow.float32(), width)), *texts])


def _arrow(rows: Rows, width: int) -> Any:
    import pyarrow

    numbers = pyarrow.array(rows.vectors.reshape(-1).numpy())
    texts = [pyarrow.array([facts.get(name, "") for facts in rows.facts]) for name in FACTS]
    vectors = pyarrow.FixedSizeListArray.from_arrays(numbers, width)
    return pyarrow.table([pyarrow.array(rows.keys), vectors, *texts], schema=_schema(width))


def _quoted(value: str) -> str:
    """A text of SQL: a quote in it is doubled, and nothing else has a meaning there."""
    return "'" + value.replace("'", "''") + "'"


def _known(line: dict[str, Any]) -> dict[str, str]:
    return {name: line[name] for name in FACTS if line[name]}
