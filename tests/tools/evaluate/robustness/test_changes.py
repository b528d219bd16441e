"""Each change does what its name says, and the same each time."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.demo import shapes
from nsfw_guard.tools.evaluate.robustness.changes import CHANGES, dominant
from nsfw_guard.tools.evaluate.robustness.layouts import CELL, LAYOUTS, small

SCENE = shapes.draw(shapes.parse("a red triangle on cream, left"), side=120).resize((120, 90))
OTHERS = [Image.new("RGB", (50, 70), colour) for colour in ("blue", "navy")]
EXACT = {
    "flipped left to right": lambda levels: levels[:, ::-1],
    "flipped upside down": lambda levels: levels[::-1],
    "rotated by 90": np.rot90,
    "rotated by 180": lambda levels: np.rot90(levels, 2),
    "rotated by 270": lambda levels: np.rot90(levels, 3),
}
CREAM = shapes.BACKGROUNDS["cream"]


def changed(name: str, image: Image.Image = SCENE, seed: int = 0) -> np.ndarray:
    result = CHANGES[name](image, np.random.default_rng(seed))
    assert result.mode == "RGB"
    return np.asarray(result).astype(int)


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_changes_something_and_is_the_same_each_time(name: str) -> None:
    before = np.asarray(SCENE).copy()
    first, second = changed(name), changed(name)
    assert first.shape == second.shape
    assert (first == second).all()
    assert first.shape != before.shape or (first != before).any()
    assert (np.asarray(SCENE) == before).all()


@pytest.mark.parametrize("size", [(8, 8), (9, 300), (300, 9)])
@pytest.mark.parametrize("name", CHANGES)
def test_small_and_long_images_can_be_changed(name: str, size: tuple[int, int]) -> None:
    assert min(changed(name, SCENE.resize(size)).shape[:2]) >= 8


@pytest.mark.parametrize("name", EXACT)
def test_turns_are_exact(name: str) -> None:
    assert (changed(name) == EXACT[name](np.asarray(SCENE))).all()


@pytest.mark.parametrize("share", [10, 30, 60])
@pytest.mark.parametrize(("colour", "levels"), [("white", (255,) * 3), ("black", (0,) * 3), ("dominant", CREAM)])
def test_borders_take_their_share_of_the_side(share: int, colour: str, levels: tuple[int, int, int]) -> None:
    framed = changed(f"border {share}% {colour}")
    assert framed.shape[1] == pytest.approx(120 / (1 - share / 100), abs=1)
    assert framed[0, 0] == pytest.approx(levels, abs=2)
    inside = (framed.shape[0] - 90) // 2, (framed.shape[1] - 120) // 2
    assert (framed[inside[0] : inside[0] + 90, inside[1] : inside[1] + 120] == np.asarray(SCENE)).all()


def test_changes_of_levels() -> None:
    plain = np.asarray(SCENE).astype(int)
    assert (changed("noise") - plain).std() == pytest.approx(20, abs=6)  # 25, less what is clipped
    assert changed("low contrast").std() == pytest.approx(0.3 * plain.std(), rel=0.1)
    assert np.ptp(changed("greyscale"), axis=2).max() == 0
    assert changed("a quarter of the size").shape == (22, 30, 3)
    assert len(np.unique(changed("mosaic")[:, 0], axis=0)) <= 24
    errors = [np.abs(changed(f"JPEG quality {quality}") - plain).mean() for quality in (30, 10)]
    assert 0 < errors[0] < errors[1]


def test_the_dominant_colour_is_that_of_the_ground() -> None:
    assert dominant(SCENE) == pytest.approx(CREAM, abs=2)


@pytest.mark.parametrize(
    ("name", "columns", "rows"),
    [
        ("collage 2 x 2", 2, 2),
        ("collage 3 x 3", 3, 3),
        ("collage 4 x 4", 4, 4),
        ("strip 4:1", 4, 1),
        ("strip 1:4", 1, 4),
    ],
)
def test_the_image_is_in_one_cell_and_harmless_ones_in_the_others(name: str, columns: int, rows: int) -> None:
    assert len(LAYOUTS) == 5
    places = set()
    for seed in range(20):
        levels = np.asarray(LAYOUTS[name](SCENE, OTHERS, np.random.default_rng(seed))).astype(int)
        gap = 3
        assert levels.shape == (rows * 90 + (rows - 1) * gap, columns * 120 + (columns - 1) * gap, 3)
        cells = {
            (x, y): levels[y * (90 + gap) : y * (90 + gap) + 90, x * (120 + gap) : x * (120 + gap) + 120]
            for x in range(columns)
            for y in range(rows)
        }
        (at,) = [place for place, cell in cells.items() if (cell == np.asarray(SCENE)).all()]
        places.add(at)
        assert all(cell[..., :2].max() == 0 for place, cell in cells.items() if place != at)
        if columns > 1:
            assert (levels[:90, 120 : 120 + gap] == 255).all()
    assert len(places) > 2


def test_cells_are_no_larger_than_need_be() -> None:
    assert small(SCENE.resize((2048, 1024))).size == (CELL, CELL // 2)
    assert small(SCENE).size == SCENE.size
