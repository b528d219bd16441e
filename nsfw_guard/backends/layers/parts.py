"""The layers as torch modules that compute what TensorFlow computes. Images are (N, C, H, W) here, as torch has them.

The shapes are known when a network is built: so its padding is fixed, and memory and work are limited before it runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional

from nsfw_guard.backends.layers.topology import Layer
from nsfw_guard.errors import WeightsUnfitError

Shape = tuple[int, ...]  # of one image, without the batch: (C, H, W) or (F,)
Args = Mapping[str, Any]
MAX_ACTIVATION = 1 << 24  # numbers that a layer may take with its padding, or return; the largest published has 1.4e6
MAX_WINDOWS = 1 << 29  # numbers of all windows of a convolution, which some dtypes and machines lay out side by side
POOL_WORK = 16  # multiplications in the time that a pool takes for one number of its window


class Part(nn.Module):
    """One layer. `shape` is what it returns for one image."""

    shape: Shape

    def forward(self, *values: Tensor) -> Tensor:
        """Return the output of the layer."""
        raise NotImplementedError

    @property
    def work(self) -> int:
        """Multiplications for one image, about."""
        return sum(p.numel() for p in self.parameters()) * math.prod(self.shape[1:])


class Simple(Part):
    """A layer without weights."""

    def __init__(self, shape: Shape, function: Callable[..., Tensor], window: int = 0) -> None:
        super().__init__()
        self.shape, self.function, self.window = shape, function, window

    @property
    def work(self) -> int:
        """Multiplications for one image, about: only a pool, which looks at a window for each number, takes long."""
        return POOL_WORK * self.window * math.prod(self.shape)

    def forward(self, *values: Tensor) -> Tensor:
        """Return the function of the inputs."""
        return self.function(*values)


class Convolution(Part):
    """Conv2D, or DepthwiseConv2D with as many groups as channels."""

    def __init__(self, source: Shape, filters: int, groups: int, args: Args) -> None:
        super().__init__()
        self.edges, self.shape = _windows(source, filters, args["kernel"], args)
        self.strides, self.dilation, self.groups = tuple(args["strides"]), tuple(args["dilation"]), groups
        windows = source[0] // groups * math.prod(args["kernel"]) * math.prod(self.shape[1:])
        if windows > MAX_WINDOWS:
            _unfit(f"a convolution of {source} would look at {windows} numbers, more than {MAX_WINDOWS}")
        self.weight = _empty(filters, source[0] // groups, *args["kernel"])
        self.bias = _empty(filters) if args["bias"] else None

    def forward(self, *values: Tensor) -> Tensor:
        """Return the convolution of the padded image."""
        padded = _padded(values[0], self.edges, 0.0)
        return functional.conv2d(padded, self.weight, self.bias, self.strides, 0, self.dilation, self.groups)


class Norm(Part):
    """BatchNormalization as it is after training."""

    def __init__(self, source: Shape, args: Args) -> None:
        super().__init__()
        self.shape, self.epsilon = source, float(args["epsilon"])
        self.mean, self.variance = _empty(source[0]), _empty(source[0])
        self.weight = _empty(source[0]) if args["scale"] else None
        self.bias = _empty(source[0]) if args["center"] else None

    def forward(self, *values: Tensor) -> Tensor:
        """Return the normalised channels."""
        return functional.batch_norm(
            values[0], self.mean, self.variance, self.weight, self.bias, False, 0.0, self.epsilon
        )


class Dense(Part):
    """A matrix, and a bias where there is one."""

    def __init__(self, source: Shape, args: Args) -> None:
        super().__init__()
        if len(source) != 1:
            _unfit(f"a Dense must take a vector, got {source}")
        self.shape = (args["units"],)
        self.weight = _empty(args["units"], source[0])
        self.bias = _empty(args["units"]) if args["bias"] else None

    def forward(self, *values: Tensor) -> Tensor:
        """Return the product."""
        return functional.linear(values[0], self.weight, self.bias)


def make(layer: Layer, sources: Sequence[Shape]) -> Part:
    """Return the module of a layer for inputs of these shapes, its weights not yet loaded.

    Raises:
        WeightsUnfitError: the layer cannot take these shapes, or its output would be too large.
    """
    images = layer.kind in IMAGES
    if images and len(sources[0]) != 3:
        _unfit(f"a {layer.kind} must take images, got {sources[0]}")
    part = MAKERS[layer.kind](layer.args, sources)
    if not 0 < math.prod(part.shape) <= MAX_ACTIVATION:
        _unfit(f"a {layer.kind} would return {part.shape} numbers, more than {MAX_ACTIVATION}")
    return part


def _conv(args: Args, sources: Sequence[Shape]) -> Part:
    return Convolution(sources[0], args["filters"], 1, args)


def _depthwise(args: Args, sources: Sequence[Shape]) -> Part:
    channels = sources[0][0]
    return Convolution(sources[0], channels * args["multiplier"], channels, args)


def _rescaling(args: Args, sources: Sequence[Shape]) -> Part:
    return Simple(sources[0], lambda x: x * args["scale"] + args["offset"])


def _relu(args: Args, sources: Sequence[Shape]) -> Part:
    most, slope = args["max_value"] or None, args["negative_slope"]
    if slope:
        return Simple(sources[0], lambda x: functional.leaky_relu(x, slope).clamp(max=most) if most else
                      functional.leaky_relu(x, slope))  # fmt: skip
    return Simple(sources[0], lambda x: x.clamp(0, most))


def _activation(args: Args, sources: Sequence[Shape]) -> Part:
    return Simple(sources[0], {"sigmoid": torch.sigmoid, "tanh": torch.tanh}[args["function"]])


def _padding(args: Args, sources: Sequence[Shape]) -> Part:
    (channels, height, width), (above, below, left, right) = sources[0], args["padding"]
    shape = channels, height + above + below, width + left + right
    return Simple(shape, lambda x: _padded(x, (left, right, above, below), 0.0))


def _add(args: Args, sources: Sequence[Shape]) -> Part:
    if len(set(sources)) > 1:
        _unfit(f"an Add must take outputs of one shape, got {sources[:3]}")
    return Simple(sources[0], lambda first, *others: sum(others, first))


def _concatenate(args: Args, sources: Sequence[Shape]) -> Part:
    if len({shape[1:] for shape in sources}) > 1:
        _unfit(f"a Concatenate must take images of one size, got {sources[:3]}")
    return Simple((sum(shape[0] for shape in sources), *sources[0][1:]), lambda *values: torch.cat(values, 1))


def _average(args: Args, sources: Sequence[Shape]) -> Part:
    """TensorFlow's average, which does not count what was padded."""
    pool, strides = tuple(args["pool"]), tuple(args["strides"])
    edges, shape = _windows(sources[0], sources[0][0], pool, args)

    def average(x: Tensor) -> Tensor:
        pooled = functional.avg_pool2d(_padded(x, edges, 0.0), pool, strides)
        if not any(edges):
            return pooled
        inside = _padded(x.new_ones(1, 1, *x.shape[2:]), edges, 0.0)
        return pooled / functional.avg_pool2d(inside, pool, strides)

    return Simple(shape, average, math.prod(pool))


