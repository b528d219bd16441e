"""The resize in a graph gives Pillow's own levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nsfw_guard.errors import ConfigError
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.imaging.preprocess import Preprocess
from nsfw_guard.imaging.views import InputSpec
from nsfw_guard.tools.exporting.formats.onnx_export import OPSET
from nsfw_guard.tools.exporting.preprocessing import check_input, write_resize

pytest.importorskip("onnx", reason="pip install 'nsfw-guard[export]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'nsfw-guard[export]'")

SPECS = (
    InputSpec(size=64),
    InputSpec(size=48, interpolation="bilinear", crop_pct=0.875),
    InputSpec(size=65, crop_pct=0.9, crop_rounding="floor"),
    InputSpec(size=56, crop_mode="squash", crop_pct=0.8),
)
SIZES = ((1, 1), (7, 90), (64, 64), (65, 64), (200, 70), (70, 200), (151, 333), (333, 50), (20, 31), (256, 256))


@pytest.mark.parametrize("settings", [{"crop_mode": "border"}, {"interpolation": "bilinear-aligned"}], ids=str)
def test_an_input_that_has_no_graph_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="leave it out"):
        check_input(InputSpec(size=8, **settings))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.size} {spec.interpolation} {spec.crop_mode}")
def test_every_level_is_pillows_for_any_size(spec: InputSpec, tmp_path: Path) -> None:
    write_resize(tmp_path / "resize.onnx", spec, OPSET)
    session = onnxruntime.InferenceSession(str(tmp_path / "resize.onnx"), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for height, width in SIZES:
        noise = torch.from_numpy(rng.integers(0, 256, (2, 3, height, width), dtype=np.uint8))
        smooth = torch.from_numpy((np.indices((2, 3, height, width)).sum(0) % 256).astype(np.uint8))
        for pixels in (noise, smooth):
            expected = Preprocess(spec=spec, views="center").prepare(Frames(pixels)).pixels[:, 0]
            (levels,) = session.run(None, {"image": pixels.numpy()})
            assert np.array_equal(levels, expected.float().numpy()), (height, width)
