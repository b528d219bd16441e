"""A network of TensorFlow.js as a backend, from a folder of ours (config.json and safetensors) or its own files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.files import weights
from nsfw_guard.backends.files.bounded import at_most, on_paper
from nsfw_guard.backends.files.folder import LAYERS_MODEL, check_against_record
from nsfw_guard.backends.files.header import Shape, numbers_in, shapes_of
from nsfw_guard.backends.layers import kept
from nsfw_guard.backends.layers.graph import read_graph
from nsfw_guard.backends.layers.keras import read_keras
from nsfw_guard.backends.layers.package import MODEL, read_package
from nsfw_guard.backends.layers.parts import Part, make
from nsfw_guard.backends.layers.topology import Layer, Plain, read_layers
from nsfw_guard.backends.nets.network import Net, NetBackend
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import WeightsUnfitError

MAX_ACTIVATIONS = 1 << 27  # numbers that all layers return for one image; the largest published network has 20 million
MAX_WORK = 1 << 37  # multiplications for one image; the largest published network needs 6 billion


class LayersNet(Net):
    """Layers in the order of their list. The softmax at their end is left to `to_probabilities`."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.plan = tuple(layers)
        parts: list[Part] = []
        for layer in self.plan:
            parts.append(make(layer, [parts[i].shape for i in layer.inputs]))
        self.layers = nn.ModuleList(parts)
        _limit(parts)
        (self.width,) = parts[self.plan[-2].inputs[0]].shape
        self.classes, self.side = parts[-1].shape[0], parts[0].shape[1]
        last_use = {i: number for number, layer in enumerate(self.plan) for i in layer.inputs}
        self._done = [[i for i in set(layer.inputs) if last_use[i] == n] for n, layer in enumerate(self.plan)]

    def forward_with_embedding(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers before the softmax, and what the last dense layer computes them from."""
        kept = {0: values}
        for number, layer in enumerate(self.plan[1:-2], start=1):
            kept[number] = self.layers[number](*(kept[i] for i in layer.inputs))
            for i in self._done[number]:
                del kept[i]
        embedding = kept[self.plan[-2].inputs[0]]
        return self.layers[-2](embedding), embedding

    def forward(self, values: Tensor) -> Tensor:
        """Return the same numbers: there is no other forward."""
        return self.forward_with_embedding(values)[0]

    def save(self, folder: Path, spec: ModelSpec) -> None:
        """Write the layers into config.json, and the weights into model.safetensors."""
        for name, data in contents(self, self.state_dict(), spec).items():
            (folder / name).write_bytes(data)


def load_files(spec: ModelSpec, folder: Path, options: Options) -> NetBackend:
    """Load the model in a folder: one that was saved here, or the unpacked files of TensorFlow.js.

    Where the record knows the hashes of the published files, these count: a config.json beside them changes nothing.
    """
    if (folder / MODEL).is_file() and (spec.hashes or not (folder / weights.CONFIG).exists()):
        return load_package(spec, folder, options)
    config = weights.read_config(folder)
    check_against_record(spec, folder)
    layers = read_layers(config.get("layers"))
    path = weights.verify(folder / weights.WEIGHTS, spec.sha256)
    # Compared with the header before any memory is taken.
    _fitting(layers, shapes_of(path), spec)
    return NetBackend(_network(layers, weights.read_weights(path), spec), spec, options)


def load_package(spec: ModelSpec, source: Path | Mapping[str, bytes], options: Options) -> NetBackend:
    """Load a network from a package's files, a folder or bytes by name. In the cache it is kept in our layout."""
    before = kept.read(spec, source)
    layers, tensors = before or convert(spec, source)
    _fitting(layers, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, spec)
    net = _network(layers, tensors, spec)
    backend = NetBackend(net, spec, options)
    if before is None:
        # The tensors as they were read: those of the network may be in another dtype by now.
        kept.write(spec, source, lambda: contents(net, tensors, spec))
    return backend


def convert(spec: ModelSpec, source: Path | Mapping[str, bytes]) -> Plain:
    """Return the layers and weights in a package's files, whose hashes are checked where the record knows them."""
    package = read_package(source, spec.hashes)
    read = read_graph if "node" in package.topology else read_keras
    return read(package.topology, package.tensors)


def contents(net: LayersNet, tensors: Mapping[str, Tensor], spec: ModelSpec) -> dict[str, bytes]:
    """Return config.json and model.safetensors of a network with these weights, by name."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    config = json.dumps(_config(net, spec), indent=1) + "\n"
    return {weights.CONFIG: config.encode(), weights.WEIGHTS: save(plain, metadata={"format": "pt"})}


def _fitting(layers: Sequence[Layer], shapes: Mapping[str, Shape], spec: ModelSpec) -> None:
    """Raise an error when the weights are not those of the layers, or the record is another model's."""
    with on_paper(numbers_in(shapes), spec.name):
        net = LayersNet(layers)
    weights.fit_shapes(net.state_dict(), shapes, spec.name)
    wanted = len(spec.labels), spec.net_input.size
    if (net.classes, net.side) != wanted:
        raise WeightsUnfitError(
            f"the record of {spec.name!r} has {wanted[0]} labels and an input of {wanted[1]} pixels, but the network "
            f"has {net.classes} and {net.side}: use the record of this network"
        )


def _network(layers: Sequence[Layer], tensors: dict[str, Tensor], spec: ModelSpec) -> LayersNet:
    with at_most(numbers_in({name: tuple(tensor.shape) for name, tensor in tensors.items()}), spec.name):
        net = LayersNet(layers)
    weights.load_strict(net, tensors, spec.name)
    return net


def _limit(parts: Sequence[Part]) -> None:
    """Raise an error when the layers need absurd memory or work."""
    numbers, work = sum(math.prod(part.shape) for part in parts), sum(part.work for part in parts)
    if numbers > MAX_ACTIVATIONS or work > MAX_WORK:
        raise WeightsUnfitError(
            f"the layers return {numbers} numbers and need {work} multiplications for one image, more than "
            f"{MAX_ACTIVATIONS} and {MAX_WORK}: use a smaller network"
        )


def _config(net: LayersNet, spec: ModelSpec) -> dict[str, Any]:
    shown = spec.net_input
    return {
        "model_type": LAYERS_MODEL, "label_names": list(spec.labels), "num_features": net.width,
        "input_size": [3, shown.size, shown.size], "interpolation": shown.interpolation, "crop_pct": shown.crop_pct,
        "crop_mode": shown.crop_mode, "mean": list(shown.mean), "std": list(shown.std),
        "layers": [layer.as_json() for layer in net.plan],
    }  # fmt: skip
