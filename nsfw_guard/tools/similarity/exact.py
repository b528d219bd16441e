"""A store without further packages: every vector is compared, so that nothing is missed, whatever the filter."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.lock import locked
from nsfw_guard.tools.similarity.store import Match

HEAD = "index.json"
SCHEMA = 1
_SLACK = 1e-3  # of the length of a vector
_MAX_KEPT = 64  # filters whose rows are kept
_BLOCK = 1 << 22  # products that are held at a time, in units of numbers


@dataclass(frozen=True)
class Segment:
    """The images of one `add`: two files, and their hashes."""

    name: str
    count: int
    vectors_sha256: str
    facts_sha256: str


@dataclass(frozen=True)
class Head:
    """What the index is of, and which files it consists of."""

    model: str
    revision: str
    width: int
    segments: tuple[Segment, ...] = ()
    removed: tuple[tuple[int, int], ...] = ()  # a segment, and a row in it

    def to_json(self) -> str:
        """Return the text of index.json."""
        content = {**vars(self), "segments": [vars(s) for s in self.segments], "schema": SCHEMA}
        return json.dumps(content, indent=1, sort_keys=True)


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
        self._vectors = torch.zeros(0, head.width)
        self._keys: list[str] = []
        self._facts: list[Mapping[str, str]] = []
        self._places: list[tuple[int, int]] = []  # of each row: its segment, and the row in it
        self._row: dict[str, int] = {}
        self._rows: dict[tuple[tuple[str, str], ...], Tensor] = {}  # by the facts that were asked for
        for number in range(len(head.segments)):
            self._take(number)

    @classmethod
    def create(cls, folder: Path, *, model: str, revision: str, width: int) -> ExactIndex:
        """Make an empty index in a new or empty folder.

        Raises:
            ConfigError: the folder holds something, or the model has no embedding.
        """
        if width < 1:
            raise ConfigError(f"{model!r} has no embedding: choose a model with one from `nsfw-guard models`")
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"{str(folder)!r} is not empty: name a new folder for the index")
        index = cls(folder, Head(model, revision, width))
        index._write_head(index.head)
        return index

    @classmethod
    def open(cls, folder: Path, *, model: str | None = None, revision: str | None = None) -> ExactIndex:
        """Open an index.

        Args:
            folder: of the index.
            model, revision: of the embeddings that are searched with; one of another model is refused.

        Raises:
            ConfigError: it is of another model, or damaged.
        """
        head = _read_head(folder)
        for name, wanted, has in (("model", model, head.model), ("revision", revision, head.revision)):
            if wanted is not None and wanted != has:
                raise ConfigError(
                    f"the index in {str(folder)!r} has embeddings of the {name} {has!r}, not {wanted!r}, and these "
                    f"cannot be compared: build an index with the {name} {wanted!r}"
                )
        return cls(folder, head)

    @property
    def count(self) -> int:
        """How many images it holds."""
        return len(self._row)

    def add(self, keys: Sequence[str], vectors: Tensor, facts: Sequence[Mapping[str, str]]) -> None:
        """Add images; one whose key is there takes the place of the earlier one."""
        if not len(keys) == len(vectors) == len(facts):
            raise ConfigError(f"{len(keys)} keys, {len(vectors)} vectors and {len(facts)} facts: pass as many of each")
        if len(set(keys)) < len(keys):
            raise ConfigError("a key is there twice: add each image once")
        if vectors.ndim != 2 or vectors.shape[1] != self.head.width:
            raise ConfigError(f"expected vectors of {self.head.width} numbers, got the shape {tuple(vectors.shape)}")
        if not keys:
            return
        unit = _unit(vectors)
        with locked(self.folder):
            self._refuse_another_writer()
            segment = self._write_segment(keys, unit, facts)
            earlier = [self._places[self._row[key]] for key in keys if key in self._row]
            segments, removed = (*self.head.segments, segment), (*self.head.removed, *earlier)
            self._write_head(replace(self.head, segments=segments, removed=removed))
        self._append(len(self.head.segments) - 1, keys, unit, facts)

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

    def search(self, vectors: Tensor, *, k: int = 10, where: Mapping[str, str] | None = None) -> list[list[Match]]:
        """Return the `k` most similar images for each vector, the most similar first, of those with these facts."""
        if k < 1:
            raise ConfigError(f"k must be 1 or more, got {k}")
        if vectors.ndim != 2 or vectors.shape[1] != self.head.width:
            raise ConfigError(f"expected vectors of {self.head.width} numbers, got the shape {tuple(vectors.shape)}")
        asked = _unit(vectors)
        wanted = self._rows_with(where)
        if not len(wanted):
            return [[] for _ in asked]
        # Without a filter and without removed rows nothing has to be copied.
        pool = self._vectors if len(wanted) == len(self._vectors) else self._vectors[wanted]
        rows = torch.arange(len(pool)) if pool is self._vectors else wanted
        step = max(1, _BLOCK // len(pool))
        matches = []
        for start in range(0, len(asked), step):
            values, at = (asked[start : start + step] @ pool.T).topk(min(k, len(pool)), dim=1)
            matches += [
                [self._match(int(rows[i]), float(value)) for i, value in zip(ids, scores, strict=True)]
                for ids, scores in zip(at.tolist(), values.tolist(), strict=True)
            ]
        return matches

    def close(self) -> None:
        """Free the vectors."""
        self._vectors = torch.zeros(0, self.head.width)
        self._keys, self._facts, self._places, self._row, self._rows = [], [], [], {}, {}

    def _rows_with(self, where: Mapping[str, str] | None) -> Tensor:
        """The rows of images with these facts. Kept until the index changes: going through all facts takes a while."""
        key = tuple(sorted((where or {}).items()))
        if key not in self._rows:
            if len(self._rows) >= _MAX_KEPT:
                self._rows.clear()
            rows = [row for row in self._row.values() if _has(self._facts[row], where)]
            self._rows[key] = torch.tensor(rows, dtype=torch.long)
        return self._rows[key]

    def _match(self, row: int, similarity: float) -> Match:
        return Match(self._keys[row], max(-1.0, min(1.0, similarity)), self._facts[row])

    def _take(self, number: int) -> None:
        """Read a segment, after checking the hashes of its files."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        segment = self.head.segments[number]
        data = self._checked(f"{segment.name}.safetensors", segment.vectors_sha256)
        lines = self._checked(f"{segment.name}.jsonl", segment.facts_sha256).decode().splitlines()
        try:
            vectors = load(data)["vectors"]
            entries = [(str(one["key"]), dict(one["facts"])) for one in map(json.loads, lines)]
        except (SafetensorError, ValueError, LookupError, TypeError) as error:
            raise ConfigError(f"{segment.name} in {str(self.folder)!r} is damaged: build the index again") from error
        if len(entries) != segment.count or tuple(vectors.shape) != (segment.count, self.head.width):
            raise ConfigError(f"{segment.name} in {str(self.folder)!r} has another size than recorded: build it again")
        # The hash is in the same folder: whoever wrote both may have written a NaN, which would be like everything.
        if not bool(((vectors.float().norm(dim=1) - 1).abs() < _SLACK).all()):
            raise ConfigError(
                f"{segment.name} in {str(self.folder)!r} is damaged, a vector of it has another length "
                "than 1: build the index again"
            )
        self._append(number, [key for key, _ in entries], vectors.float(), [facts for _, facts in entries])

    def _append(self, number: int, keys: Sequence[str], unit: Tensor, facts: Sequence[Mapping[str, str]]) -> None:
        self._rows.clear()
        start, gone = len(self._keys), {row for segment, row in self.head.removed if segment == number}
        self._keys += keys
        self._facts += [dict(one) for one in facts]
        self._places += [(number, row) for row in range(len(keys))]
        self._vectors = torch.cat([self._vectors, unit])
        self._row |= {key: start + row for row, key in enumerate(keys) if row not in gone}

    def _checked(self, name: str, sha256: str) -> bytes:
        try:
            data = (self.folder / name).read_bytes()
        except OSError as error:
            raise ConfigError(f"{name} in {str(self.folder)!r} cannot be read ({error.strerror})") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ConfigError(f"{name} in {str(self.folder)!r} is damaged, its hash is another: build the index again")
        return data

    def _write_segment(self, keys: Sequence[str], unit: Tensor, facts: Sequence[Mapping[str, str]]) -> Segment:
        from safetensors.torch import save

        name = f"segment-{len(self.head.segments):06d}"
        vectors = save({"vectors": unit.contiguous()})
        pairs = zip(keys, facts, strict=True)
        lines = "".join(json.dumps({"key": k, "facts": dict(f)}, sort_keys=True) + "\n" for k, f in pairs).encode()
        _write(self.folder / f"{name}.safetensors", vectors)
        _write(self.folder / f"{name}.jsonl", lines)
        return Segment(name, len(keys), hashlib.sha256(vectors).hexdigest(), hashlib.sha256(lines).hexdigest())

    def _write_head(self, head: Head) -> None:
        """Write the list of segments last: what it does not name does not count."""
        _write(self.folder / HEAD, head.to_json().encode())
        self.head = head

    def _refuse_another_writer(self) -> None:
        if _read_head(self.folder) != self.head:
            raise ConfigError(f"another process has changed the index in {str(self.folder)!r}: open it again")


