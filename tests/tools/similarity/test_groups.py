"""Groups of images by likeness, whatever their number."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nsfw_guard.tools.similarity import groups


def test_blocks_that_are_one_group_already_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_SIDE", 10)
    join, joins = groups._join, []

    def counted(parents: Tensor, first: Tensor, second: Tensor) -> Tensor:
        joins.append(1)
        return join(parents, first, second)

    monkeypatch.setattr(groups, "_join", counted)
    alike = torch.nn.functional.normalize(torch.ones(100, 4), dim=1)
    assert groups.joined(alike, 0.9).tolist() == [0] * 100
    assert len(joins) == 10  # of 55 pairs of blocks
    apart = torch.eye(30).repeat(2, 1)
    assert groups.joined(apart, 0.9).tolist() == [*range(30), *range(30)]
