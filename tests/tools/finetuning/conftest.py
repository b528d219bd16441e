"""Drawn scenes in folders by label, for the tests of teaching."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nsfw_guard.demo import shapes

Draw = Callable[..., Path]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Return a function that draws so many scenes for each label, red-disc or other."""

    def drawn(counts: Mapping[str, int], *, seed: int = 0, name: str = "images", side: int = 64) -> Path:
        rng = np.random.default_rng(seed)
        for label, count in counts.items():
            folder = tmp_path / name / label
            folder.mkdir(parents=True)
            for number in range(count):
                scene = shapes.random_scene(rng)
                (shape,) = scene.shapes
                kind, colour = ("disc", "red") if label == "red-disc" else ("square", shape.colour)
                scene = replace(scene, shapes=(replace(shape, kind=kind, colour=colour),))
                shapes.draw(scene, side=side, rng=rng).save(folder / f"{number:04}.png")
        return tmp_path / name

    return drawn
