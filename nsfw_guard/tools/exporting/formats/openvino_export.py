"""Writes OpenVINO's IR from model.onnx. Reading and writing is part of its C++ code; its converter is not used."""

from __future__ import annotations

from pathlib import Path

from nsfw_guard.backends.files.ir_file import IR
from nsfw_guard.backends.nets.openvino_model import quiet_openvino
from nsfw_guard.errors import ConfigError, first_line


def write_ir(onnx_file: Path, *, half: bool) -> None:
    """Write model.xml and model.bin beside an .onnx file.

    Args:
        onnx_file: the network.
        half: whether weights are written in float16; OpenVINO would do so by default.
    """
    openvino = quiet_openvino()
    try:
        model = openvino.Core().read_model(str(onnx_file))
        openvino.save_model(model, str(onnx_file.with_name(IR)), compress_to_fp16=half)
    except RuntimeError as error:
        raise ConfigError(
            f"openvino cannot convert {onnx_file.name} ({first_line(error)}): update openvino, or use --to onnx"
        ) from error
