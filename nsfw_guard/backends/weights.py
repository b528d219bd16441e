"""Where weights are, and whether they are the right ones. safetensors only; nothing is unpickled, no code is run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nsfw_guard.backends.base import ModelSpec, is_commit
from nsfw_guard.errors import ModelError, WeightsMissingError, WeightsUnfitError

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def cached(spec: ModelSpec) -> Path | None:
    """The folder of a model in the hub's cache at its pinned commit, or None. Never asks the network."""
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(spec.repo, name, revision=spec.revision or "main") for name in (CONFIG, WEIGHTS)]
    return Path(found[0]).parent if all(isinstance(f, str) for f in found) else None


def fetch(spec: ModelSpec, progress: Callable[[str], None] = lambda _: None) -> Path:
    """The folder of a model, downloaded when it is not in the cache.

    Raises:
        WeightsMissingError: there is no network, or the repository cannot be reached.
    """
    if not spec.repo:
        raise ModelError(f"{spec.name!r} has no repository to fetch from: give its folder instead")
    here = cached(spec) if is_commit(spec.revision) else None
    if here is not None:
        return here
    from huggingface_hub import hf_hub_download

    path = ""
    for name in (CONFIG, WEIGHTS):
        progress(name)
        try:
            path = hf_hub_download(spec.repo, name, revision=spec.revision or None)
        except Exception as error:
            # The hub raises a dozen kinds (offline, not found, gated, connection ...), which differ by release.
            raise WeightsMissingError(_no_weights(spec, error)) from error
    return Path(path).parent


def _no_weights(spec: ModelSpec, error: Exception) -> str:
    ref = spec.name if not spec.name.startswith("hf:") else f"'{spec.name}'"
    first = (str(error).strip().splitlines() or [""])[0]
    return (
        f"the weights of {spec.name!r} are not in the cache and could not be fetched ({type(error).__name__}: "
        f"{first[:160]}). Run `nsfw-guard fetch {ref}` where there is a network (and unset HF_HUB_OFFLINE), or give a "
        f"folder that holds {CONFIG} and {WEIGHTS} of {spec.repo}"
    )


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder."""
    path = folder / CONFIG
    if not path.is_file():
        raise WeightsMissingError(f"{folder.name!r} has no {CONFIG}: give a folder that holds {CONFIG} and {WEIGHTS}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsUnfitError(f"{CONFIG} in {folder.name!r} is not JSON: {error}") from error
    if not isinstance(config, dict) or "architecture" not in config:
        raise WeightsUnfitError(f"{CONFIG} in {folder.name!r} names no 'architecture': it is not in timm's layout")
    return config


def sha256_of(path: Path) -> str:
    """The hash of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def read_weights(path: Path, sha256: str = "") -> dict[str, Tensor]:
    """The tensors of a .safetensors file, after its hash was checked where one is known."""
    if path.suffix != ".safetensors":
        raise WeightsUnfitError(f"{path.name!r} is not a .safetensors file: convert it, nothing else is opened here")
    if not path.is_file():
        raise WeightsMissingError(f"there is no {path.name} in {str(path.parent)!r}: download or export it first")
    if sha256 and sha256_of(path) != sha256:
        raise WeightsUnfitError(f"{path.name} does not have the recorded SHA-256 {sha256[:12]}...: fetch it again")
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except Exception as error:
        # safetensors raises its own class, which moved between releases, and OSError for a truncated file.
        raise WeightsUnfitError(f"{path.name} is not a whole safetensors file: {error}. Fetch it again") from error
    prefix = "timm_model."
    if tensors and all(key.startswith(prefix) for key in tensors):
        return {key[len(prefix) :]: tensor for key, tensor in tensors.items()}
    return tensors


def fit(model: torch.nn.Module, tensors: dict[str, Tensor], what: str) -> None:
    """Loads the tensors into the model: every key, every shape, nothing left over."""
    own = model.state_dict()
    faults = [f"missing {key}" for key in own if key not in tensors]
    faults += [f"unexpected {key}" for key in tensors if key not in own]
    faults += [
        f"{key} is {tuple(tensors[key].shape)}, not {tuple(own[key].shape)}"
        for key in own
        if key in tensors and tensors[key].shape != own[key].shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise WeightsUnfitError(f"the weights do not fit {what}: {'; '.join(faults[:3])}{more}")
    model.load_state_dict(tensors, strict=True)
