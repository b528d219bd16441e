"""A frozen graph as layers: the numbers of the formulas, and a refusal by name of every other operation."""

from __future__ import annotations

import base64
import copy

import numpy as np
import pytest
import torch

from nsfw_guard.backends.layers.graph import read_graph
from nsfw_guard.backends.layers.layers_model import LayersNet
from nsfw_guard.errors import ConfigError, WeightsUnfitError
from tests.backends.layers import by_hand

FLOAT = {"T": {"type": "DT_FLOAT"}}


def text(word: str) -> str:
    return base64.b64encode(word.encode()).decode()


def ints(*numbers: int) -> dict:
    return {"list": {"i": [str(number) for number in numbers]}}


def node(op: str, name: str, *inputs: str, **attr) -> dict:
    return {"name": name, "op": op, "input": list(inputs), "attr": attr}


def window(stride: int, padding: str = "SAME") -> dict:
    return {**FLOAT, "strides": ints(1, stride, stride, 1), "padding": {"s": text(padding)},
            "data_format": {"s": text("NHWC")}}  # fmt: skip


def conv(op: str, name: str, after: str, stride: int = 1, then: str = "Relu6") -> dict:
    fused = {"list": {"s": [text("BiasAdd"), *([text(then)] if then else [])]}}
    return node(op, name, after, f"{name}/w", f"{name}/b", **window(stride), dilations=ints(1, 1, 1, 1),
                num_args={"i": "1"}, explicit_paddings={"list": {}}, epsilon={"f": 0}, fused_ops=fused)  # fmt: skip


def graph() -> tuple[dict, dict[str, np.ndarray]]:
    """A small network as a converter freezes it, and its weights."""
    rng = np.random.default_rng(0)
    sizes = {"two": (), "one": (), "conv/w": (3, 3, 3, 4), "conv/b": (4,), "deep/w": (3, 3, 4, 1), "deep/b": (4,),
             "less/w": (1, 1, 4, 4), "less/b": (4,), "w": (4, 3), "b": (3,)}  # fmt: skip
    tensors = {name: rng.normal(size=size) for name, size in sizes.items()} | {
        "two": np.array(2.0),
        "one": np.array(1.0),
    }
    side = [{"size": str(size)} for size in (-1, 8, 8, 3)]
    nodes = [node("Const", name, dtype={"type": "DT_FLOAT"}, value={"tensor": {}}) for name in tensors] + [
        node("Placeholder", "input", shape={"shape": {"dim": side}}, dtype={"type": "DT_FLOAT"}),
        node("Mul", "scaled", "two", "input", **FLOAT),
        node("Sub", "centred", "scaled", "one", **FLOAT),
        conv("_FusedConv2D", "conv", "centred", 2),
        conv("FusedDepthwiseConv2dNative", "deep", "conv"),
        conv("_FusedConv2D", "less", "deep", then=""),
        node("AddV2", "add", "conv", "less", **FLOAT),
        node("AvgPool", "mean", "add", **window(1, "VALID"), ksize=ints(1, 4, 4, 1)),
        node("Squeeze", "flat", "mean", **FLOAT, squeeze_dims=ints(1, 2)),
        node("_FusedMatMul", "dense", "flat", "w", "b", **FLOAT, transpose_a={"b": False}, transpose_b={"b": False},
             num_args={"i": "1"}, fused_ops={"list": {"s": [text("BiasAdd")]}}),
        node("Softmax", "softmax", "dense", **FLOAT),
        node("Identity", "Identity", "softmax", **FLOAT),
    ]  # fmt: skip
    return {"node": nodes, "versions": {"producer": 175}, "library": {}}, tensors


def read(topology, arrays):
    return read_graph(topology, {name: torch.from_numpy(np.asarray(values)) for name, values in arrays.items()})


def test_a_graph_gives_the_numbers_of_the_formulas() -> None:
    topology, t = graph()
    layers, tensors = read(topology, t)
    net = LayersNet(layers).double()
    net.load_state_dict(tensors, strict=True)
    image = np.random.default_rng(1).uniform(size=(8, 8, 3))
    x = first = np.clip(by_hand.conv(image * 2 - 1, t["conv/w"], (2, 2)) + t["conv/b"], 0, 6)
    x = np.clip(by_hand.depthwise(x, t["deep/w"]) + t["deep/b"], 0, 6)
    x = first + by_hand.conv(x, t["less/w"]) + t["less/b"]
    features = x.mean((0, 1))
    with torch.no_grad():
        numbers, embedding = net.forward_with_embedding(torch.from_numpy(image).permute(2, 0, 1)[None])
    np.testing.assert_allclose(embedding[0].numpy(), features, atol=1e-12)
    np.testing.assert_allclose(numbers[0].numpy(), features @ t["w"] + t["b"], atol=1e-12)
    assert net.width == 4


