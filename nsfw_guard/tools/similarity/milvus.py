"""A store on a Milvus server, through pymilvus: for many readers and writers, and more than one machine holds."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import torch
from torch import Tensor

from nsfw_guard.errors import ConfigError, MissingExtraError, first_line
from nsfw_guard.tools.similarity.store import FACTS, Facts, Match, Origin, Rows, checked_question, checked_rows

KIND, COLLECTION, TOKEN = "milvus", "nsfw_guard", "MILVUS_TOKEN"
KEY_BYTES, FACT_BYTES = 4096, 512  # the longest key and fact
EDGES, BREADTH, CANDIDATES = 24, 256, 256  # of HNSW: M, efConstruction, the least ef
MOST = 16384  # matches of one search: Milvus's own limit
BATCH = 1000  # rows of one request, which must be below 64 MB
_CONNECT, _ANSWER = 10.0, 120.0  # seconds
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")
_UNPRINTED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class MilvusStore:
    """Embeddings in a collection of Milvus, at an address such as `http://127.0.0.1:19530?collection=images`.

    The token of a server that wants one is read from the environment variable `MILVUS_TOKEN`.

    Example:
        ```python
        store = MilvusStore.create("http://127.0.0.1:19530?collection=images", model="marqo", revision="", width=192)
        store.add(["a.png"], torch.randn(1, 192), [{"outcome": "allow"}])
        (matches,) = store.search(torch.randn(1, 192), k=5, where={"outcome": "allow"})
        ```
    """

    def __init__(self, address: str, client: Any, name: str, origin: Origin) -> None:
        self.address, self.origin = address, origin
        self._client, self._name = client, name
        with _asking(address):
            self._kind = _index_kind(client)
            client.load_collection(name, timeout=_ANSWER)

    @classmethod
    def create(cls, address: str, *, model: str, revision: str, width: int) -> MilvusStore:
        """Make an empty collection.

        Raises:
            ConfigError: it is there already, or the server cannot be reached.
            MissingExtraError: pymilvus is not installed.
        """
        origin = Origin(model, revision, width)
        client, name = _connect(address)
        with _asking(address):
            if client.has_collection(name) or client.has_collection(_origin_of(name)):
                raise ConfigError(f"the collection {name!r} at {address!r} is there already: name another one")
            _create_origin(client, name, origin)
            _create_images(client, name, width)
        return cls(address, client, name, origin)

    @classmethod
    def open(
        cls, address: str, *, model: str | None = None, revision: str | None = None, width: int | None = None
    ) -> MilvusStore:
        """Open a collection that was made here.

        Args:
            address: of the server, and the collection in it.
            model, revision, width: of the embeddings that are searched with; one of another model is refused.

        Raises:
            ConfigError: there is none, it is of another model, or the server cannot be reached.
            MissingExtraError: pymilvus is not installed.
        """
        client, name = _connect(address)
        with _asking(address):
            if not client.has_collection(name) or not client.has_collection(_origin_of(name)):
                raise ConfigError(f"{address!r} holds no index in {name!r}: build one with `nsfw-guard index`")
            origin = _read_origin(client, name, address)
        origin.refuse_others(address, model=model, revision=revision, width=width)
        return cls(address, client, name, origin)

    @property
    def count(self) -> int:
        """How many images it holds."""
        with _asking(self.address):
            (line,) = self._query(filter="", output_fields=["count(*)"])
            return int(line["count(*)"])

    def add(self, keys: Sequence[str], vectors: Tensor, facts: Sequence[Facts]) -> None:
        """Add images; one whose key is there takes the place of the earlier one.

        Raises:
            ConfigError: a key or fact is longer than `KEY_BYTES` or `FACT_BYTES`, or the server refuses.
        """
        rows = checked_rows(keys, vectors, facts, self.origin.width)
        for key, known in zip(rows.keys, rows.facts, strict=True):
            _refuse_long("key", key, KEY_BYTES)
            for name, value in known.items():
                _refuse_long(name, value, FACT_BYTES)
                _quoted(value)
        for start in range(0, len(rows.keys), BATCH):
            part = slice(start, start + BATCH)
            lines = [
                {"id": _id(key), "key": key, "vector": vector, **{name: known.get(name, "") for name in FACTS}}
                for key, vector, known in zip(
                    rows.keys[part], rows.vectors[part].numpy(), rows.facts[part], strict=True
                )
            ]
            with _asking(self.address):
                self._client.upsert(self._name, lines, timeout=_ANSWER)

    def remove(self, keys: Sequence[str]) -> int:
        """Remove images, and return how many of the keys were there."""
        ids, removed = [_id(key) for key in dict.fromkeys(keys)], 0
        for start in range(0, len(ids), BATCH):
            with _asking(self.address):
                there = [line["id"] for line in self._query(ids=ids[start : start + BATCH], output_fields=["id"])]
                if there:
                    self._client.delete(self._name, ids=there, timeout=_ANSWER)
            removed += len(there)
        return removed

    def search(self, vectors: Tensor, *, k: int = 10, where: Facts | None = None) -> list[list[Match]]:
        """Return the `k` most similar images for each vector, the most similar first, of those with these facts.

        Raises:
            ConfigError: `k` is above `MOST`, or the server refuses.
        """
        asked, where = checked_question(vectors, k, where, self.origin.width)
        if k > MOST:
            raise ConfigError(f"k must be at most {MOST} for Milvus, got {k}")
        settings = {"ef": max(CANDIDATES, 2 * k)} if self._kind == "HNSW" else {}
        answers: list[Any] = []
        for start in range(0, len(asked), BATCH):
            with _asking(self.address):
                answers += self._client.search(
                    self._name,
                    data=[vector.tolist() for vector in asked[start : start + BATCH]],
                    anns_field="vector",
                    filter=" and ".join(f"{name} == {_quoted(value)}" for name, value in where.items()),
                    limit=k,
                    output_fields=["key", *FACTS],
                    search_params={"metric_type": "COSINE", "params": settings},
                    consistency_level="Strong",
                    timeout=_ANSWER,
                )
        return [[_match(hit) for hit in hits] for hits in answers]

    def batches(self) -> Iterator[Rows]:
        """Yield all images, some at a time, in no particular order."""
        with _asking(self.address):
            lines = self._client.query_iterator(
                self._name,
                batch_size=BATCH,
                output_fields=["key", "vector", *FACTS],
                consistency_level="Strong",
                timeout=_ANSWER,
            )
        try:
            while True:
                with _asking(self.address):
                    part = lines.next()
                if not part:
                    return
                vectors = torch.tensor([line["vector"] for line in part])
                yield Rows([line["key"] for line in part], vectors, [_known(line) for line in part])
        finally:
            lines.close()

    def stats(self) -> dict[str, Any]:
        """Return JSON-ready facts about the store: its kind, and how it is searched."""
        return {"store": KIND, "collection": self._name, "search": self._kind}

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def _query(self, **what: Any) -> Any:
        return self._client.query(self._name, consistency_level="Strong", timeout=_ANSWER, **what)


def _connect(address: str) -> tuple[Any, str]:
    """A client for the server of an address, and the name of the collection."""
    parts = urlsplit(address)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    name = options.pop("collection", COLLECTION)
    if parts.scheme not in {"http", "https"} or not parts.hostname or options or not _NAME.fullmatch(name):
        raise ConfigError(
            "the address of a Milvus server is written as http://HOST:PORT?collection=NAME, with letters, digits and _ "
            "in NAME: correct it"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"an address must hold no password: put the token into the variable {TOKEN} instead")
    try:
        from pymilvus import MilvusClient
    except ImportError:
        raise MissingExtraError("pymilvus", "milvus") from None
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # errors are raised: it would print them too
    with _asking(address):
        server = f"{parts.scheme}://{parts.netloc}"
        return MilvusClient(uri=server, token=os.environ.get(TOKEN, ""), timeout=_CONNECT), name


@contextmanager
def _asking(address: str) -> Iterator[None]:
    """Errors of the server as ours."""
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except MilvusException as error:
        said = first_line(error)
        token = os.environ.get(TOKEN)
        said = said.replace(token, "***") if token else said
        raise ConfigError(f"the Milvus server at {address!r} has refused, or cannot be reached ({said})") from None


def _index_kind(client: Any) -> str:
    """How the server searches: milvus-lite's own HNSW loses half of what a filter leaves."""
    return "FLAT" if "lite" in client.get_server_version(timeout=_ANSWER) else "HNSW"


