"""Reads from the bytes of an .onnx file which other files it uses, and checks whether they may be opened."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

from nsfw_guard.backends.files.inside import MAX_NAME_CHARS, border_of, short
from nsfw_guard.backends.files.weights import sha256_of
from nsfw_guard.errors import WeightsMissingError, WeightsUnfitError

# ONNX's protobuf messages by field number, as far as they lead to tensors. The onnx package is not used, since
# running a model does not need it.
FIELDS: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
KEY, VALUE = 1, 2
VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5


def hashes_of(folder: Path, name: str, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the hashes of an .onnx file in a folder and of the files that it keeps weights in, by name.

    Raises:
        WeightsMissingError: a file does not exist.
        WeightsUnfitError: a file is outside the folder, differs from its record, or has no record.
    """
    hashes = {name: hash_of(folder, name, known)}
    for other in external(folder / name):
        hashes[other] = hash_of(folder, other, known)
    return hashes


def external(path: Path) -> tuple[str, ...]:
    """Return the names of the files in which an .onnx file keeps weights, sorted."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return tuple(sorted(set(_locations(data, 0, len(data), "model"))))
    except (ValueError, IndexError, RecursionError) as error:  # mmap refuses an empty file by a ValueError
        raise WeightsUnfitError(f"{path.name} is not a complete ONNX file: export it again") from error


def hash_of(folder: Path, name: str, known: Mapping[str, str] | None) -> str:
    """Return the hash of a file in a folder, which must be the recorded one where any are."""
    digest = sha256_of(_inside(folder, name))
    if known and known.get(name) != digest:
        problem = (
            f"does not have the recorded SHA-256 {known[name][:12]}..." if name in known else "is not in the record"
        )
        raise WeightsUnfitError(f"{name} {problem}: fetch or export the model again")
    return digest


def _inside(folder: Path, name: str) -> Path:
    """The path of that name, checked to be in the folder. Names are untrusted paths."""
    ways = PurePosixPath(name), PureWindowsPath(name)
    path = folder / name
    strange = not name or not name.isprintable() or any(way.anchor or ".." in way.parts for way in ways)
    strange = strange or any(len(part.encode()) > MAX_NAME_CHARS for part in ways[0].parts)
    if strange or not path.resolve().is_relative_to(border_of(folder)):
        raise WeightsUnfitError(
            f"the model in {folder.name!r} has weights outside its folder ({short(name)}): export it into one folder"
        )
    if not path.is_file():
        raise WeightsMissingError(f"{name} does not exist in {str(folder)!r}: export or download it first")
    return path


def _locations(data: mmap.mmap, start: int, end: int, kind: str) -> Iterator[str]:
    """The external files of the tensors below a message."""
    for number, low, high in _fields(data, start, end):
        inner = FIELDS[kind].get(number)
        if inner == "entry":
            entry = {n: data[a:b].decode("utf-8") for n, a, b in _fields(data, low, high)}
            if entry.get(KEY) == "location":
                yield entry.get(VALUE, "")
        elif inner is not None:
            yield from _locations(data, low, high, inner)


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields of a message that contain bytes: number, start and end."""
    for number, wire, low, high in every_field(data, start, end):
        if wire == BYTES:
            yield number, low, high


def every_field(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the fields of a message: number, wire type, start and end."""
    while at < end:
        tag, at = varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        start = at
        if wire == BYTES:
            length, start = varint(data, at, end)
            at = start + length
            if at > end:
                raise ValueError("a field is longer than its message")
        elif wire == VARINT:
            _, at = varint(data, at, end)
        elif wire in {EIGHT, FOUR}:
            at += 8 if wire == EIGHT else 4
        else:
            raise ValueError(f"wire type {wire}")
        yield number, wire, start, at


def varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """Return a number, and the position after it."""
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("a number without an end")
