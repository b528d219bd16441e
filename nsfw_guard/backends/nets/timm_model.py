"""Any timm network as a backend: one forward pass gives the scores and the embedding."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.files import weights
from nsfw_guard.backends.files.arguments import timm_arguments, timm_name
from nsfw_guard.backends.files.bounded import at_most, on_paper
from nsfw_guard.backends.files.folder import ARGMAX, check_against_record, config_of, input_of
from nsfw_guard.backends.files.header import numbers_in, shapes_of
from nsfw_guard.backends.files.labels import label_map
from nsfw_guard.backends.nets.network import Net, NetBackend, fill_head
from nsfw_guard.backends.spec import Label, ModelSpec
from nsfw_guard.errors import ConfigError, UnknownNameError, WeightsUnfitError, first_line

log = logging.getLogger(__name__)


class TimmNet(Net):
    """A timm network with one separate head."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model
        self.width = int(model.num_features)  # type: ignore[arg-type]

    def forward_with_embedding(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers of the head, and the features."""
        features: Tensor = self.model.forward_head(self.model.forward_features(values), pre_logits=True)
        return self.model.get_classifier()(features), features

    def forward(self, values: Tensor) -> Tensor:
        """Return the numbers of timm's own forward."""
        logits: Tensor = self.model(values)
        return logits

    def head(self) -> nn.Linear:
        """Return timm's classifier."""
        head = self.model.get_classifier()
        if not isinstance(head, nn.Linear):
            raise ConfigError(
                f"the last layer of this network is {type(head).__name__}, not linear: choose another model"
            )
        return head

    def with_head(self, names: Sequence[str], rows: Sequence[int | None]) -> TimmNet:
        """Return a copy with a head for other classes."""
        before = self.head()
        model: Any = copy.deepcopy(self.model)
        model.reset_classifier(len(names))
        net = TimmNet(model)
        fill_head(net.head(), before, rows)
        return net

    def save(self, folder: Path, spec: ModelSpec) -> None:
        """Write config.json and model.safetensors, as timm pushes them to the hub."""
        from safetensors.torch import save_file

        tensors = {k: v.detach().cpu().contiguous() for k, v in self.model.state_dict().items()}
        save_file(tensors, folder / weights.WEIGHTS, metadata={"format": "pt"})
        (folder / weights.CONFIG).write_text(json.dumps(config_of(spec, self.width), indent=2) + "\n")


def load_files(spec: ModelSpec, folder: Path, options: Options) -> NetBackend:
    """Load the model in a folder. Its record must fit the folder."""
    config = weights.read_config(folder)
    check_against_record(spec, folder)
    _known(spec.architecture)
    args = {**config["model_args"], **timm_arguments(spec.model_args, what=repr(spec.name))}
    path = weights.verify(folder / weights.WEIGHTS, spec.sha256)
    model = _create(spec.architecture, len(spec.labels), args, path)
    weights.load_strict(model, weights.read_weights(path), spec.architecture)
    return NetBackend(TimmNet(model), spec, options)


def load_architecture(
    architecture: str, file: str | Path | None, labels: Mapping[str, str | Label | None] | None, options: Options
) -> NetBackend:
    """Load a network by its timm name, with the given weights and labels."""
    if file is None or not labels:
        raise ConfigError(
            f"'timm:{architecture}' alone is an untrained network: pass weights='model.safetensors' and "
            "labels={'NSFW': 'sexual', 'SFW': None} in the order of its classes"
        )
    if options.runtime not in {None, "torch"}:
        raise ConfigError(f"runtime={options.runtime!r} needs a folder with model.onnx: pass that folder instead")
    _known(architecture)
    spec = ModelSpec(
        name=f"timm:{architecture}",
        kind="timm",
        architecture=architecture,
        labels=label_map(tuple(labels), labels),
        thresholds={"default": ARGMAX},
    )
    path = weights.verify(Path(file))
    model: Any = _create(architecture, len(labels), {}, path)
    weights.load_strict(model, weights.read_weights(path), architecture)
    spec = replace(spec, input=input_of(model.pretrained_cfg), sha256=weights.sha256_of(path))
    return NetBackend(TimmNet(model), spec, options)


def _known(architecture: str) -> None:
    """Raise an error when timm has no network of that name."""
    import timm

    name = timm_name(architecture).partition(".")[0]
    if not timm.is_model(name):
        raise UnknownNameError("timm architecture", name, timm.list_models())


def untrained(architecture: str, classes: int, args: Mapping[str, Any]) -> nn.Module:
    """Return a network with random weights."""
    _known(architecture)
    return _with_head_apart(_build(architecture, classes, args), architecture)


def _with_head_apart(model: nn.Module, architecture: str) -> nn.Module:
    """The network, whose head must be apart from its features."""
    if not hasattr(model, "forward_head"):
        raise ConfigError(f"{architecture} has no separate head in this release of timm: choose another network")
    return model


def _create(architecture: str, classes: int, args: Mapping[str, Any], path: Path) -> nn.Module:
    """The network, first built without memory and compared with the shapes in the file of weights.

    A network that reads its own numbers while it is built cannot be built without memory; its size is limited too.
    """
    shapes = shapes_of(path)
    numbers = numbers_in(shapes)
    try:
        with on_paper(numbers, architecture):
            drawn = _build(architecture, classes, args)
        weights.fit_shapes(drawn.state_dict(), shapes, architecture)
    except ConfigError as error:
        log.debug("%s cannot be compared with its weights before it is built: %s", architecture, error)
    with at_most(numbers, architecture):
        return _with_head_apart(_build(architecture, classes, args), architecture)


def _build(architecture: str, classes: int, args: Mapping[str, Any]) -> nn.Module:
    import timm

    try:
        model: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=classes, **args)
    except WeightsUnfitError:
        raise
    except Exception as error:  # networks raise errors of any type for unusable arguments
        raise ConfigError(
            f"timm cannot build {architecture} with {dict(args)} ({first_line(error)}): correct its model_args"
        ) from error
    return model
