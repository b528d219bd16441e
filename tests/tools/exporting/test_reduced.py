"""8-bit weights: by channel, not in the layer that reads pixels, and with the network's own ports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nsfw_guard.backends.nets.onnx_model import OnnxRunner
from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.exporting.formats.network import INPUT
from nsfw_guard.tools.exporting.formats.reduced import to_weights_only

onnx = pytest.importorskip("onnx", reason="pip install 'nsfw-guard[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'nsfw-guard[export]'")


def network(path: Path) -> dict[str, np.ndarray]:
    """pixels -> MatMul(first) -> MatMul(second) -> Gemm(third, transposed)."""
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=(4, 4)).astype(np.float32) for name in ("first", "second", "third")}
    weights["second"][:, 1] *= 100  # its own scale, or the other columns would lose all their bits
    weights["second"][:, 2] = 0
    make = onnx.helper.make_node
    nodes = [make("MatMul", [INPUT, "first"], ["a"]), make("MatMul", ["a", "second"], ["b"]),
             make("Gemm", ["b", "third"], ["logits"], transB=1)]  # fmt: skip
    port = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "g", [port(INPUT, 1, ["n", 4])], [port("logits", 1, ["n", 4])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.save(model, path)
    return weights


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    network(tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    with pytest.raises(ConfigError, match="float32 only"):
        to_weights_only(tmp_path / "m.onnx")


def test_each_channel_has_its_scale_and_the_first_layer_keeps_its_numbers(tmp_path: Path) -> None:
    weights = network(tmp_path / "m.onnx")
    to_weights_only(tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model)
    kept = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert np.array_equal(kept["first"], weights["first"])
    assert not {"second", "third"} & kept.keys()
    for name, axis in (("second", 1), ("third", 0)):
        levels, scale = kept[f"{name}.{axis}.levels"], kept[f"{name}.{axis}.scale"]
        assert levels.dtype == np.int8
        restored = levels * (scale[None] if axis else scale[:, None])
        half_a_step = np.abs(weights[name]).max(axis=1 - axis, keepdims=True) / 254
        assert (np.abs(restored - weights[name]) <= half_a_step * 1.001).all()


def test_the_reduced_network_runs_and_is_near(tmp_path: Path) -> None:
    weights = network(tmp_path / "m.onnx")
    to_weights_only(tmp_path / "m.onnx")
    values = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    expected = values @ weights["first"] @ weights["second"] @ weights["third"].T
    (logits,) = OnnxRunner(tmp_path / "m.onnx").run(torch.from_numpy(values))
    assert np.abs(logits.numpy() - expected).max() < 0.01 * np.abs(expected).max()
