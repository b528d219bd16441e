"""The zoo itself: every tiny pipeline is what its case says, and answers the same twice."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers", minversion="0.42")
pytest.importorskip("transformers")

from PIL import Image

from tests.pipelines.zoo import CASES, Case, run


def arrays(pictures: Any) -> np.ndarray:
    """Pictures of any kind as one array."""
    if isinstance(pictures, torch.Tensor):
        return pictures.float().numpy()
    if isinstance(pictures, (np.ndarray, Image.Image)):
        return np.asarray(pictures)
    return np.stack([arrays(one) for one in pictures])


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_case_is_what_it_says(case: Case):
    pipe = case.build()
    assert type(pipe).__name__ == case.name.split("/")[0]
    assert case.slot == ("safety_checker" in inspect.signature(type(pipe).__init__).parameters)

    kind = "pt" if "pt" in case.kinds else case.kinds[0]
    first, second = run(pipe, case, kind), run(pipe, case, kind)
    made, again = arrays(first), arrays(second)

    np.testing.assert_array_equal(made, again)
    assert len(first) == case.count
    assert not case.frames or len(first[0]) == case.frames
    assert np.isfinite(made).all()
    assert all(one.std() > 0.01 * (np.abs(one).max() or 1) for one in made), "a picture without structure"
    for other in set(case.kinds) - {kind}:
        assert all(np.isfinite(arrays(one)).all() for one in run(pipe, case, other)), other


def test_building_leaves_the_random_state_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    CASES["FluxPipeline"].build()
    assert torch.equal(torch.rand(1), expected)


def test_the_zoo_is_wide():
    assert len({case.name.split("/")[0] for case in CASES.values()}) >= 40
    assert len({case.family for case in CASES.values()}) >= 26
    pictures = [case for case in CASES.values() if not case.frames]
    assert sum(case.count > 1 for case in pictures) * 3 >= len(pictures)
