"""Pillow's resize, the authors' crop and the normalisation as a graph in front of a network.

The weights of each axis are computed in the graph, in double precision and in Pillow's order of operations, for any
size of image. They are rounded to 22 bits and split into two pieces of 11, whose sums are exact in float32: see
imaging/resize.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import __version__ as pillow_version

from nsfw_guard.errors import ConfigError
from nsfw_guard.imaging.resize import BITS
from nsfw_guard.imaging.views import InputSpec
from nsfw_guard.tools.exporting.formats.network import INPUT, OUTPUTS
from nsfw_guard.tools.exporting.formats.onnx_export import load_whole
from nsfw_guard.tools.exporting.graph import DOUBLE, FLOAT, INT32, Graph

IMAGE, PROBABILITIES, LEVELS = "image", "probabilities", "levels"
UINT8 = 2  # ONNX's number for bytes
PIECE = 1 << 11
REACH = {"bicubic": 2.0, "bilinear": 1.0}


def add_preprocessing(network: Path, to: Path, spec: InputSpec, labels: int) -> None:
    """Write a copy of an .onnx file that takes images of any size, and returns probabilities."""
    model = load_whole(network)
    graph = Graph()
    values = _normalised(graph, _levels(graph, spec), spec)
    graph.add("Identity", values, output=INPUT)
    tail = Graph("after.")
    tail.add("Softmax", OUTPUTS[0], output=PROBABILITIES, axis=-1)
    nodes = [*graph.nodes, *model.graph.node, *tail.nodes]
    _write(model, nodes, [*graph.constants, *model.graph.initializer], (PROBABILITIES, FLOAT, ["n", labels]), to)


def write_resize(to: Path, spec: InputSpec, opset: int) -> None:
    """Write only the resize and the crop, which return the levels that the network is shown."""
    from onnx import helper

    graph = Graph()
    graph.add("Identity", _levels(graph, spec), output=LEVELS)
    model = helper.make_model(helper.make_graph([], "resize", [], []), opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 10
    _write(model, graph.nodes, graph.constants, (LEVELS, FLOAT, ["n", 3, spec.size, spec.size]), to)


def check_input(spec: InputSpec) -> None:
    """Raise an error when an input cannot be prepared in a graph."""
    if spec.interpolation not in REACH or spec.crop_mode == "border":
        raise ConfigError(
            f"--with-preprocessing is for {' and '.join(REACH)} resizes that are cropped or squashed, but this model's "
            f"input is {spec.interpolation} with crop mode {spec.crop_mode!r}: leave it out"
        )


def _write(model: Any, nodes: list[Any], constants: list[Any], output: tuple[str, int, list[Any]], to: Path) -> None:
    import onnx
    from onnx import helper

    inputs = [helper.make_tensor_value_info(IMAGE, UINT8, ["n", 3, "height", "width"])]
    whole = helper.make_graph(nodes, "main_graph", inputs, [helper.make_tensor_value_info(*output)], constants)
    model.graph.CopyFrom(whole)
    onnx.checker.check_model(model)
    onnx.save(model, to)


def _levels(graph: Graph, spec: InputSpec) -> str:
    """The resized and cropped image, in whole levels as float32."""
    check_input(spec)
    image = graph.add("Cast", IMAGE, to=FLOAT)
    shape = graph.add("Shape", IMAGE, start=2)
    sizes = [graph.add("Gather", shape, graph.whole(axis)) for axis in (0, 1)]
    side = graph.whole(spec.scale_size)
    shorter = graph.add("Min", *sizes)
    targets = [
        side if spec.crop_mode == "squash" else graph.add("Div", graph.add("Mul", size, side), shorter)
        for size in sizes
    ]
    weights = [_weights(graph, size, target, spec) for size, target in zip(sizes, targets, strict=True)]
    tall, wide = Graph("tall."), Graph("wide.")
    _down(wide, _across(wide, image, weights[1]), weights[0])
    if int(pillow_version.split(".")[0]) < 13:
        graph.nodes += wide.nodes
        graph.constants += wide.constants
        return str(wide.nodes[-1].output[0])
    # From 13.0 up the height comes first where it loses more than twice as many pixels.
    _across(tall, _down(tall, image, weights[0]), weights[1])
    lost = [graph.add("Sub", size, target) for size, target in zip(sizes, targets, strict=True)]
    twice = graph.add("Max", graph.add("Mul", lost[1], graph.whole(2)), graph.whole(0))
    is_tall = graph.add("Greater", lost[0], twice)
    return graph.add("If", is_tall, then_branch=tall.branch(), else_branch=wide.branch())


def _weights(graph: Graph, source: str, target: str, spec: InputSpec) -> tuple[str, str]:
    """Pillow's weights for the cropped rows of one axis, in two pieces, coarse first. Shape: (S, source)."""
    size, resized = graph.cast(source, DOUBLE), graph.cast(target, DOUBLE)
    scale = graph.add("Div", size, resized)
    stretch = graph.add("Max", scale, graph.double(1))
    support = graph.add("Mul", stretch, graph.double(REACH[spec.interpolation]))
    rows = graph.add("Add", graph.constant(np.arange(spec.size)[:, None], np.float64), _start(graph, target, spec))
    center = graph.add("Mul", graph.add("Add", rows, graph.double(0.5)), scale)
    low = graph.add("Add", graph.add("Sub", center, support), graph.double(0.5))
    high = graph.add("Add", graph.add("Add", center, support), graph.double(0.5))
    first = graph.add("Max", graph.truncated(low), graph.double(0))
    last = graph.add("Min", graph.truncated(high), size)
    pixels = graph.cast(graph.add("Range", graph.whole(0), source, graph.whole(1)), DOUBLE)
    away = graph.add("Add", graph.add("Sub", pixels, center), graph.double(0.5))
    taps = _kernel(graph, graph.add("Mul", away, graph.add("Div", graph.double(1), stretch)), spec.interpolation)
    inside = graph.add("And", graph.add("GreaterOrEqual", pixels, first), graph.add("Less", pixels, last))
    taps = graph.add("Where", inside, taps, graph.double(0))
    share = graph.add("Div", taps, graph.add("ReduceSum", taps, graph.constant([1], np.int64), keepdims=1))
    scaled = graph.add("Mul", share, graph.double(1 << BITS))
    half = graph.add("Where", graph.add("Less", scaled, graph.double(0)), graph.double(-0.5), graph.double(0.5))
    whole = graph.truncated(graph.add("Add", scaled, half))
    nearest = graph.add("Div", graph.add("Add", whole, graph.double(PIECE / 2)), graph.double(PIECE))
    coarse = graph.add("Floor", nearest)
    fine = graph.add("Sub", whole, graph.add("Mul", coarse, graph.double(PIECE)))
    return graph.cast(coarse, FLOAT), graph.cast(fine, FLOAT)


