"""The texts in a request to ComfyUI from which images are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMES = ("text", "prompt", "clip_l", "clip_g", "t5xxl", "positive", "tags", "caption", "lyrics", "string", "value")
ENCODERS = ("textencode", "prompt")
NEGATIVE = "negative"


def texts(graph: Any) -> list[str]:
    """Texts that a node is given in the request itself, except those that are only wired to a negative input.

    What a node makes up, or reads from a file, is not in the request and is not seen.

    Args:
        graph: {node id: {"class_type": ..., "inputs": {...}}}
    """
    wires: dict[str, list[tuple[str, str]]] = {}
    for key, node in graph.items():
        for name, value in _inputs(node).items():
            if isinstance(value, list) and value:
                wires.setdefault(str(value[0]), []).append((str(key), str(name)))
    return [
        value
        for key, node in graph.items()
        if not _only_negative(str(key), wires, frozenset())
        for name, value in _inputs(node).items()
        if isinstance(value, str) and value and NEGATIVE not in str(name) and _makes_images(node, str(name))
    ]


def _only_negative(key: str, wires: Mapping[str, list[tuple[str, str]]], above: frozenset[str]) -> bool:
    """Whether all that a node gives ends in negative inputs."""
    if key in above or not wires.get(key):
        return False
    return all(NEGATIVE in name or _only_negative(to, wires, above | {key}) for to, name in wires[key])


def _inputs(node: Any) -> Mapping[str, Any]:
    inputs: Mapping[str, Any] = node.get("inputs") or {}
    return inputs


def _makes_images(node: Any, name: str) -> bool:
    kind = str(node.get("class_type", "")).lower()
    return any(word in kind for word in ENCODERS) or any(word in name.lower() for word in NAMES)
