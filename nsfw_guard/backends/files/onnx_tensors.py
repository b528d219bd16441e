"""Reads the constant tensors of an .onnx file and the nodes that use them, to run the same network in torch.

As in `onnx_file`, the onnx package is not needed. Only float32 tensors in the file itself are read.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nsfw_guard.backends.files.inside import short
from nsfw_guard.backends.files.onnx_file import BYTES, every_field, varint
from nsfw_guard.errors import WeightsUnfitError

GRAPH, NODE, INITIALISER = 7, 1, 5
INPUT, OPERATION = 1, 4
DIMS, DATA_TYPE, NAME, RAW = 1, 2, 8, 9
MAX_SIDES = 8
FLOAT32 = 1  # in ONNX's list of types


@dataclass(frozen=True)
class Node:
    """An operation of a graph, and the names of its inputs."""

    operation: str
    inputs: tuple[str, ...]


def read_graph(path: Path) -> tuple[list[Node], dict[str, Tensor]]:
    """Return the nodes of an .onnx file in their order, and its float32 constants by name.

    Raises:
        WeightsUnfitError: the file is not complete.
    """
    nodes: list[Node] = []
    tensors: dict[str, Tensor] = {}
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for start, end in _messages(data, 0, len(data), GRAPH):
                nodes += [_node(data, a, b) for a, b in _messages(data, start, end, NODE)]
                tensors |= dict(t for a, b in _messages(data, start, end, INITIALISER) if (t := _tensor(data, a, b)))
    except (ValueError, IndexError, OSError) as error:
        raise WeightsUnfitError(f"{path.name} is not a complete ONNX file ({error}): fetch it again") from error
    return nodes, tensors


def _messages(data: mmap.mmap, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    for number, wire, low, high in every_field(data, start, end):
        if (number, wire) == (wanted, BYTES):
            yield low, high


def _node(data: mmap.mmap, start: int, end: int) -> Node:
    texts = [(number, data[a:b].decode("utf-8")) for number, wire, a, b in every_field(data, start, end)
             if wire == BYTES and number in {INPUT, OPERATION}]  # fmt: skip
    operation = "".join(text for number, text in texts if number == OPERATION)
    return Node(operation, tuple(text for number, text in texts if number == INPUT))


def _tensor(data: mmap.mmap, start: int, end: int) -> tuple[str, Tensor] | None:
    """Name and numbers of a constant; None where it has another type."""
    shape: list[int] = []
    name, kind, raw = "", 0, b""
    for number, wire, low, high in every_field(data, start, end):
        if number == DIMS:  # one by one, or packed into one field
            at = low
            while at < high:
                side, at = varint(data, at, high)
                shape.append(side)
                if len(shape) > MAX_SIDES:  # the product of millions of numbers takes hours
                    raise ValueError(f"a tensor has more than {MAX_SIDES} sides")
        elif number == DATA_TYPE:
            kind, _ = varint(data, low, high)
        elif number == NAME and wire == BYTES:
            name = data[low:high].decode("utf-8")
        elif number == RAW and wire == BYTES:
            raw = data[low:high]
    if kind != FLOAT32:
        return None
    if len(raw) != 4 * math.prod(shape):
        raise ValueError(f"the tensor {short(name)} has {len(raw)} bytes, expected {4 * math.prod(shape)}")
    return name, torch.frombuffer(bytearray(raw), dtype=torch.float32).reshape(shape)
