"""Reads a frozen graph (a graph-model of TensorFlow.js) as plain layers. Other operations are refused by name."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from torch import Tensor

from nsfw_guard.backends.files.inside import short
from nsfw_guard.backends.layers.keras import depthwise_weight
from nsfw_guard.backends.layers.topology import Draft, Plain
from nsfw_guard.errors import UnknownNameError, WeightsUnfitError

# What changes no result: hints for other devices, and what the weights say themselves.
IGNORED = {"use_cudnn_on_gpu", "num_args", "epsilon", "dtype", "value"}
ACTIVATIONS = {"Relu": "relu", "Relu6": "relu6"}
FORMATS = {"T": "DT_FLOAT", "data_format": "NHWC", "explicit_paddings": [], "transpose_a": False, "transpose_b": False}


class _Node:
    """One node: its name, the names that it takes, its attributes; each is read once, and none may be left."""

    def __init__(self, node: Mapping[str, Any]) -> None:
        name, op, inputs, attributes = node.get("name"), node.get("op"), node.get("input", []), node.get("attr", {})
        if not (isinstance(name, str) and isinstance(op, str) and isinstance(attributes, Mapping)):
            _unfit(f"a node must have a name, an op and attributes, got {short(node)}")
        if not (isinstance(inputs, list) and all(isinstance(each, str) for each in inputs)):
            _unfit(f"the inputs of {short(name)} must be a list of names, got {short(inputs)}")
        self.name: str = name
        self.op: str = op
        self.inputs: list[str] = inputs
        self.where = f"the {self.op} {short(self.name)}"
        self.rest = dict(attributes)

    def pop(self, key: str) -> Any:
        """Take an attribute, without the wrappers that name its type; texts are base64."""
        return _value(self.rest.pop(key, None), f"{key} of {self.where}")

    def middle(self, key: str) -> list[Any]:
        """Take four numbers, one for each side of a batch of images, and return those of height and width."""
        four = self.pop(key)
        if not (isinstance(four, list) and len(four) == 4 and four[0] == four[3] == 1):
            _unfit(f"{key} of {self.where} must be [1, height, width, 1], got {short(four)}")
        return four[1:3]

    def padding(self) -> str:
        """Take the padding, by Keras' name."""
        return str(self.pop("padding")).lower()

    def finish(self) -> None:
        """Raise an error for an attribute that nobody read, or that has another value than the one that is known."""
        for key in list(self.rest):
            if key in IGNORED:
                continue
            value = self.pop(key)
            if key not in FORMATS or value != FORMATS[key]:
                _unfit(f"{self.where} has {key[:60]} = {short(value)}, which is not known")


Read = Callable[[Draft, _Node, list[int]], int]


