"""The levels are those that the pipelines themselves save."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nsfw_guard.imaging.quantise import _levels, quantise

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def edges(dtype: torch.dtype) -> torch.Tensor:
    """Every value near a rounding edge, and outside the range. Shape: (1, 3, 130, 257)."""
    k = torch.arange(-1, 256, dtype=torch.float64)
    near = torch.cat([((k + d) / 127.5 - 1) for d in (-0.5, -1e-3, 0.0, 1e-3, 0.4999, 0.5, 0.5001)])
    values = near.repeat(3 * 130 * 257 // len(near) + 1)[: 3 * 130 * 257]
    return values.view(1, 3, 130, 257).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value_range", ["unit", "signed"])
def test_levels_are_those_of_the_pipelines_own_conversion(dtype, value_range) -> None:
    values = edges(dtype) if value_range == "signed" else (edges(torch.float64) * 0.5 + 0.5).clamp(0, 1).to(dtype)
    unit = (values * 0.5 + 0.5).clamp(0, 1) if value_range == "signed" else values
    expected = (unit.float().numpy() * 255).round().astype(np.uint8)

    levels, extremes = quantise(values, value_range)

    assert np.array_equal(levels.numpy(), expected)
    assert extremes.tolist() == [[values.float().min().item(), values.float().max().item()]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value_range", ["unit", "signed"])
def test_the_accelerators_arithmetic_gives_the_same_levels(dtype, value_range) -> None:
    values = edges(dtype)
    assert torch.equal(_levels(values, value_range).to(torch.uint8), quantise(values, value_range)[0])


def test_the_input_is_not_edited() -> None:
    values = edges(torch.float32)
    before = values.clone()
    quantise(values, "signed")
    quantise(values, "unit")
    assert torch.equal(values, before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_number_shows_in_the_extremes_of_its_own_frame(bad) -> None:
    values = torch.rand(3, 3, 200, 70)
    values[1, 2, 150, 3] = bad

    extremes = quantise(values, "unit")[1]

    assert not bool(extremes[1].isfinite().all())
    assert bool(extremes[[0, 2]].isfinite().all())


def test_strided_frames_are_read_as_they_are() -> None:
    values = torch.rand(2, 70, 40, 3).permute(0, 3, 1, 2)
    assert torch.equal(quantise(values, "unit")[0], quantise(values.contiguous(), "unit")[0])
