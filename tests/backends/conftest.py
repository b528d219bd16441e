"""Exported copies of the tiny model, made once a session: several ways to lay out a model.onnx."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from tests.backends.folders import torch_model


class Both(torch.nn.Module):
    """Logits and embedding of a timm network."""

    def __init__(self, model: torch.nn.Module, *, embeds: bool) -> None:
        super().__init__()
        self.model, self.embeds = model, embeds

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = self.model.forward_head(self.model.forward_features(pixels), pre_logits=True)
        logits = self.model.get_classifier()(features)
        return (logits, features) if self.embeds else (logits,)


def export(model: torch.nn.Module, folder: Path, *, side: int = 32, dynamic: bool, **settings: object) -> None:
    """model.onnx in a folder."""
    embeds = getattr(model, "embeds", False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about its own parts
        torch.onnx.export(
            model, (torch.zeros(2 if dynamic else 1, 3, side, side),), str(folder / "model.onnx"), dynamo=True,
            verbose=False, input_names=["pixels"], output_names=["logits", "embedding"][: 1 + embeds],
            dynamic_shapes=({0: torch.export.Dim("n")},) if dynamic else None, **settings,
        )  # fmt: skip


@pytest.fixture(scope="session")
def exports(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Folders with config.json and model.onnx: any batch with an embedding, one at a time without, weights beside."""
    pytest.importorskip("onnx", reason="pip install onnx onnxscript: the exporter needs them")
    pytest.importorskip("onnxscript", reason="pip install onnx onnxscript: the exporter needs them")
    folders = {}
    for name, embeds, dynamic, beside in (
        ("any", True, True, False),
        ("one", False, False, False),
        ("beside", True, True, True),
    ):
        folders[name] = tmp_path_factory.mktemp("exports") / name
        folders[name].mkdir()
        shutil.copy(tiny / "config.json", folders[name])
        export(Both(torch_model(tiny), embeds=embeds), folders[name], dynamic=dynamic, external_data=beside)
    return folders
