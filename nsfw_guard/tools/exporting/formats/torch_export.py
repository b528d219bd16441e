"""Writes files that torch itself runs. They hold code or pickles, so nothing in this package loads them later."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from nsfw_guard.backends.nets.network import NetBackend
from nsfw_guard.errors import ConfigError, first_line
from nsfw_guard.tools.exporting.formats.network import example, exported_program, quiet

Call = Callable[[torch.Tensor], Any]  # a written file, opened again: normalised pixels to logits and embedding
NAMES = {"torch-export": "model.pt2", "aoti": "model.aoti.pt2", "torchscript": "model.torchscript.pt"}
NOTES: Mapping[str, tuple[str, ...]] = {
    "torch-export": (),
    "aoti": ("the package holds machine code: it runs on processors like this one, with this release of torch",),
    "torchscript": ("TorchScript is deprecated by torch: use torch-export where you can",),
}


def write_torch(backend: NetBackend, folder: Path, target: str) -> tuple[Path, Call]:
    """Write the file of a target, and return it with what it does when it is opened again.

    Raises:
        ConfigError: there is no C++ compiler for a package, or torch cannot export the network.
    """
    path = folder / NAMES[target]
    if target == "aoti" and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++", "cl"))):
        raise ConfigError("--to aoti compiles C++, but no compiler is installed: install g++, or use --to torch-export")
    try:
        with torch.no_grad():
            return path, WRITERS[target](backend, path)
    except OSError:
        raise
    except Exception as error:  # exporters raise errors of any type for a network that they cannot follow
        raise ConfigError(
            f"torch cannot export {backend.spec.name!r} to {target} ({type(error).__name__}: {first_line(error)}): "
            "update torch, or use --to onnx"
        ) from error


def _program(backend: NetBackend, path: Path) -> Call:
    with quiet():
        torch.export.save(exported_program(backend), path)
        return torch.export.load(path).module()


def _package(backend: NetBackend, path: Path) -> Call:
    from torch import _inductor as inductor

    with quiet():
        inductor.aoti_compile_and_package(exported_program(backend), package_path=str(path))
        call: Call = inductor.aoti_load_package(str(path))
    return call


def _script(backend: NetBackend, path: Path) -> Call:
    net, given = example(backend)
    with warnings.catch_warnings():
        # The notes say that it is deprecated; that other batches give the same is compared afterwards.
        warnings.filterwarnings("ignore", message="`torch.jit", category=FutureWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        torch.jit.trace(net, given).save(str(path))  # type: ignore[no-untyped-call]
        call: Call = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return call


WRITERS: Mapping[str, Callable[[NetBackend, Path], Call]] = {
    "torch-export": _program, "aoti": _package, "torchscript": _script,
}  # fmt: skip
