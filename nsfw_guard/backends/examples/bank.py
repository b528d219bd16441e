"""A bank: examples with their embeddings, in a folder."""

from __future__ import annotations

import datetime
import hashlib
import json
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from nsfw_guard.backends.examples.example import Example
from nsfw_guard.backends.examples.likeness import BUDGET, check_budget
from nsfw_guard.backends.files.cache import put
from nsfw_guard.errors import ConfigError
from nsfw_guard.jsonfile import read_json

HEAD = "bank.json"
SCHEMA = 1
_TRIES = 5
MAX_BYTES = 1 << 29  # of bank.json: more than a million hashes
MAX_TENSORS = 1 << 32  # bytes of the tensors: a million embeddings of 1024 numbers


@dataclass(frozen=True, kw_only=True)
class Bank:
    """Examples, and how images are compared with them.

    Args:
        examples: the examples, none twice.
        embeddings: by the id of an example, where the image itself was there. Shape of each: (width,).
        ordinary: embeddings of images that are like no example, by which it is measured what is; None where only hashes
            are compared. Shape: (N, width).
        budget: the share of ordinary images that may be like an example.
        model, revision: whose embeddings they are; empty where there are only hashes.

    Example:
        ```python
        bank = Bank(examples=[Example(kind="block", reason="reported", pdq="f8" * 32)])
        bank.save("bank")
        guard = Guard.from_pretrained("demo-shapes", bank="bank")
        ```
    """

    examples: tuple[Example, ...] = ()
    embeddings: Mapping[str, Tensor] = field(default_factory=dict, compare=False)
    ordinary: Tensor | None = field(default=None, compare=False)
    budget: float = BUDGET
    model: str = ""
    revision: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "examples", tuple(self.examples))
        ids = {example.id for example in self.examples}
        if len(ids) < len(self.examples):
            raise ConfigError("a bank holds an example twice: add each image once with each kind")
        check_budget(self.budget)
        if set(self.embeddings) - ids:
            raise ConfigError("a bank has an embedding of no example: build it again")
        if self.ordinary is not None:  # as it is kept in the file
            object.__setattr__(self, "ordinary", self.ordinary.half())
        vectors = [*self.embeddings.values(), *([] if self.ordinary is None else self.ordinary)]
        if vectors and not self.model:
            raise ConfigError("a bank with embeddings needs the name of their model: pass model=")
        if any(one.ndim != 1 or not len(one) for one in vectors) or len({len(one) for one in vectors}) > 1:
            raise ConfigError("the embeddings of a bank have different widths: build it with one model")
        # One that is not would be like nothing, or would make a radius that nothing reaches.
        if not all(bool(torch.isfinite(one).all()) for one in vectors):
            raise ConfigError("an embedding of a bank is not finite in float16: build it with another model or images")

    @property
    def of_model(self) -> str:
        """What of it is one model's, and can be compared with nothing else: "embeddings", "scores", or nothing."""
        scores = any(example.ceiling for example in self.examples)
        return "embeddings" if self.width else "scores" if scores else ""

    @property
    def width(self) -> int:
        """The numbers of an embedding; 0 where there is none."""
        first = next(iter(self.embeddings.values()), None) if self.ordinary is None else self.ordinary[0]
        return 0 if first is None else len(first)

    def with_examples(self, examples: Iterable[Example], embeddings: Mapping[str, Tensor]) -> Bank:
        """Return the bank with these examples too; one that is there already is replaced."""
        added = {example.id: example for example in examples}
        kept = [example for example in self.examples if example.id not in added]
        vectors = {id: one for id, one in self.embeddings.items() if id not in added}
        return replace(self, examples=(*kept, *added.values()), embeddings={**vectors, **embeddings})

    def without(self, ids: Iterable[str]) -> Bank:
        """Return the bank without these examples.

        Raises:
            ConfigError: there is no such example.
        """
        gone = set(ids)
        if unknown := gone - {example.id for example in self.examples}:
            raise ConfigError(f"the bank has no example {min(unknown)!r}: see `nsfw-guard bank list`")
        return replace(
            self,
            examples=tuple(example for example in self.examples if example.id not in gone),
            embeddings={id: one for id, one in self.embeddings.items() if id not in gone},
        )

    def describe(self, today: datetime.date) -> str:
        """Return how many examples of each kind count, and a mark that changes with the bank."""
        counted = [example for example in self.examples if not example.expired(today)]
        kinds = [f"{sum(example.kind == kind for example in counted)} {kind}" for kind in ("block", "allow")]
        expired = len(self.examples) - len(counted)
        return ", ".join([*kinds, *([f"{expired} expired"] if expired else []), self.mark])

    @property
    def mark(self) -> str:
        """The start of a hash of all that decides."""
        return hashlib.sha256(self._encoded()[0]).hexdigest()[:12]

    def save(self, folder: str | Path) -> None:
        """Write the bank into a folder; whoever reads it meanwhile gets the earlier one."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        head, tensors = self._encoded()
        name = json.loads(head)["tensors"]
        if name:
            put(folder / name, tensors)
        put(folder / HEAD, head)
        for left in folder.glob("tensors-*.safetensors"):
            if left.name != name:
                left.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: str | Path) -> Bank:
        """Read a folder that `save` wrote.

        Raises:
            ConfigError: it holds no bank, or a damaged one.
        """
        for _ in range(_TRIES):
            try:
                return cls._load(Path(folder))
            except FileNotFoundError as error:  # a bank that was saved between both reads has other tensors
                missing = error
        raise ConfigError(f"{missing.filename} is missing: build the bank again") from missing

    @classmethod
    def _load(cls, folder: Path) -> Bank:
        content = read_json(folder / HEAD, most=MAX_BYTES)
        try:
            if content["schema"] != SCHEMA:
                raise ConfigError(f"the bank in {folder.name!r} was written by another version: build it again")
            examples = tuple(map(Example.from_dict, content["examples"]))
            tensors = _read_tensors(folder, str(content["tensors"]), str(content["sha256"]))
            embedded = [str(id) for id in content["embedded"]]
            vectors = tensors.get("embeddings", torch.zeros(0, 0))
            if len(vectors) != len(embedded) or vectors.ndim != 2:
                raise ValueError("another number of embeddings")
            return cls(
                examples=examples,
                embeddings=dict(zip(embedded, vectors, strict=True)),
                ordinary=tensors.get("ordinary"),
                budget=float(content["budget"]),
                model=str(content["model"]),
                revision=str(content["revision"]),
            )
        except FileNotFoundError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, OSError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"the bank in {folder.name!r} is damaged ({error}): build it again") from error

    def _encoded(self) -> tuple[bytes, bytes]:
        """The two files: the examples, and the tensors, whose name is their hash."""
        from safetensors.torch import save

        embedded = [example.id for example in self.examples if example.id in self.embeddings]
        tensors = {"embeddings": torch.stack([self.embeddings[id].float() for id in embedded])} if embedded else {}
        if self.ordinary is not None:
            tensors["ordinary"] = self.ordinary.contiguous()
        data = save(tensors) if tensors else b""
        digest = hashlib.sha256(data).hexdigest() if data else ""
        content = {
            "schema": SCHEMA, "budget": self.budget, "model": self.model, "revision": self.revision,
            "embedded": embedded, "sha256": digest, "tensors": f"tensors-{digest[:16]}.safetensors" if data else "",
            "examples": [example.to_dict() for example in self.examples],
        }  # fmt: skip
        return json.dumps(content, indent=1, sort_keys=True).encode(), data


def _read_tensors(folder: Path, name: str, sha256: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not name:
        return {}
    if Path(name).name != name:
        raise ConfigError(f"the bank in {folder.name!r} names a file elsewhere: build it again")
    status = (folder / name).stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_TENSORS:  # reading a pipe may wait for ever
        raise ConfigError(f"{name} in {folder.name!r} is no file of up to {MAX_TENSORS >> 30} GB: build the bank again")
    data = (folder / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ConfigError(f"{name} in {folder.name!r} is damaged, its hash is another: build the bank again")
    try:
        tensors: dict[str, Tensor] = load(data)
    except SafetensorError as error:
        raise ConfigError(f"{name} in {folder.name!r} is damaged: build the bank again") from error
    return tensors
