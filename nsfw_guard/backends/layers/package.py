"""Reads a network as TensorFlow.js publishes it: a topology, and shards of weights, often quantised to bytes.

The files are those of a bundled package: `model.min.js` with the topology and the list of weights as an object literal,
and `<shard>.min.js` with a string, the base64 text of the shard. Nothing in them is run.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nsfw_guard.backends.files.inside import no_links_out, short
from nsfw_guard.backends.layers.literal import MAX_CHARS, read_literal
from nsfw_guard.errors import WeightsMissingError, WeightsUnfitError

MODEL, ENDING = "model.min.js", ".min.js"
MAX_SHARDS = 64  # of all groups together, each read once
MAX_TENSORS = 10_000
MAX_SIDES = 6
MAX_NUMBERS = 1 << 26  # numbers of all tensors; the largest published network has 22 million
SHARD = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
STORED = {"uint8": "<u1", "uint16": "<u2", "float16": "<f2", "float32": "<f4"}


@dataclass(frozen=True)
class Package:
    """A network as its files describe it.

    Args:
        topology: the layers or nodes, not yet checked.
        tensors: its weights by the names of the manifest, in float32 and in the layout of TensorFlow.
    """

    topology: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class _Entry:
    """One tensor of the manifest: where its numbers are and how they are stored."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    low: float

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Its bytes in the shards."""
        return self.numbers * np.dtype(STORED[self.dtype]).itemsize


def read_package(source: Path | Mapping[str, bytes], hashes: Mapping[str, str] | None = None) -> Package:
    """Read the files of one network.

    Args:
        source: the folder with model.min.js and the shards, or their bytes by name.
        hashes: the SHA-256 of each file by name, where they are known: then no other file is read.

    Raises:
        WeightsMissingError: a file is missing.
        WeightsUnfitError: a file is not what the format says.
    """
    if isinstance(source, Path):
        no_links_out(source)
    files = _Files(source, hashes or {})
    model = read_literal(files.read(MODEL), MODEL)
    topology = model.get("modelTopology") if isinstance(model, dict) else None
    if not isinstance(topology, dict):
        raise WeightsUnfitError(f"{MODEL} has no object 'modelTopology': pass the files of one network")
    groups = model.get("weightsManifest")
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise WeightsUnfitError(f"{MODEL} has no list 'weightsManifest': pass the files of one network")
    tensors: dict[str, Tensor] = {}
    shards = [_shards(group.get("paths")) for group in groups]
    _shards([name for names in shards for name in names])
    for group, names in zip(groups, shards, strict=True):
        entries = _entries(group.get("weights"))
        _check(entries, tensors)
        tensors |= _decoded(entries, _joined(files, names, sum(entry.size for entry in entries)))
    return Package(topology, tensors)


@dataclass(frozen=True)
class _Files:
    """The files of a package, with their hashes where they are known."""

    source: Path | Mapping[str, bytes]
    hashes: Mapping[str, str]

    def read(self, name: str) -> bytes:
        """Return the bytes of a file, of limited size, after checking its hash."""
        data = self._bytes(name)
        if self.hashes and hashlib.sha256(data).hexdigest() != self.hashes.get(name):
            raise WeightsUnfitError(f"{name} does not have the SHA-256 of the record: fetch the package again")
        return data

    def _bytes(self, name: str) -> bytes:
        if not isinstance(self.source, Path):
            if name not in self.source:
                raise WeightsMissingError(f"{name} is missing among the given files: pass {MODEL} and every shard")
            return bytes(self.source[name])
        path = self.source / name
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe may wait, reading a device may never end
                raise WeightsUnfitError(f"{name} is not a regular file: put a copy of the file there")
            with path.open("rb") as file:
                return file.read(MAX_CHARS + 1)
        except OSError as error:
            raise WeightsMissingError(
                f"{name} cannot be read in {self.source.name!r} ({error.strerror}): unpack the package again"
            ) from error


def _joined(files: _Files, names: list[str], wanted: int) -> bytes:
    """The bytes of all shards of a group, no more than are wanted."""
    data = bytearray()
    for name in names:
        data += _shard(files.read(name + ENDING), name + ENDING)
        if len(data) > wanted:
            break
    if len(data) != wanted:
        raise WeightsUnfitError(
            f"the shards hold {'more' if len(data) > wanted else 'fewer'} bytes than the {wanted} that their tensors "
            f"need: fetch {MODEL} and the shards again"
        )
    return bytes(data)


def _shard(data: bytes, name: str) -> bytes:
    """The bytes of a shard, from the base64 text in its file."""
    text = read_literal(data, name)
    try:
        if isinstance(text, str):
            return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise WeightsUnfitError(f"{name} is not base64 ({error}): fetch it again") from error
    raise WeightsUnfitError(f"{name} must hold one string of base64, got {type(text).__name__}: fetch it again")


def _shards(paths: object) -> list[str]:
    if isinstance(paths, list) and len(paths) <= MAX_SHARDS:
        names = [path for path in paths if isinstance(path, str) and SHARD.fullmatch(path)]
        if len(names) == len(paths) == len(set(names)):
            return names
    raise WeightsUnfitError(
        f"the shards in {MODEL} must be at most {MAX_SHARDS} plain names such as 'group1-shard1of1', each once, got "
        f"{short(paths)}: fetch it again"
    )


def _entries(weights: object) -> list[_Entry]:
    if not isinstance(weights, list) or not all(isinstance(entry, dict) for entry in weights):
        raise WeightsUnfitError(f"the weights in {MODEL} must be a list of objects, got {short(weights)}")
    return [_entry(entry) for entry in weights]


def _entry(entry: Mapping[str, Any]) -> _Entry:
    name, shape, quantised = entry.get("name"), entry.get("shape"), entry.get("quantization", {})
    if not isinstance(name, str) or not 0 < len(name) <= 400:
        raise WeightsUnfitError(f"a tensor in {MODEL} has the name {short(name)}: expected 1 to 400 letters")
    sides = isinstance(shape, list) and all(type(side) is int and 0 < side <= MAX_NUMBERS for side in shape)
    if not isinstance(shape, list) or not sides or len(shape) > MAX_SIDES:
        raise WeightsUnfitError(
            f"the shape of {short(name)} must be at most {MAX_SIDES} positive whole numbers, got {short(shape)}: "
            "fetch it again"
        )
    if entry.get("dtype") != "float32" or not isinstance(quantised, dict):
        raise WeightsUnfitError(f"{short(name)} must be float32, got {short(entry.get('dtype'))}: convert the model")
    dtype = quantised.get("dtype", "") if "quantization" in entry else "float32"
    if not isinstance(dtype, str) or dtype not in STORED or (quantised and dtype == "float32"):
        raise WeightsUnfitError(
            f"{short(name)} is quantised to {short(dtype)}: only uint8, uint16 and float16 can be read"
        )
    whole = dtype.startswith("uint")
    scale, low = (_number(quantised.get(key), key, name) if whole else 0.0 for key in ("scale", "min"))
    return _Entry(name, tuple(shape), dtype, scale, low)


def _number(value: object, key: str, name: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e30:
        return float(value)
    raise WeightsUnfitError(f"the {key} of {short(name)} must be a finite number, got {short(value)}: fetch it again")


def _check(entries: list[_Entry], known: Mapping[str, Tensor]) -> None:
    """Raise an error when a name comes twice, or there are too many numbers, before any is read."""
    names = [entry.name for entry in entries]
    twice = len(set(names)) < len(names) or any(name in known for name in names)
    if twice or len(names) + len(known) > MAX_TENSORS:
        raise WeightsUnfitError(f"{MODEL} names a tensor twice, or more than {MAX_TENSORS}: fetch it again")
    numbers = sum(entry.numbers for entry in entries) + sum(tensor.numel() for tensor in known.values())
    if numbers > MAX_NUMBERS:
        raise WeightsUnfitError(f"{MODEL} describes {numbers} numbers, more than {MAX_NUMBERS}: fetch it again")


def _decoded(entries: list[_Entry], data: bytes) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a group with their names, from bytes of exactly their size."""
    start = 0
    for entry in entries:
        yield entry.name, _tensor(entry, data[start : start + entry.size])
        start += entry.size


def _tensor(entry: _Entry, data: bytes) -> Tensor:
    """One tensor; like TensorFlow.js it multiplies and adds in double precision, and rounds once."""
    stored: npt.NDArray[Any] = np.frombuffer(data, STORED[entry.dtype])
    if entry.dtype.startswith("uint"):
        stored = stored.astype(np.float64) * entry.scale + entry.low
    values = torch.from_numpy(stored.astype(np.float32).reshape(entry.shape))
    if not bool(torch.isfinite(values).all()):
        raise WeightsUnfitError(f"{short(entry.name)} has a number that is not finite: fetch the shards again")
    return values
