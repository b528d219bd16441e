"""Runs models in OpenVINO: on the CPU, in float32, for images on any device."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.files.ir_file import IR, IR_WEIGHTS, ir_hashes
from nsfw_guard.backends.nets.exported import ONNX, Port, load_exported, load_hashed
from nsfw_guard.backends.nets.network import NetBackend
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import MissingExtraError, ScoringError, WeightsUnfitError, first_line

TELEMETRY = "openvino_telemetry"
_importing = threading.Lock()


def quiet_openvino() -> Any:
    """Import the module openvino without its telemetry.

    `import openvino` loads its converter, which sends an "import" event to an analytics service and keeps a counter and
    an id in the home folder, unless the user opted out by a file there. It does neither where the package
    openvino_telemetry cannot be imported, so that package is hidden during the import. Reading and running a model, all
    that is done here, is part of the C++ code, which reports nothing.
    """
    with _importing:
        modules: dict[str, Any] = sys.modules  # None in it means: must not be imported
        before = {name: modules[name] for name in [TELEMETRY] if name in modules}
        modules[TELEMETRY] = None
        try:
            import openvino
        except ModuleNotFoundError:
            raise MissingExtraError("openvino", "openvino") from None
        finally:
            del modules[TELEMETRY]
            modules.update(before)
    return openvino


class OpenvinoRunner:
    """An .onnx file, or an IR, compiled by OpenVINO for the CPU."""

    def __init__(self, path: Path) -> None:
        openvino = quiet_openvino()
        settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 on the processors that have it
            "EXECUTION_MODE_HINT": "ACCURACY",  # else activations are rounded to 8 bits where the weights are
            "PERFORMANCE_HINT": "LATENCY",
        }
        # The numbers of an IR are named, so that none but the hashed file is read.
        parts = [str(path)] if path.name != IR else [str(path), str(path.with_name(IR_WEIGHTS))]
        try:
            core = openvino.Core()
            self._compiled: Any = core.compile_model(core.read_model(*parts), "CPU", settings)
        except RuntimeError as error:
            raise WeightsUnfitError(
                f"openvino cannot read {path.name} ({first_line(error)}): export it again"
            ) from error
        self.name = f"openvino {openvino.__version__.partition('-')[0]} on the cpu"
        self.inputs = tuple(_port(port) for port in self._compiled.inputs)
        self.outputs = tuple(_port(port) for port in self._compiled.outputs)

    def run(self, values: Tensor) -> list[Tensor]:
        """Return every output, on the device of the input; the numbers are copied through the host."""
        try:
            # A new request for each call: requests are not thread-safe, and a call that hangs would hold a lock for
            # ever.
            request = self._compiled.create_infer_request()
            request.infer([values.cpu().numpy()])
            # Copies, since the request's memory is freed with it.
            outputs = [np.array(request.get_output_tensor(i).data) for i in range(len(self.outputs))]
        except RuntimeError as error:
            if "alloc" in str(error).lower():
                raise MemoryError(first_line(error)) from error
            raise ScoringError(f"openvino failed: {first_line(error)}") from error
        return [torch.from_numpy(out).to(values.device) for out in outputs]


def load_files(spec: ModelSpec, folder: Path, options: Options) -> NetBackend:
    """Load the exported network in a folder: model.onnx, else an IR."""
    if (folder / IR).is_file() and not (folder / ONNX).is_file():
        return load_hashed(OpenvinoRunner, spec, folder, options, lambda known: ir_hashes(folder, known))
    return load_exported(OpenvinoRunner, spec, folder, options)


def _port(port: Any) -> Port:
    shape = port.get_partial_shape()
    sides = None
    if shape.rank.is_static:
        sides = tuple(int(side.get_length()) if side.is_static else None for side in shape)
    dtype = {"f32": "float32"}.get(port.get_element_type().get_type_name(), port.get_element_type().get_type_name())
    return Port(min(port.get_names(), default=""), dtype, sides)
