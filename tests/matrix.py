"""Long matrices: `make test` runs a share of each, in which every value of every axis occurs; `make test-all` all."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import product
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet


def latin(*axes: Sequence[Any], share: int = 3) -> list[ParameterSet]:
    """Every combination; one in `share` of them at once, chosen as in a Latin square, so that all pairs occur."""
    return [
        _param(tuple(axis[i] for axis, i in zip(axes, places, strict=True)), fast=sum(places) % share == 0)
        for places in product(*(range(len(axis)) for axis in axes))
    ]


def one_each(cases: Iterable[tuple[Any, ...]], group: Callable[[Any], Hashable]) -> list[ParameterSet]:
    """Every case; of each group one at once, another one in the next group."""
    groups: dict[Hashable, list[Any]] = {}
    for case in cases:
        groups.setdefault(group(case), []).append(case)
    return [
        _param(case, fast=place == turn % len(members))
        for turn, members in enumerate(groups.values())
        for place, case in enumerate(members)
    ]


def every(step: int, cases: Sequence[Any], *, start: int = 0) -> list[ParameterSet]:
    """Every case; one in `step` of them at once."""
    return [_param((case,), fast=index % step == start) for index, case in enumerate(cases)]


def _param(values: tuple[Any, ...], *, fast: bool) -> ParameterSet:
    return pytest.param(*values, marks=() if fast else pytest.mark.slow)