def _create_images(client: Any, name: str, width: int) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("key", DataType.VARCHAR, max_length=KEY_BYTES)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=width)
    for fact in FACTS:
        schema.add_field(fact, DataType.VARCHAR, max_length=FACT_BYTES)
    kind, params = _index_kind(client), client.prepare_index_params()
    settings = {"M": EDGES, "efConstruction": BREADTH} if kind == "HNSW" else {}
    params.add_index("vector", index_type=kind, metric_type="COSINE", params=settings)
    client.create_collection(name, schema=schema, index_params=params, consistency_level="Strong")


def _create_origin(client: Any, name: str, origin: Origin) -> None:
    """Write what the embeddings are of into a collection beside: not every server keeps descriptions."""
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("origin", DataType.VARCHAR, max_length=KEY_BYTES)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)  # each collection has one
    params = client.prepare_index_params()
    params.add_index("vector", index_type="FLAT", metric_type="COSINE", params={})
    client.create_collection(_origin_of(name), schema=schema, index_params=params, consistency_level="Strong")
    line = {"id": "origin", "origin": json.dumps(vars(origin), sort_keys=True), "vector": [1.0, 0.0]}
    client.upsert(_origin_of(name), [line], timeout=_ANSWER)


def _read_origin(client: Any, name: str, address: str) -> Origin:
    client.load_collection(_origin_of(name), timeout=_ANSWER)
    lines = client.query(_origin_of(name), ids=["origin"], output_fields=["origin"], consistency_level="Strong")
    try:
        return Origin(**json.loads(lines[0]["origin"]))
    except (LookupError, ValueError, TypeError) as error:
        raise ConfigError(f"{_origin_of(name)!r} at {address!r} is damaged: build the index again") from error


def _origin_of(name: str) -> str:
    return f"{name}_origin"


def _id(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _quoted(value: str) -> str:
    """A text of an expression: quotes and backslashes are escaped, and nothing else has a meaning there."""
    if _UNPRINTED.search(value):
        raise ConfigError(
            f"the fact {value!r} has control characters, which Milvus cannot be asked for: leave them out"
        )
    return json.dumps(value, ensure_ascii=False)


def _refuse_long(what: str, text: str, most: int) -> None:
    size = len(text.encode())
    if size > most:
        raise ConfigError(f"the {what} {text[:60]!r}... has {size} bytes, of which Milvus keeps {most}: shorten it")


def _match(hit: Mapping[str, Any]) -> Match:
    line = hit["entity"]
    return Match(line["key"], max(-1.0, min(1.0, float(hit["distance"]))), _known(line))


def _known(line: Mapping[str, Any]) -> dict[str, str]:
    return {name: line[name] for name in FACTS if line[name]}
