"""Stores by where they are: a folder, or the address of a server."""

from __future__ import annotations

from pathlib import Path

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.tools.similarity.exact import ExactIndex
from nsfw_guard.tools.similarity.lance import LanceStore
from nsfw_guard.tools.similarity.milvus import MilvusStore
from nsfw_guard.tools.similarity.segments import read_json
from nsfw_guard.tools.similarity.store import ListedStore

KINDS = ("exact", "lance", "milvus")
_IN_FOLDERS: dict[str, type[ExactIndex] | type[LanceStore]] = {"exact": ExactIndex, "lance": LanceStore}


def create_store(kind: str, place: Path | str, *, model: str, revision: str, width: int) -> ListedStore:
    """Make an empty store.

    Args:
        kind: one of `KINDS`.
        place: a new or empty folder; for "milvus" an address such as `http://127.0.0.1:19530?collection=images`.
        model, revision, width: of the embeddings.

    Raises:
        ConfigError: the place is taken, or not one of this kind.
        MissingExtraError: the library of this kind is not installed.

    Example:
        ```python
        store = create_store("exact", Path("likeness"), model="marqo", revision="", width=192)
        ```
    """
    if kind not in KINDS:
        raise UnknownNameError("store", kind, KINDS)
    if is_address(place) != (kind == "milvus"):
        wanted = "an address such as http://127.0.0.1:19530" if kind == "milvus" else "a folder"
        raise ConfigError(f"the store {kind!r} is at {wanted}, got {str(place)!r}: name one, or choose another store")
    if kind == "milvus":
        return MilvusStore.create(str(place), model=model, revision=revision, width=width)
    return _IN_FOLDERS[kind].create(Path(place), model=model, revision=revision, width=width)


def open_store(
    place: Path | str, *, model: str | None = None, revision: str | None = None, width: int | None = None
) -> ListedStore:
    """Open a store of any kind.

    Args:
        place: its folder or address.
        model, revision, width: of the embeddings that are searched with; one of another model is refused.

    Raises:
        ConfigError: there is none, it is of another model, or damaged.
        MissingExtraError: the library of this kind is not installed.

    Example:
        ```python
        store = open_store(Path("likeness"), model="marqo")
        ```
    """
    if is_address(place):
        return MilvusStore.open(str(place), model=model, revision=revision, width=width)
    kind = read_json(Path(place)).get("kind", "exact")
    if not isinstance(kind, str) or kind not in _IN_FOLDERS:
        raise ConfigError(f"the index in {str(place)!r} was written by another version: build it again")
    return _IN_FOLDERS[kind].open(Path(place), model=model, revision=revision, width=width)


def is_address(place: Path | str) -> bool:
    """Return whether this is the address of a server."""
    return isinstance(place, str) and "://" in place
