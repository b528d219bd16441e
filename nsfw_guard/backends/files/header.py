"""The header of a .safetensors file, read before any library opens the file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nsfw_guard.errors import WeightsUnfitError
from nsfw_guard.jsonfile import parse_json

MAX_HEADER_BYTES = 16 << 20  # bytes of a header: one of ten thousand tensors has 1 MB
MAX_TENSOR_NUMBERS = 1 << 40  # numbers in a tensor
PREFIX = "timm_model."  # how transformers wraps timm's networks

Shape = tuple[int, ...]


def shapes_of(path: Path) -> Mapping[str, Shape]:
    """Return the shape of each tensor in a .safetensors file, by name, without the prefix of a wrapper.

    Raises:
        WeightsUnfitError: the header is too long or invalid.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= path.stat().st_size - 8:
                raise WeightsUnfitError(
                    f"{path.name} is not a complete safetensors file (header of {length} bytes): fetch it again"
                )
            if length > MAX_HEADER_BYTES:
                raise WeightsUnfitError(
                    f"the header of {path.name} has {length >> 20} MB, more than {MAX_HEADER_BYTES >> 20} MB: save it "
                    "again"
                )
            data = file.read(length)
    except OSError as error:
        raise WeightsUnfitError(f"{path.name} cannot be read ({error.strerror}): fetch it again") from error
    where = f"{path.name} is not a complete safetensors file: its header"
    entries = parse_json(data, where, error=WeightsUnfitError)
    shapes = {name: _shape(name, entry, path) for name, entry in entries.items() if name != "__metadata__"}
    return bare(shapes)


def numbers_in(shapes: Mapping[str, Shape]) -> int:
    """Return the total of numbers in tensors of these shapes."""
    return sum(math.prod(shape) for shape in shapes.values())


def bare(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tensors by the names of the network itself, without the prefix of a wrapper."""
    if tensors and all(name.startswith(PREFIX) for name in tensors):
        return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    return dict(tensors)


def _shape(name: str, entry: object, path: Path) -> Shape:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    sides = isinstance(shape, list) and all(type(side) is int and 0 <= side <= MAX_TENSOR_NUMBERS for side in shape)
    if not isinstance(shape, list) or not sides or math.prod(shape) > MAX_TENSOR_NUMBERS:
        raise WeightsUnfitError(
            f"{path.name} is not a complete safetensors file ({name[:80]!r} has no valid shape): fetch it again"
        )
    return tuple(shape)
