"""On a CUDA device: allowed images keep every bit, flagged ones never leave, in full and in half precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.attach import attach
from nsfw_guard.pipelines.early.stop import EarlyStop
from nsfw_guard.testing import FakeBackend
from tests.pipelines.drawing import arrays
from tests.pipelines.zoo import CASES

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]

NAMES = ["StableDiffusionPipeline", "StableDiffusionXLPipeline", "FluxPipeline", "KandinskyV22Pipeline", "WanPipeline"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["pil", "np", "pt"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_guard_follows_its_pipe(name, kind, dtype) -> None:
    case, pipe = CASES[name], CASES[name].build().to("cuda", dtype)

    def run():
        torch.manual_seed(0)
        call = {k: v.to("cuda", dtype) if isinstance(v, torch.Tensor) else v for k, v in case.call(pipe).items()}
        return pipe(**call, output_type=kind)

    plain = arrays(run()[case.field])
    with attach(pipe, Guard(FakeBackend(0.0))):
        assert all(np.array_equal(a, b) for a, b in zip(arrays(run()[case.field]), plain, strict=True))
    with attach(pipe, Guard(FakeBackend(1.0)), early_stop=EarlyStop()):
        out = run()
    assert out.nsfw_content_detected == [True] * case.count
    assert max(float(a.max()) for a in arrays(out[case.field])) <= 0
