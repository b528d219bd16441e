"""The files of the exact index: segments that are written once, each with its hash, and a head that lists them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nsfw_guard.backends.files.cache import put
from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.similarity.store import Origin, Rows

HEAD = "index.json"
KIND = "exact"
SCHEMA = 2
_SLACK = 1e-3  # of the length of a vector
_NAME = re.compile(r"segment-[0-9]{6,}")  # of a segment: a file of this folder


@dataclass(frozen=True)
class Segment:
    """The images of one `add`, or of several that were merged: two files, and their hashes."""

    name: str
    count: int
    vectors_sha256: str
    facts_sha256: str


@dataclass(frozen=True)
class Head(Origin):
    """What the index is of, and which files it consists of.

    Args:
        segments: in the order in which they were written.
        removed: the name of a segment, and a row in it, for each image that does not count any more.
    """

    segments: tuple[Segment, ...] = ()
    removed: tuple[tuple[str, int], ...] = ()

    def to_json(self) -> str:
        """Return the text of index.json."""
        content = {**vars(self), "segments": [vars(s) for s in self.segments], "schema": SCHEMA, "kind": KIND}
        return json.dumps(content, indent=1, sort_keys=True)

    @property
    def next_name(self) -> str:
        """The name of the next segment: numbers are never used again."""
        last = max((int(segment.name.rpartition("-")[2]) for segment in self.segments), default=-1)
        return f"segment-{last + 1:06d}"


def read_json(folder: Path) -> dict[str, Any]:
    """Return the content of the index.json of any store in a folder.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    try:
        content = json.loads((folder / HEAD).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{str(folder)!r} holds no index ({error.strerror}): build one with `nsfw-guard index`"
        ) from error
    except (ValueError, RecursionError) as error:
        raise damaged(folder, HEAD) from error
    if not isinstance(content, dict):
        raise damaged(folder, HEAD)
    return content


def read_head(folder: Path) -> Head:
    """Return the head of an exact index.

    Raises:
        ConfigError: there is none, it is damaged, or it is of another version or kind of store.
    """
    content = read_json(folder)
    try:
        if (content.pop("schema"), content.pop("kind", "")) != (SCHEMA, KIND):
            raise ConfigError(f"the index in {str(folder)!r} was written by another version: build it again")
        segments = tuple(Segment(**segment) for segment in content.pop("segments"))
        removed = tuple((str(segment), int(row)) for segment, row in content.pop("removed"))
        head = Head(**content, segments=segments, removed=removed)
    except ConfigError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(folder, HEAD) from error
    for segment in segments:
        if not _NAME.fullmatch(str(segment.name)) or type(segment.count) is not int or segment.count < 0:
            raise damaged(folder, HEAD)
        path = folder / f"{segment.name}.safetensors"
        # Before memory is taken for so many: a vector is at least two bytes a number.
        if path.exists() and path.stat().st_size < 2 * segment.count * head.width:
            raise ConfigError(f"{segment.name} in {str(folder)!r} has another size than recorded: build it again")
    return head


def read_segment(folder: Path, segment: Segment, width: int) -> Rows:
    """Return the images of a segment, after checking the hashes of its files.

    Raises:
        ConfigError: it is damaged, or gone.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = _checked(folder, f"{segment.name}.safetensors", segment.vectors_sha256)
    lines = _checked(folder, f"{segment.name}.jsonl", segment.facts_sha256).decode().splitlines()
    try:
        vectors = load(data)["vectors"].float()
        entries = [(str(one["key"]), dict(one["facts"])) for one in map(json.loads, lines)]
    except (SafetensorError, ValueError, LookupError, TypeError) as error:
        raise damaged(folder, segment.name) from error
    if len(entries) != segment.count or tuple(vectors.shape) != (segment.count, width):
        raise ConfigError(f"{segment.name} in {str(folder)!r} has another size than recorded: build it again")
    # The hash is in the same folder: whoever wrote both may have written a NaN, which would be like everything.
    if not bool(((vectors.norm(dim=1) - 1).abs() < _SLACK).all()):
        raise ConfigError(
            f"{segment.name} in {str(folder)!r} is damaged, a vector of it has another length "
            "than 1: build the index again"
        )
    return Rows([key for key, _ in entries], vectors, [facts for _, facts in entries])


def write_segment(folder: Path, name: str, keys: Sequence[str], unit: Tensor, facts: Sequence[Any]) -> Segment:
    """Write a segment. It does not count until a head lists it."""
    from safetensors.torch import save

    vectors = save({"vectors": unit.contiguous()})
    pairs = zip(keys, facts, strict=True)
    lines = "".join(json.dumps({"key": k, "facts": dict(f)}, sort_keys=True) + "\n" for k, f in pairs).encode()
    put(folder / f"{name}.safetensors", vectors)
    put(folder / f"{name}.jsonl", lines)
    return Segment(name, len(keys), hashlib.sha256(vectors).hexdigest(), hashlib.sha256(lines).hexdigest())


def delete_unlisted(folder: Path, head: Head) -> None:
    """Delete the files of segments that the head does not list. One that another program has open may stay."""
    listed = {segment.name for segment in head.segments}
    for path in folder.glob("segment-*"):
        if path.name.partition(".")[0] not in listed:
            with suppress(OSError):
                path.unlink()


def new_folder(folder: Path) -> None:
    """Make the folder of an index.

    Raises:
        ConfigError: it holds something.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ConfigError(f"{str(folder)!r} is not empty: name a new folder for the index")


def damaged(folder: Path, name: str) -> ConfigError:
    """Return the error for a damaged file."""
    return ConfigError(f"{name} in {str(folder)!r} is damaged: build the index again")


def _checked(folder: Path, name: str, sha256: str) -> bytes:
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise ConfigError(f"{name} in {str(folder)!r} cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ConfigError(f"{name} in {str(folder)!r} is damaged, its hash is another: build the index again")
    return data
