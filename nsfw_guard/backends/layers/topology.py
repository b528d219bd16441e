"""The layers of a network as plain data: what a folder's config.json lists, and what every reader makes.

A layer takes the outputs of layers before it, by their numbers, so that there are no circles. The first is the input,
the last a softmax, and the one before it the dense layer whose input is the embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from nsfw_guard.backends.files.arguments import SIDE, WIDEST, Flag, Number, Words
from nsfw_guard.backends.files.inside import short
from nsfw_guard.errors import UnknownNameError, WeightsUnfitError

MAX_LAYERS = 5000
MAX_INPUTS = 64


@dataclass(frozen=True)
class Several:
    """A list of so many whole numbers."""

    count: int
    low: int
    high: int

    def takes(self, value: object) -> bool:
        """Return whether a JSON value is allowed."""
        one = Number(self.low, self.high)
        return isinstance(value, (list, tuple)) and len(value) == self.count and all(map(one.takes, value))

    def __str__(self) -> str:
        return f"{self.count} whole numbers from {self.low} to {self.high}"


Argument = Several | Number | Words | Flag
_PAIR, _SAME = Several(2, 1, 64), Words(("same", "valid"))
_FACTOR = Number(-1e6, 1e6, whole=False)
_WINDOW: Mapping[str, Argument] = {"pool": _PAIR, "strides": _PAIR, "padding": _SAME}
_KERNEL: Mapping[str, Argument] = {
    "kernel": _PAIR, "strides": _PAIR, "dilation": _PAIR, "padding": _SAME, "bias": Flag(),
}  # fmt: skip
# Every argument of every kind of layer. All of them must be given.
LAYERS: Mapping[str, Mapping[str, Argument]] = {
    "Input": {"size": Number(1, SIDE)},
    "Rescaling": {"scale": _FACTOR, "offset": _FACTOR},
    "Conv2D": {"filters": Number(1, WIDEST), **_KERNEL},
    "DepthwiseConv2D": {"multiplier": Number(1, 64), **_KERNEL},
    "BatchNormalization": {"epsilon": Number(1e-12, 1, whole=False), "center": Flag(), "scale": Flag()},
    "ReLU": {"max_value": Number(0, 1e6, whole=False), "negative_slope": Number(0, 1, whole=False)},
    "Activation": {"function": Words(("sigmoid", "tanh"))},
    "ZeroPadding2D": {"padding": Several(4, 0, 64)},
    "Add": {},
    "Concatenate": {},
    "AveragePooling2D": _WINDOW,
    "MaxPooling2D": _WINDOW,
    "GlobalAveragePooling2D": {},
    "Flatten": {},
    "Dense": {"units": Number(1, WIDEST), "bias": Flag()},
    "Softmax": {},
}
TAKES = {"Input": 0, "Add": 2, "Concatenate": 2}  # how many inputs a kind has at least; the others have exactly one


@dataclass(frozen=True)
class Layer:
    """One layer: its kind, the numbers of the layers that it takes, its arguments."""

    kind: str
    inputs: tuple[int, ...]
    args: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return it as config.json lists it."""
        args = {name: list(value) if isinstance(value, tuple) else value for name, value in self.args.items()}
        return {"kind": self.kind, "inputs": list(self.inputs), **args}


Plain = tuple[tuple[Layer, ...], dict[str, Tensor]]  # layers, and their weights as a network names them


