"""Writes model.onnx by torch's exporter, without anything that names this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nsfw_guard.backends.nets.network import NetBackend
from nsfw_guard.errors import ConfigError, MissingExtraError, first_line
from nsfw_guard.tools.exporting.formats.network import INPUT, OUTPUTS, exported_program, quiet

OPSET = 20
LARGEST = 1_800_000_000  # bytes of weights in one file: protobuf ends at 2 GiB


def needs_onnx() -> None:
    """Raise an error when a library that writes ONNX is not installed."""
    for library in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(library)
        except ModuleNotFoundError:
            raise MissingExtraError(library, "export") from None


def write_onnx(backend: NetBackend, path: Path) -> None:
    """Write the network in float32, for any number of rows. Weights beyond 1.8 GB are written beside it."""
    size = sum(weights.numel() * weights.element_size() for weights in backend.net.state_dict().values())
    try:
        with quiet(), torch.no_grad():
            program: Any = torch.onnx.export(
                exported_program(backend), dynamo=True, verbose=False, input_names=[INPUT], output_names=list(OUTPUTS),
                opset_version=OPSET,
            )  # fmt: skip
            program.save(str(path), external_data=size >= LARGEST)
    except OSError:
        raise
    except Exception as error:  # exporters raise errors of any type for a network that they cannot follow
        raise ConfigError(
            f"torch cannot export {backend.spec.name!r} to ONNX ({type(error).__name__}: {first_line(error)}): update "
            "torch and onnxscript, or export another model"
        ) from error
    _strip(path)


def load_whole(path: Path) -> Any:
    """Return the content of an .onnx file that has its weights in itself.

    Raises:
        ConfigError: it has some in another file.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    if any(tensor.external_data for tensor in model.graph.initializer):
        raise ConfigError(
            "networks beyond 1.8 GB can be exported in float32 only, without preprocessing: use --precision fp32, and "
            "leave out --with-preprocessing"
        )
    return model


def _strip(path: Path) -> None:
    """Take out the exporter's notes: names of its steps, and shapes that later steps would trip over."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    del model.graph.value_info[:]
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(model, path)
