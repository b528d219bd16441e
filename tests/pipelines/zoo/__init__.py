"""Tiny pipelines with random weights: real classes of diffusers, built in code."""

from __future__ import annotations

from tests.pipelines.zoo import flows, modular, old, sd, video
from tests.pipelines.zoo.parts import Case

CASES: dict[str, Case] = {case.name: case for part in (sd, flows, old, video, modular) for case in part.CASES}
