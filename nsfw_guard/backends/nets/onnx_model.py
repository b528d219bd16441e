"""Runs models in ONNX Runtime: on the CPU, and on CUDA for images that are there."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.nets.exported import Port, load_exported
from nsfw_guard.backends.nets.network import NetBackend
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import MissingExtraError, ScoringError, WeightsUnfitError, first_line

log = logging.getLogger(__name__)

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class OnnxRunner:
    """An .onnx file in ONNX Runtime: one session per device, made for the first image on that device."""

    def __init__(self, path: Path, *, extra: str = "onnx") -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise MissingExtraError("onnxruntime", extra) from None
        # Its Windows builds report events to the system's telemetry unless this is turned off.
        onnxruntime.disable_telemetry_events()
        self.library: Any = onnxruntime
        self.path = path
        self._lock = threading.Lock()
        self._sessions: dict[torch.device, Any] = {}
        session = self._on(torch.device("cpu"))
        has_cuda = CUDA in onnxruntime.get_available_providers()
        self.name = f"onnxruntime {onnxruntime.__version__} on the cpu{' and cuda' if has_cuda else ''}"
        self.inputs = tuple(_port(port) for port in session.get_inputs())
        self.outputs = tuple(_port(port) for port in session.get_outputs())
        self.metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)

    def run(self, values: Tensor) -> list[Tensor]:
        """Return every output, on the device of the input; the numbers are copied through the host."""
        session = self._on(values.device)
        try:
            outputs = session.run(None, {self.inputs[0].name: values.cpu().numpy()})
        except Exception as error:  # its error classes derive from Exception, and moved between releases
            if "alloc" in str(error).lower():
                raise MemoryError(first_line(error)) from error
            raise ScoringError(f"onnxruntime failed: {first_line(error)}") from error
        return [torch.from_numpy(out).to(values.device) for out in outputs]

    def _on(self, device: torch.device) -> Any:
        """The session for a device."""
        with self._lock:
            if device not in self._sessions:
                self._sessions[device] = self._open(device)
            return self._sessions[device]

    def _open(self, device: torch.device) -> Any:
        settings = self.library.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 3
        # Where weights have 8 bits, activations would be rounded to 8 bits, too, for speed: 1 keeps them float32.
        settings.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
        wanted: list[Any] = [CPU]
        if device.type == "cuda" and CUDA in self.library.get_available_providers():
            wanted = [(CUDA, {"device_id": device.index or 0}), CPU]
        try:
            session = self.library.InferenceSession(str(self.path), settings, providers=wanted)
        except Exception as error:  # as above
            raise WeightsUnfitError(
                f"onnxruntime cannot read {self.path.name} ({first_line(error)}): export it again"
            ) from error
        if len(wanted) > 1 and CUDA not in session.get_providers():
            log.warning("onnxruntime cannot use %s: %s runs on the cpu", device, self.path.name)
        return session


def load_files(spec: ModelSpec, folder: Path, options: Options) -> NetBackend:
    """Load the exported network in a folder."""
    return load_exported(OnnxRunner, spec, folder, options)


def _port(port: Any) -> Port:
    dtype = {"tensor(float)": "float32"}.get(port.type, str(port.type))
    return Port(port.name, dtype, tuple(side if isinstance(side, int) and side > 0 else None for side in port.shape))