def _start(graph: Graph, target: str, spec: InputSpec) -> str:
    """Where the crop begins, rounded as the authors round it."""
    spare = graph.add("Sub", target, graph.whole(spec.size))
    if spec.crop_mode == "center" and spec.crop_rounding == "floor":
        return graph.cast(graph.add("Div", spare, graph.whole(2)), DOUBLE)
    return graph.add("Round", graph.add("Div", graph.cast(spare, DOUBLE), graph.double(2)))


def _kernel(graph: Graph, x: str, interpolation: str) -> str:
    """Pillow's filter, with its order of operations."""
    x = graph.add("Abs", x)
    if interpolation == "bilinear":
        return graph.add("Max", graph.add("Sub", graph.double(1), x), graph.double(0))
    near = graph.add("Sub", graph.add("Mul", graph.double(1.5), x), graph.double(2.5))
    near = graph.add("Add", graph.add("Mul", graph.add("Mul", near, x), x), graph.double(1))
    far = graph.add("Mul", graph.add("Sub", x, graph.double(5)), x)
    far = graph.add("Mul", graph.add("Add", far, graph.double(8)), x)
    far = graph.add("Mul", graph.add("Sub", far, graph.double(4)), graph.double(-0.5))
    reached = graph.add("Where", graph.add("Less", x, graph.double(2)), far, graph.double(0))
    return graph.add("Where", graph.add("Less", x, graph.double(1)), near, reached)


def _across(graph: Graph, image: str, pieces: tuple[str, str]) -> str:
    """Resize the width."""
    return _rounded(graph, *(graph.add("MatMul", image, graph.add("Transpose", piece)) for piece in pieces))


def _down(graph: Graph, image: str, pieces: tuple[str, str]) -> str:
    """Resize the height."""
    return _rounded(graph, *(graph.add("MatMul", piece, image) for piece in pieces))


def _rounded(graph: Graph, coarse: str, fine: str) -> str:
    """The pieces of the sums together, rounded and clipped to levels."""

    def whole(value: int) -> str:
        return graph.constant(value, np.int32)

    high, low = graph.cast(coarse, INT32), graph.cast(fine, INT32)
    total = graph.add("Add", graph.add("Mul", high, whole(PIECE)), low)
    # What is below 0 is clipped first: a division cuts off towards 0, where Pillow's shift rounds down.
    positive = graph.add("Max", graph.add("Add", total, whole(1 << (BITS - 1))), whole(0))
    return graph.cast(graph.add("Min", graph.add("Div", positive, whole(1 << BITS)), whole(255)), FLOAT)


def _normalised(graph: Graph, levels: str, spec: InputSpec) -> str:
    """Levels as the network wants them."""
    mean, std = (graph.constant(np.reshape(values, (3, 1, 1)), np.float32) for values in (spec.mean, spec.std))
    unit = graph.add("Div", levels, graph.constant(255, np.float32))
    return graph.add("Div", graph.add("Sub", unit, mean), std)
