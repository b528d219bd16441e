"""The tiny model, exported once a session to each target."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from nsfw_guard.backends.nets.network import NetBackend
from nsfw_guard.backends.registry import load_model
from nsfw_guard.tools.exporting import deviation
from nsfw_guard.tools.exporting.export import export
from nsfw_guard.tools.exporting.result import ExportResult

DRAWN = 8  # images to compare on: the steered inputs are many more

Exported = Callable[..., ExportResult]


@pytest.fixture(scope="session")
def model(tiny: Path) -> NetBackend:
    backend = load_model(tiny)
    assert isinstance(backend, NetBackend)
    return backend


@pytest.fixture(scope="session")
def exported(model: NetBackend, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Exports the tiny model, each way once, the plain one with preprocessing; the folders must not be changed."""
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library, reason="pip install 'nsfw-guard[export]'")

    @cache
    def once(target: str, precision: str) -> ExportResult:
        whole = (target, precision) == ("onnx", "fp32")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(deviation, "IMAGES", 40)
            return export(
                model, tmp_path_factory.mktemp("exported") / f"{target}-{precision}", images=DRAWN, target=target,
                precision=precision, with_preprocessing=whole,
            )  # fmt: skip

    def go(target: str = "onnx", precision: str = "fp32") -> ExportResult:
        return once(target, precision)

    return go