def read_graph(topology: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Plain:
    """Return the operations of a graph as layers, with their weights in torch's layout.

    Raises:
        ConfigError, WeightsUnfitError: an operation or an attribute is not known, or the weights are others.
    """
    nodes = topology.get("node")
    if not isinstance(nodes, list) or topology.get("library"):
        _unfit("the topology must be a list of nodes without functions")
    draft, numbers, constants = Draft(dict(tensors)), dict[str, int](), set[str]()
    for entry in nodes:
        node = _Node(entry if isinstance(entry, Mapping) else {})
        if node.name in numbers or node.name in constants:
            _unfit(f"two nodes are called {short(node.name)}")
        if node.op == "Const":
            constants.add(node.name)
            continue
        if node.op not in READERS:
            raise UnknownNameError("operation of TensorFlow", node.op, READERS)
        unknown = [name for name in node.inputs if name not in numbers and name not in constants]
        if unknown:
            _unfit(f"{node.where} takes {short(unknown[0])}, which is no node before it")
        inputs = [numbers[name] for name in node.inputs if name in numbers]
        numbers[node.name] = READERS[node.op](draft, node, inputs)
        node.finish()
    return draft.finish()


def _input(draft: Draft, node: _Node, inputs: list[int]) -> int:
    shape = node.pop("shape")
    sides = shape.get("dim") if isinstance(shape, Mapping) else None
    size = [_whole(side.get("size")) for side in sides if isinstance(side, Mapping)] if isinstance(sides, list) else []
    if len(size) != 4 or size[0] != -1 or size[1] != size[2] or size[3] != 3:
        _unfit(f"the input must be [-1, size, size, 3], got {short(size or shape)}")
    return draft.add("Input", [], size=size[1])


def _scalar(sign: float | None) -> Read:
    """Add, subtract (-1) or multiply by (None) one number; two images are added by the layer Add."""

    def read(draft: Draft, node: _Node, inputs: list[int]) -> int:
        if len(inputs) == 2 and sign == 1:
            return draft.add("Add", inputs)
        constants = [name for name in node.inputs if name in draft.rest]
        backwards = sign == -1 and constants == node.inputs[:1]
        if len(inputs) != 1 or len(node.inputs) != 2 or len(constants) != 1 or backwards:
            _unfit(f"{node.where} must take the image and one number")
        number = float(draft.take(constants[0], ()))
        if sign is None:
            return draft.add("Rescaling", inputs, scale=number, offset=0)
        return draft.add("Rescaling", inputs, scale=1, offset=sign * number)

    return read


def _fused(node: _Node) -> str | None:
    """The activation of an operation that adds a bias."""
    names = node.pop("fused_ops")
    if names == ["BiasAdd"]:
        return None
    if isinstance(names, list) and names[:1] == ["BiasAdd"] and len(names) == 2 and str(names[1]) in ACTIVATIONS:
        return ACTIVATIONS[str(names[1])]
    return _unfit(f"{node.where} must add a bias, and then nothing, Relu or Relu6, got {short(names)}")


def _weights(draft: Draft, node: _Node, order: Sequence[int]) -> dict[str, Tensor]:
    if len(node.inputs) != 3:
        _unfit(f"{node.where} must take the image, a kernel and a bias, got {len(node.inputs)} inputs")
    return {"weight": draft.take(node.inputs[1], order), "bias": draft.take(node.inputs[2], (0,))}


def _window(node: _Node, weight: Tensor) -> dict[str, Any]:
    return {
        "kernel": list(weight.shape[2:]), "strides": node.middle("strides"), "dilation": node.middle("dilations"),
        "padding": node.padding(), "bias": True,
    }  # fmt: skip


def _conv(draft: Draft, node: _Node, inputs: list[int]) -> int:
    weights = _weights(draft, node, (3, 2, 0, 1))
    args = {"filters": len(weights["weight"]), **_window(node, weights["weight"])}
    return draft.activation(_fused(node), draft.add("Conv2D", inputs, weights, **args))


def _depthwise(draft: Draft, node: _Node, inputs: list[int]) -> int:
    weights = _weights(draft, node, (2, 3, 0, 1))
    args = {"multiplier": weights["weight"].shape[1], **_window(node, weights["weight"])}
    weights["weight"] = depthwise_weight(weights["weight"])
    return draft.activation(_fused(node), draft.add("DepthwiseConv2D", inputs, weights, **args))


def _dense(draft: Draft, node: _Node, inputs: list[int]) -> int:
    weights = _weights(draft, node, (1, 0))
    number = draft.add("Dense", inputs, weights, units=len(weights["weight"]), bias=True)
    return draft.activation(_fused(node), number)


def _pool(kind: str) -> Read:
    def read(draft: Draft, node: _Node, inputs: list[int]) -> int:
        pool, strides = node.middle("ksize"), node.middle("strides")
        return draft.add(kind, inputs, pool=pool, strides=strides, padding=node.padding())

    return read


def _squeeze(draft: Draft, node: _Node, inputs: list[int]) -> int:
    """Drops height and width, which must be 1: the network checks that the dense layer fits."""
    if node.pop("squeeze_dims") != [1, 2]:
        _unfit(f"{node.where} must drop the sides 1 and 2")
    return draft.add("Flatten", inputs)


def _same(draft: Draft, node: _Node, inputs: list[int]) -> int:
    if len(inputs) != 1 or len(node.inputs) != 1:
        _unfit(f"{node.where} must take one node, got {len(node.inputs)}")
    return inputs[0]


def _value(value: object, what: str) -> Any:
    """What an attribute holds: {"s": text}, {"i": number}, {"list": {...}} and so on."""
    if not isinstance(value, Mapping) or len(value) != 1:
        _unfit(f"{what} must be given once, got {short(value)}")
    ((kind, inner),) = value.items()
    if kind == "list" and isinstance(inner, Mapping) and all(isinstance(items, list) for items in inner.values()):
        return [_value({key: item}, what) for key, items in inner.items() for item in items]
    if kind == "s":
        return _text(inner, what)
    return _whole(inner) if kind == "i" else inner


def _text(text: object, what: str) -> str:
    try:
        return base64.b64decode(str(text), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        _unfit(f"{what} must be base64, got {short(text)}")


def _whole(text: object) -> Any:
    """A whole number, which the format writes as a text."""
    digits = isinstance(text, str) and len(text) <= 18 and text.lstrip("-").isdecimal() and text.isascii()
    return int(text) if isinstance(text, str) and digits and text.rfind("-") <= 0 else text


def _unfit(what: str) -> NoReturn:
    raise WeightsUnfitError(f"{what}: convert another model, or fetch this one again")


READERS: Mapping[str, Read] = {
    "Placeholder": _input, "Mul": _scalar(None), "Sub": _scalar(-1), "AddV2": _scalar(1), "_FusedConv2D": _conv,
    "FusedDepthwiseConv2dNative": _depthwise, "_FusedMatMul": _dense, "AvgPool": _pool("AveragePooling2D"),
    "MaxPool": _pool("MaxPooling2D"), "Squeeze": _squeeze, "Identity": _same,
    "Softmax": lambda draft, node, inputs: draft.add("Softmax", inputs),
}  # fmt: skip
