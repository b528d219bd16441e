"""An .onnx file with the graph of the published OpenNSFW and random weights, and its authors' preprocessing."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

onnx = pytest.importorskip("onnx", reason="pip install onnx: the tests write a file with it")
pytest.importorskip("onnxruntime", reason="pip install onnxruntime: it runs the published file")
helper, numpy_helper, TensorProto = onnx.helper, onnx.numpy_helper, onnx.TensorProto

# Channels inside, channels out, blocks, stride of the first one: as read from the nodes of the published file.
STAGES = ((32, 128, 3, 1), (64, 256, 4, 2), (128, 512, 6, 2), (256, 1024, 3, 2))


class Graph:
    """Nodes and constants, one after the other."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        out = "outputs" if operation == "Softmax" else f"{operation}_{len(self.nodes)}:0"
        self.nodes.append(helper.make_node(operation, list(inputs), [out], **attributes))
        return out

    def constant(self, values: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(values, f"constant_{len(self.constants)}"))
        return self.constants[-1].name

    def normal(self, *shape: int, scale: float) -> str:
        return self.constant((torch.randn(shape) * scale).numpy())

    def convolve(self, values: str, width: int, out: int, side: int, stride: int, gain: float = 1.4) -> str:
        weight = self.normal(out, width, side, side, scale=gain / (width * side * side) ** 0.5)
        return self.add(
            "Conv", values, weight, self.normal(out, scale=0.05), dilations=[1, 1], strides=[stride, stride],
            kernel_shape=[side, side], pads=[side // 2] * 4,
        )  # fmt: skip

    def relu(self, values: str) -> str:
        return self.add("Relu", values)


def write(path: Path, classes: int = 2) -> Path:
    """Writes the file with torch's random numbers."""
    graph, width = Graph(), 64
    values = graph.add("Transpose", "input:0", perm=[0, 3, 1, 2])
    values = graph.relu(graph.convolve(values, 3, 64, 7, 2, gain=0.02))
    values = graph.add("MaxPool", values, strides=[2, 2], kernel_shape=[3, 3], pads=[0, 0, 1, 1])
    for inside, out, count, stride in STAGES:
        for i in range(count):
            step = 1 if i else stride
            beside = values if i else graph.convolve(values, width, out, 1, step, gain=1.0)
            values = graph.relu(graph.convolve(values, width, inside, 1, step))
            values = graph.relu(graph.convolve(values, inside, inside, 3, 1))
            values = graph.relu(graph.add("Add", graph.convolve(values, inside, out, 1, 1, gain=0.3), beside))
            width = out
    values = graph.add("AveragePool", values, strides=[1, 1], kernel_shape=[7, 7])
    values = graph.add("Reshape", values, graph.constant(np.array([-1, 1024])))
    values = graph.add("MatMul", values, graph.normal(1024, classes, scale=0.1))
    values = graph.add("Add", values, graph.normal(classes, scale=0.1))
    graph.add("Softmax", values, axis=1)
    takes = helper.make_tensor_value_info("input:0", TensorProto.FLOAT, ["n", 224, 224, 3])
    gives = helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["n", classes])
    whole = helper.make_graph(graph.nodes, "open-nsfw", [takes], [gives], graph.constants)
    onnx.save(helper.make_model(whole, ir_version=4, opset_imports=[helper.make_opsetid("", 9)]), path)
    return path


def prepared(image: Image.Image, *, jpeg: bool = False) -> np.ndarray:
    """The published preprocessing, with or without saving the image as a JPEG. Shape: (1, 224, 224, 3)."""
    square = image.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR).crop((16, 16, 240, 240))
    if jpeg:
        buffer = io.BytesIO()
        square.save(buffer, "JPEG")
        square = Image.open(buffer)
    return (np.asarray(square, np.float32)[None, :, :, ::-1] - np.array([104, 117, 123], np.float32)).copy()


def session(path: Path) -> Any:
    """The file in ONNX Runtime, on one thread."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def answer(runs: Any, values: np.ndarray) -> torch.Tensor:
    """The probabilities of one image."""
    return torch.from_numpy(runs.run(None, {"input:0": values})[0][0])
