"""Scores of several models, made comparable."""

from __future__ import annotations

import math

import pytest

from nsfw_guard.backends.wrappers.alignment import aligned


def test_aligning_maps_the_threshold_to_a_half_and_keeps_the_order() -> None:
    assert [aligned(p, 0.8) for p in (0.0, 0.4, 0.8, 0.9, 1.0)] == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    assert aligned(1.0, 1.0) == 1.0
    assert aligned(0.999, 1.0) < 0.5
    assert math.isnan(aligned(float("nan"), 0.5))
    assert aligned(1.5, 0.5) == 1.5
