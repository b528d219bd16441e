"""Writes model.onnx in float16 or with 8-bit weights. Inputs and outputs stay float32."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nsfw_guard.tools.exporting.formats.network import INPUT, quiet
from nsfw_guard.tools.exporting.formats.onnx_export import load_whole

Reduce = Callable[[Path], None]  # changes an .onnx file in its place
FLOAT = 1  # ONNX's number for float32
LEVELS = 127  # 8-bit weights are symmetric
TINY = 1e-12  # the least scale: a channel of zeros has none


def to_half(path: Path) -> None:
    """Convert weights and arithmetic to float16."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with quiet():
        model = convert_float_to_float16(load_whole(path), keep_io_types=True)
    onnx.save(model, path)


def to_dynamic(path: Path) -> None:
    """Round weights to 8 bits by channel, and activations while it runs."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    load_whole(path)
    with quiet(), _silent():
        quantize_dynamic(
            path, path, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"]
        )


def to_weights_only(path: Path) -> None:
    """Round weights to 8 bits by channel; the arithmetic stays float32, and so does the layer that reads the pixels.

    That layer has few weights, and rounding them moved scores of `demo-shapes` downwards three times as far.
    """
    import onnx

    model = load_whole(path)
    weights = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == FLOAT}
    rounded: dict[tuple[str, int], list[Any]] = {}
    for node in model.graph.node:
        layer = node.op_type in {"MatMul", "Gemm", "Conv"} and node.input[0] != INPUT
        if layer and node.input[1] in weights:
            key = node.input[1], _channel_axis(node, len(weights[node.input[1]].dims))
            if key not in rounded:
                rounded[key] = _rounded(weights[key[0]], key[1])
            node.input[1] = rounded[key][-1].output[0]
    nodes = list(model.graph.node)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    for field, whole in (
        (model.graph.initializer, [*kept, *(tensor for parts in rounded.values() for tensor in parts[:-1])]),
        (model.graph.node, [*(parts[-1] for parts in rounded.values()), *nodes]),
    ):
        del field[:]
        field.extend(whole)
    onnx.save(model, path)


def _channel_axis(node: Any, axes: int) -> int:
    """The axis of a weight along which its outputs lie."""
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if node.op_type == "Conv" or transposed else axes - 1


def _rounded(tensor: Any, axis: int) -> list[Any]:
    """The 8-bit weight, its scales, and the node that multiplies them."""
    from onnx import helper, numpy_helper

    weight = numpy_helper.to_array(tensor)
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.maximum(np.abs(weight).max(axis=others, keepdims=True), TINY).astype(np.float32) / LEVELS
    levels = np.clip(np.rint(weight / scale), -LEVELS, LEVELS).astype(np.int8)
    name = f"{tensor.name}.{axis}"
    names = [f"{name}.levels", f"{name}.scale"]
    return [
        numpy_helper.from_array(levels, names[0]),
        numpy_helper.from_array(scale.reshape(-1).astype(np.float32), names[1]),
        helper.make_node("DequantizeLinear", names, [f"{name}.restored"], axis=axis),
    ]


@contextmanager
def _silent() -> Iterator[None]:
    """Hide the advice that the quantiser logs, to shapes that are left out on purpose."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