def _most(args: Args, sources: Sequence[Shape]) -> Part:
    pool, strides = tuple(args["pool"]), tuple(args["strides"])
    edges, shape = _windows(sources[0], sources[0][0], pool, args)
    return Simple(shape, lambda x: functional.max_pool2d(_padded(x, edges, -math.inf), pool, strides), math.prod(pool))


def _mean(args: Args, sources: Sequence[Shape]) -> Part:
    return Simple(sources[0][:1], lambda x: x.mean((2, 3)))


def _flatten(args: Args, sources: Sequence[Shape]) -> Part:
    """Keras counts the channels first, as its images are (N, H, W, C)."""
    if len(sources[0]) == 1:
        return Simple(sources[0], lambda x: x)
    return Simple((math.prod(sources[0]),), lambda x: x.permute(0, 2, 3, 1).flatten(1))


def window(side: int, kernel: int, stride: int, dilation: int, padding: str) -> tuple[int, int, int]:
    """Return how much TensorFlow pads before and after one side, and how many windows fit.

    With "same" there are as many windows as strides begin in the side; where the padding is odd, more lies after.
    """
    reach = (kernel - 1) * dilation + 1
    if padding == "valid":
        return 0, 0, (side - reach) // stride + 1
    count = -(-side // stride)
    total = max((count - 1) * stride + reach - side, 0)
    return total // 2, total - total // 2, count


def _windows(source: Shape, channels: int, kernel: Sequence[int], args: Args) -> tuple[Shape, Shape]:
    """The padding as torch takes it (left, right, above, below), and the shape of the result."""
    dilation = args.get("dilation", (1, 1))
    height, width = (
        window(source[i + 1], kernel[i], args["strides"][i], dilation[i], args["padding"]) for i in range(2)
    )
    if height[2] < 1 or width[2] < 1:
        _unfit(f"a window of {tuple(kernel)} does not fit into {source[1:]}")
    padded = source[0] * (source[1] + sum(height[:2])) * (source[2] + sum(width[:2]))
    if padded > MAX_ACTIVATION:
        _unfit(f"an input of {source} would be padded to {padded} numbers, more than {MAX_ACTIVATION}")
    return (*width[:2], *height[:2]), (channels, height[2], width[2])


def _padded(x: Tensor, edges: Shape, value: float) -> Tensor:
    return functional.pad(x, edges, value=value) if any(edges) else x


def _empty(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape), requires_grad=False)


def _unfit(what: str) -> NoReturn:
    raise WeightsUnfitError(f"{what}: the layers do not fit each other, fetch the model again")


Make = Callable[[Args, Sequence[Shape]], Part]
MAKERS: Mapping[str, Make] = {
    "Input": lambda args, sources: Simple((3, args["size"], args["size"]), lambda x: x),
    "Rescaling": _rescaling, "Conv2D": _conv, "DepthwiseConv2D": _depthwise, "ReLU": _relu, "Activation": _activation,
    "BatchNormalization": lambda args, sources: Norm(sources[0], args), "ZeroPadding2D": _padding, "Add": _add,
    "Concatenate": _concatenate, "AveragePooling2D": _average, "MaxPooling2D": _most, "GlobalAveragePooling2D": _mean,
    "Flatten": _flatten, "Dense": lambda args, sources: Dense(sources[0], args),
    "Softmax": lambda args, sources: Simple(sources[0], lambda x: x.float().softmax(-1)),
}  # fmt: skip
IMAGES = {"Conv2D", "DepthwiseConv2D", "ZeroPadding2D", "AveragePooling2D", "MaxPooling2D", "GlobalAveragePooling2D"}
