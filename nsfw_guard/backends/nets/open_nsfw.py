"""Yahoo's OpenNSFW, a thin ResNet-50: the published ONNX file in ONNX Runtime, or its numbers in the same network here.

Torch is the default, since it runs where the image is, in any dtype, and returns embeddings.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.files.onnx_file import hashes_of
from nsfw_guard.backends.files.onnx_tensors import read_graph
from nsfw_guard.backends.files.weights import load_strict
from nsfw_guard.backends.nets.exported import FLOAT, fits
from nsfw_guard.backends.nets.network import Net, NetBackend
from nsfw_guard.backends.nets.onnx_model import OnnxRunner
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import ConfigError, ScoringError, WeightsMissingError, WeightsUnfitError

WIDTH = 1024
STAGES = ((32, 128, 3, 1), (64, 256, 4, 2), (128, 512, 6, 2), (256, WIDTH, 3, 2))  # inside, out, blocks, stride


class Block(nn.Module):
    """Three convolutions beside a shortcut. Batch norms are part of the convolutions in the published file."""

    def __init__(self, width: int, inside: int, out: int, stride: int) -> None:
        super().__init__()
        # In the order of the file. As in Caffe's ResNets, the first convolution has the stride, not the middle one.
        self.shortcut = nn.Conv2d(width, out, 1, stride) if width != out else None
        self.reduce = nn.Conv2d(width, inside, 1, stride)
        self.middle = nn.Conv2d(inside, inside, 3, padding=1)
        self.expand = nn.Conv2d(inside, out, 1)

    def forward(self, values: Tensor) -> Tensor:
        """Return the block's features."""
        changed: Tensor = self.expand(self.middle(self.reduce(values).relu_()).relu_())
        beside: Tensor = values if self.shortcut is None else self.shortcut(values)
        return (changed + beside).relu_()


class ThinResNet(nn.Module):
    """The network of the published file: 50 layers with half of the channels of a ResNet-50."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 7, 2, padding=3)
        blocks, width = [], 64
        for inside, out, count, stride in STAGES:
            for i in range(count):
                blocks.append(Block(width, inside, out, 1 if i else stride))
                width = out
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(WIDTH, classes)

    def features(self, values: Tensor) -> Tensor:
        """Return the numbers that the head is given. Shape: (R, WIDTH)."""
        # The pool has an edge at the right and at the bottom only, as in Caffe.
        pooled = functional.max_pool2d(self.stem(values).relu_(), 3, 2, ceil_mode=True)
        grid: Tensor = self.blocks(pooled)
        return grid.mean((2, 3))


class Published(Net):
    """What both ways to run the network share: there is no folder that it could be saved into."""

    def save(self, folder: Path, spec: ModelSpec) -> None:
        """Refuse: what is published is one file, without a configuration beside it."""
        raise ConfigError(
            f"{spec.name!r} is one .onnx file and no model folder, so it cannot be saved: save the policy in a file, "
            "and load the model by name"
        )


class OpenNsfwNet(Published):
    """The network in torch."""

    def __init__(self, model: ThinResNet) -> None:
        super().__init__()
        self.model = model
        self.width = WIDTH

    def forward_with_embedding(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers of the head, and the features."""
        features = self.model.features(as_published(values))
        return self.model.head(features), features

    def forward(self, values: Tensor) -> Tensor:
        """Return the same numbers: the network has no other forward."""
        return self.forward_with_embedding(values)[0]


