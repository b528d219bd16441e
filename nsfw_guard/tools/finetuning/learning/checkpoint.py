"""All that a run needs to go on, in one file that appears whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nsfw_guard.backends.files.cache import put
from nsfw_guard.errors import ConfigError

STATE = "state.safetensors"


def save(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON-ready facts in place of the checkpoint before."""
    from safetensors.torch import save as to_bytes

    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    put(folder / STATE, to_bytes(copies, metadata={"facts": json.dumps(dict(facts))}))


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the tensors and facts of the checkpoint; None where there is none.

    Raises:
        ConfigError: it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / STATE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118  (no mapping)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"the checkpoint {path} cannot be read ({error}): delete its folder, and begin anew"
        ) from error


def flatten(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimizer as named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{at}.{key}": torch.as_tensor(value) for at, one in state.items() for key, value in one.items()}


def restore(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back the state that `flatten` has returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        at, _, key = name.partition(".")
        state.setdefault(int(at), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def part_of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
