"""Changes of a model's folder, to see what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file


def edit_config(folder: Path, **changes: Any) -> None:
    """Other values in config.json; None takes one out."""
    config = {**json.loads((folder / "config.json").read_text()), **changes}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def edit_weights(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], object], name: str = "model.safetensors"
) -> None:
    """The tensors of a file, changed in place."""
    tensors = load_file(folder / name)
    change(tensors)
    save_file(tensors, folder / name, metadata={"format": "pt"})


def torch_model(folder: Path) -> torch.nn.Module:
    """The network of a folder, by timm alone."""
    config = json.loads((folder / "config.json").read_text())
    model = timm.create_model(config["architecture"], num_classes=config["num_classes"], **config["model_args"])
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()