class OpenNsfwFile(Published):
    """The published file as it is, in ONNX Runtime. It returns probabilities and no embedding."""

    place: Tensor

    def __init__(self, runner: OnnxRunner, spec: ModelSpec) -> None:
        super().__init__()
        # There are no weights here to move; this buffer shows whether the device can be used.
        self.register_buffer("place", torch.zeros(1), persistent=False)
        self.runner, self.labels, self.width = runner, len(spec.labels), 0
        self.runtime = f"{runner.name}, {runner.path.name} {spec.sha256[:12]}"
        takes, gives, side = runner.inputs, runner.outputs, spec.net_input.size
        good = len(takes) == 1 and takes[0].dtype == FLOAT and fits(takes[0], (None, side, side, 3))
        if not good or len(gives) != 1 or gives[0].dtype != FLOAT or not fits(gives[0], (None, self.labels)):
            ports = f"takes {', '.join(map(str, takes))} and returns {', '.join(map(str, gives))}"
            raise WeightsUnfitError(f"{runner.path.name} is not OpenNSFW, since it {ports}: fetch it again")

    def __deepcopy__(self, memo: object) -> OpenNsfwFile:
        """Return the net itself: it has one session per device, and sessions are thread-safe."""
        return self

    def forward_with_embedding(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the file's probabilities, and an embedding of width 0."""
        (numbers,) = self.runner.run(as_published(values).permute(0, 2, 3, 1).contiguous())
        if numbers.shape != (len(values), self.labels):
            raise ScoringError(
                f"{self.runner.path.name} returned {tuple(numbers.shape)}, expected {(len(values), self.labels)}: "
                "fetch it again"
            )
        return numbers, numbers.new_empty(len(values), 0)

    def forward(self, values: Tensor) -> Tensor:
        """Return the file's probabilities: it has only one forward."""
        return self.forward_with_embedding(values)[0]

    def to_probabilities(self, numbers: Tensor) -> Tensor:
        """Return the numbers as they are: the file ends with a softmax."""
        return numbers.float()


def as_published(values: Tensor) -> Tensor:
    """Return the input as the published network takes it: blue, green, red, in whole levels less the mean.

    The input comes from 8-bit pixels; dividing by 255 and multiplying again moves it by up to 0.00002.
    """
    return values.flip(1).round()


def load_files(spec: ModelSpec, path: Path, options: Options) -> NetBackend:
    """Load the published file, from its folder or by its path."""
    path = path / spec.files[0] if path.is_dir() else path
    if path.suffix != ".onnx":
        raise WeightsUnfitError(f"{path.name!r} is not an .onnx file: pass {spec.files[0]} or its folder")
    if not path.is_file():
        raise WeightsMissingError(
            f"{path.name} does not exist in {str(path.parent)!r}: run `nsfw-guard fetch {spec.name}`"
        )
    hashes_of(path.parent, path.name, {path.name: spec.sha256} if spec.sha256 else None)
    if options.runtime == "onnx":
        if options.dtype != torch.float32:
            raise ConfigError("an exported network runs in the dtype that it was exported with: omit dtype")
        return NetBackend(OpenNsfwFile(OnnxRunner(path), spec), spec, options)
    return NetBackend(OpenNsfwNet(_read(path, len(spec.labels))), spec, options)


def _read(path: Path, classes: int) -> ThinResNet:
    """The network with the numbers of the file, whose convolutions are in the order of the blocks."""
    nodes, tensors = read_graph(path)
    model = ThinResNet(classes)
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    convolutions = [node.inputs for node in nodes if node.operation == "Conv"]
    heads = [node.inputs[1] for node in nodes if node.operation == "MatMul" and len(node.inputs) == 2]
    biases = [name for node in nodes if node.operation == "Add" for name in node.inputs if name in tensors]
    try:
        state = {
            f"{layer}.{part}": tensors[name]
            for layer, (_, *names) in zip(layers, convolutions, strict=True)
            for part, name in zip(("weight", "bias"), names, strict=True)
        }
        (head,), (bias,) = heads, biases
        state |= {"head.weight": tensors[head].t().contiguous(), "head.bias": tensors[bias]}
    except (KeyError, ValueError) as error:
        raise WeightsUnfitError(
            f"{path.name} is not OpenNSFW, since its layers are not those of the network ({error}): fetch it again"
        ) from error
    load_strict(model, state, "OpenNSFW's network")
    return model
