"""Any timm network as a backend: one forward pass gives the scores and the embedding."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nsfw_guard.backends import weights
from nsfw_guard.backends.base import Label, ModelSpec, Options
from nsfw_guard.backends.folder import ARGMAX, agree, config_of, input_of, label_map
from nsfw_guard.backends.network import Net, NetBackend
from nsfw_guard.errors import ConfigError, UnknownNameError


class TimmNet(Net):
    """A timm network with a head of its own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model
        self.width = int(model.num_features)  # type: ignore[arg-type]

    def split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Features, then the head."""
        features: Tensor = self.model.forward_head(self.model.forward_features(values), pre_logits=True)
        return self.model.get_classifier()(features), features

    def whole(self, values: Tensor) -> Tensor:
        """timm's own forward."""
        logits: Tensor = self.model(values)
        return logits

    def save(self, folder: Path, spec: ModelSpec) -> None:
        """config.json and model.safetensors, as timm pushes them to the hub."""
        from safetensors.torch import save_file

        tensors = {k: v.detach().cpu().contiguous() for k, v in self.model.state_dict().items()}
        save_file(tensors, folder / weights.WEIGHTS, metadata={"format": "pt"})
        (folder / weights.CONFIG).write_text(json.dumps(config_of(spec, self.width), indent=2) + "\n")


def load_files(spec: ModelSpec, folder: Path, options: Options) -> NetBackend:
    """The model whose files are in a folder. What the record says must be what the folder says."""
    config = weights.read_config(folder)
    agree(spec, folder)
    args = {**(config.get("model_args") or {}), **spec.model_args}
    if "global_pool" in config:
        args["global_pool"] = config["global_pool"]
    model = _create(spec.architecture, len(spec.labels), args)
    weights.fit(model, weights.read_weights(folder / weights.WEIGHTS, spec.sha256), spec.architecture)
    return NetBackend(TimmNet(model), spec, options)


def load_architecture(
    architecture: str, file: str | Path | None, labels: Mapping[str, str | Label | None] | None, options: Options
) -> NetBackend:
    """A network by its name in timm, with weights and labels of one's own."""
    if file is None or not labels:
        raise ConfigError(
            f"'timm:{architecture}' alone is an untrained network: add weights='model.safetensors' and "
            "labels={'NSFW': 'sexual', 'SFW': None} in the order of its classes"
        )
    if options.runtime not in {None, "torch"}:
        raise ConfigError(
            f"runtime={options.runtime!r} is for a folder that holds model.onnx: give that folder instead"
        )
    model = _create(architecture, len(labels), {})
    spec = ModelSpec(
        name=f"timm:{architecture}",
        architecture=architecture,
        input=input_of(model.pretrained_cfg),  # type: ignore[arg-type]
        labels=label_map(tuple(labels), labels),
        cuts={"default": ARGMAX},
    )
    weights.fit(model, weights.read_weights(Path(file)), architecture)
    return NetBackend(TimmNet(model), replace(spec, sha256=weights.sha256_of(Path(file))), options)


def _create(architecture: str, classes: int, args: Mapping[str, Any]) -> nn.Module:
    import timm

    name = architecture.partition(".")[0]
    if not timm.is_model(name):
        raise UnknownNameError("timm architecture", name, timm.list_models())
    model: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=classes, **args)
    if not hasattr(model, "forward_head"):
        raise ConfigError(f"{architecture} has no separate head in timm {timm.__version__}: choose another network")
    return model