def _read_head(folder: Path) -> Head:
    try:
        content: Any = json.loads((folder / HEAD).read_text(encoding="utf-8"))
        if content.pop("schema") != SCHEMA:
            raise ConfigError(f"the index in {str(folder)!r} was written by another version: build it again")
        segments = tuple(Segment(**segment) for segment in content.pop("segments"))
        removed = tuple((int(segment), int(row)) for segment, row in content.pop("removed"))
        return Head(**content, segments=segments, removed=removed)
    except OSError as error:
        raise ConfigError(
            f"{str(folder)!r} holds no index ({error.strerror}): build one with `nsfw-guard index`"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{HEAD} in {str(folder)!r} is damaged: build the index again") from error


def _write(path: Path, data: bytes) -> None:
    """Write a file that appears whole."""
    part = path.with_name(f"{path.name}.new")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1, in float32. One without a direction, or with a NaN, is refused: it is like nothing."""
    plain = vectors.detach().float().cpu()
    lengths = plain.norm(dim=1, keepdim=True)
    if not bool((lengths > 0).all()) or not bool(torch.isfinite(lengths).all()):
        raise ConfigError("an embedding is zero or not finite: leave its image out")
    unit: Tensor = plain / lengths
    return unit


def _has(facts: Mapping[str, str], where: Mapping[str, str] | None) -> bool:
    return not where or all(facts.get(name) == value for name, value in where.items())
