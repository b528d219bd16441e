"""Tiny pipelines with random weights: real classes of diffusers, built in code."""

from __future__ import annotations

from tests.pipelines.zoo import dit, flux, ltx, modular, old, sd, video
from tests.pipelines.zoo.parts import Case

LISTED = [case for part in (sd, flux, dit, old, video, ltx, modular) for case in part.CASES]
CASES: dict[str, Case] = {case.name: case for case in LISTED}
assert len(CASES) == len(LISTED), "two cases share a name"