@dataclass
class Draft:
    """A network that is being read: layers in order, their weights, and the tensors that no layer took yet."""

    rest: dict[str, Tensor]
    layers: list[Layer] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def add(self, kind: str, inputs: Sequence[int], weights: Mapping[str, Tensor] | None = None, **args: Any) -> int:
        """Add a layer with its weights, and return its number."""
        number = len(self.layers)
        entry = {"kind": kind, "inputs": list(inputs), **args}
        self.layers.append(read_layer(entry, number))
        self.tensors |= {f"layers.{number}.{name}": tensor.contiguous() for name, tensor in (weights or {}).items()}
        return number

    def take(self, name: str, order: Sequence[int]) -> Tensor:
        """Return a tensor with its sides in this order; a tensor is taken once.

        Raises:
            WeightsUnfitError: it is missing, taken already, or has another number of sides.
        """
        tensor = self.rest.pop(name, None)
        if tensor is None:
            raise WeightsUnfitError(f"no tensor {short(name)} is left among the weights: fetch the files again")
        if tensor.ndim != len(order):
            raise WeightsUnfitError(
                f"{short(name)} must have {len(order)} sides, got {tuple(tensor.shape)}: fetch the files again"
            )
        return tensor.permute(*order) if order else tensor

    def activation(self, function: object, number: int) -> int:
        """Add the layer for an activation by its Keras name, and return the number of the last layer."""
        # It may be anything, also what no set can hold.
        if function in (None, "linear"):
            return number
        if function in ("relu", "relu6"):
            return self.add("ReLU", [number], max_value=6 if function == "relu6" else 0, negative_slope=0)
        if function == "softmax":
            return self.add("Softmax", [number])
        return self.add("Activation", [number], function=function)

    def finish(self) -> Plain:
        """Return layers and weights, when every tensor was taken."""
        if self.rest:
            raise WeightsUnfitError(f"no layer takes the tensor {short(next(iter(self.rest)))}: fetch the files again")
        return check(self.layers), self.tensors


def read_layers(entries: object) -> tuple[Layer, ...]:
    """Return the layers that config.json lists.

    Raises:
        WeightsUnfitError: an entry is not a known layer with its arguments, or they are no network.
    """
    if not isinstance(entries, list) or not 3 <= len(entries) <= MAX_LAYERS:
        raise WeightsUnfitError(f"'layers' must be a list of 3 to {MAX_LAYERS} layers, got {short(entries)}")
    return check([read_layer(entry, number) for number, entry in enumerate(entries)])


def read_layer(entry: object, number: int) -> Layer:
    """Return one layer, its kind, inputs and arguments checked."""
    if not isinstance(entry, Mapping):
        raise WeightsUnfitError(f"layer {number} must be an object, got {short(entry)}: save the model again")
    kind, inputs = entry.get("kind"), entry.get("inputs")
    if not isinstance(kind, str) or kind not in LAYERS:
        raise UnknownNameError("kind of layer", kind, LAYERS)
    earlier = isinstance(inputs, list) and all(type(i) is int and 0 <= i < number for i in inputs)
    few = TAKES.get(kind, 1)
    most = MAX_INPUTS if few == 2 else few
    if not isinstance(inputs, list) or not earlier or not few <= len(inputs) <= most:
        raise WeightsUnfitError(
            f"layer {number} ({kind}) must take {few if few == most else f'{few} to {most}'} earlier layers, got "
            f"{short(inputs)}: save the model again"
        )
    args = {name: value for name, value in entry.items() if name not in {"kind", "inputs"}}
    for name in {*args, *LAYERS[kind]}:
        wanted = LAYERS[kind].get(name)
        if wanted is None:
            raise WeightsUnfitError(f"layer {number} ({kind}) has the unknown argument {short(name)}: remove it")
        if not wanted.takes(args.get(name)):
            raise WeightsUnfitError(f"{name} of layer {number} ({kind}) must be {wanted}, got {short(args.get(name))}")
    return Layer(kind, tuple(inputs), args)


def check(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the layers when they are a network from one input to one softmax after a dense layer, all of them used."""
    kinds = [layer.kind for layer in layers]
    ends = kinds[:1] == ["Input"] and kinds[-2:] == ["Dense", "Softmax"] and layers[-1].inputs == (len(layers) - 2,)
    if not ends or kinds.count("Input") != 1 or kinds.count("Softmax") != 1 or len(layers) > MAX_LAYERS:
        raise WeightsUnfitError(
            f"a network must have one Input first, and one Softmax last after a Dense, got {' '.join(kinds[:2])} ... "
            f"{' '.join(kinds[-2:])} in {len(layers)} layers: only classifiers of one image can be read"
        )
    used = {number for layer in layers for number in layer.inputs}
    idle = [number for number in range(len(layers) - 1) if number not in used]
    if idle:
        raise WeightsUnfitError(f"no layer takes the output of layer {idle[0]} ({kinds[idle[0]]}): remove it")
    return tuple(layers)
