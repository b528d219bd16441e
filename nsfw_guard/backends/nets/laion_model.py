"""LAION's head on CLIP: a small perceptron from the normalised embedding to one number."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.files import weights
from nsfw_guard.backends.nets.clip_vision import ClipVision, config_from, fit_vision
from nsfw_guard.backends.nets.network import Net, NetBackend
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import WeightsMissingError, WeightsUnfitError

HEAD = "head.safetensors"
MIN_STD = 1e-7  # Keras divides by at least this standard deviation


class LaionNet(Net):
    """CLIP with the head: Keras' normalisation, dense layers with ReLU between them, a sigmoid."""

    def __init__(self, vision: ClipVision, head: dict[str, Tensor]) -> None:
        super().__init__()
        self.vision = vision
        self.width = vision.width
        self.mean = nn.Parameter(head["mean"].float(), requires_grad=False)
        self.deviation = nn.Parameter(head["variance"].float().sqrt().clamp(min=MIN_STD), requires_grad=False)
        self.layers = nn.ModuleList(_layers(head))

    def forward_with_embedding(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the head's number before its sigmoid, and the embedding, normalised as the head expects it."""
        embedding = functional.normalize(self.vision(values))
        numbers = (embedding - self.mean) / self.deviation
        for i, layer in enumerate(self.layers):
            numbers = layer(torch.relu(numbers) if i else numbers)
        return numbers, embedding

    def forward(self, values: Tensor) -> Tensor:
        """Return the same numbers: the head has no other forward."""
        return self.forward_with_embedding(values)[0]

    def to_probabilities(self, numbers: Tensor) -> Tensor:
        """Return P(nsfw)."""
        return numbers.float().sigmoid()


def _layers(head: dict[str, Tensor]) -> list[nn.Linear]:
    layers: list[nn.Linear] = []
    while (weight := head.get(f"layers.{len(layers)}.weight")) is not None:
        wanted = layers[-1].out_features if layers else len(head["mean"])
        layer = nn.Linear(wanted, weight.shape[0])
        tensors = {
            name: head[key].float() for name in ("weight", "bias") if (key := f"layers.{len(layers)}.{name}") in head
        }
        weights.load_strict(layer, tensors, f"layer {len(layers)} of {HEAD}")
        layers.append(layer)
    if not layers or layers[-1].out_features != 1:
        raise WeightsUnfitError(f"the last layer of {HEAD} must return one number: convert all layers of the head")
    return layers


def load_files(spec: ModelSpec, folder: Path, options: Options) -> NetBackend:
    """Load CLIP and the head from one folder."""
    if not (folder / HEAD).is_file():
        raise WeightsMissingError(
            f"LAION publishes its head only as a Keras model: convert it once to {HEAD} (mean, variance, "
            f"layers.N.weight, layers.N.bias; see docs/models.md) beside {' and '.join(spec.files)} "
            f"of {spec.repo}, and call load_model({spec.name!r}, weights=folder)"
        )
    config = config_from(folder)
    weights.verify(folder / weights.WEIGHTS, spec.sha256)
    head = weights.read_weights(folder / HEAD)
    faults = [name for name in ("mean", "variance") if name not in head]
    if faults or head["mean"].shape != (config.get("projection_dim"),):
        raise WeightsUnfitError(
            f"{HEAD} does not fit CLIP of width {config.get('projection_dim')} ({faults or 'mean'}): convert it again"
        )
    vision = fit_vision(config, weights.read_weights(folder / weights.WEIGHTS, spec.sha256), spec.name)
    return NetBackend(LaionNet(vision, head), spec, options)