def find(topology, name: str) -> dict:
    return next(each for each in topology["node"] if each["name"] == name)


def attr(name: str, **values):
    return lambda topology, _: find(topology, name)["attr"].update(values)


def takes(name: str, *inputs):
    return lambda topology, _: find(topology, name).update(input=list(inputs))


WRONG = [
    (lambda t, _: find(t, "mean").update(op="PyFunc"), "unknown operation of TensorFlow 'PyFunc'"),
    (lambda t, _: find(t, "mean").update(op="ReadFile"), "unknown operation of TensorFlow 'ReadFile'"),
    (lambda t, _: find(t, "mean").update(op=None), "must have a name, an op and attributes"),
    (lambda t, _: t["node"].append(7), "must have a name, an op and attributes"),
    (lambda t, _: t["node"].append(copy.deepcopy(t["node"][0])), "two nodes are called 'two'"),
    (lambda t, _: t.update(node={}), "must be a list of nodes"),
    (lambda t, _: t.update(library={"function": [1]}), "without functions"),
    (lambda t, _: t.update(library=[1]), "without functions"),
    (lambda t, _: t["node"].reverse(), "which is no node before it"),
    (takes("mean", "softmax"), "takes 'softmax', which is no node before it"),
    (takes("mean", "^add"), "takes '\\^add'"),
    (takes("mean", 7), "must be a list of names"),
    (takes("mean", "add", "add"), "must take 1 earlier layers"),
    (takes("conv", "centred", "conv/w"), "must take the image, a kernel and a bias, got 2 inputs"),
    (takes("less", "deep", "conv/w", "less/b"), "no tensor 'conv/w' is left"),
    (takes("scaled", "two", "one"), "must take the image and one number"),
    (takes("scaled", "input", "input"), "must take the image and one number"),
    (takes("centred", "one", "scaled"), "must take the image and one number"),
    (takes("Identity", "softmax", "softmax"), "must take one node, got 2"),
    (attr("conv", T={"type": "DT_HALF"}), "T = 'DT_HALF', which is not known"),
    (attr("conv", data_format={"s": text("NCHW")}), "data_format = 'NCHW'"),
    (attr("conv", padding={"s": text("EXPLICIT")}), "must be one of 'same', 'valid', got 'explicit'"),
    (attr("conv", padding={"s": "!"}), "must be base64"),
    (attr("conv", padding=None), "padding of .* must be given once"),
    (attr("conv", strides=ints(2, 1, 1, 1)), "must be \\[1, height, width, 1\\]"),
    (attr("conv", strides=ints(1, 0, 1, 1)), "strides of layer 3"),
    (attr("conv", strides={"list": {"i": ["1", "x", "1", "1"]}}), "strides of layer 3"),
    (attr("conv", explicit_paddings=ints(1)), "explicit_paddings"),
    (attr("conv", fused_ops={"list": {"s": [text("Elu")]}}), "must add a bias"),
    (attr("conv", fused_ops={"list": {"s": [text("BiasAdd"), text("Elu")]}}), "must add a bias"),
    (attr("conv", body={"s": text("x")}), "body"),
    (attr("dense", transpose_b={"b": True}), "transpose_b = 'True'"),
    (attr("flat", squeeze_dims=ints(0)), "must drop the sides 1 and 2"),
    (attr("input", shape={"shape": {"dim": [{"size": "-1"}] * 4}}), "must be \\[-1, size, size, 3\\]"),
    (attr("input", shape={"shape": {"unknownRank": True}}), "must be \\[-1, size, size, 3\\]"),
    (lambda _, w: w.pop("w"), "no tensor 'w' is left"),
    (lambda _, w: w.update(w=np.ones(3)), "'w' must have 2 sides"),
    (lambda _, w: w.update({"deep/w": np.ones((3, 3))}), "'deep/w' must have 4 sides"),
    (lambda _, w: w.update({"conv/w": np.ones((99, 3, 3, 4))}), "kernel of layer 3"),
    (lambda _, w: w.update(two=np.ones(3)), "'two' must have 0 sides"),
    (lambda t, w: w.update(more=np.ones(3)), "no layer takes the tensor 'more'"),
    (lambda t, _: t["node"].append(node("Softmax", "again", "softmax", **FLOAT)), "one Softmax last"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_what_is_not_known_is_refused_by_name(change, message) -> None:
    topology, arrays = graph()
    change(topology, arrays)
    with pytest.raises((ConfigError, WeightsUnfitError), match=message) as raised:
        read(topology, arrays)
    assert "\n" not in str(raised.value)
