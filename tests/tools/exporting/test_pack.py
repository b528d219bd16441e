"""What an export is compared on: every kind of view, and inputs on both sides of the thresholds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.exporting.columns import columns_of
from nsfw_guard.tools.exporting.pack import STARTS, STEPS, draw, inputs_of, steered


def test_a_folder_without_images_and_one_with_a_damaged_file_are_refused(model, tmp_path) -> None:
    with pytest.raises(ConfigError, match="no image found"):
        list(inputs_of(model, 1, [tmp_path]))
    (tmp_path / "damaged.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match=r"damaged\.png cannot be compared .*take it out"):
        list(inputs_of(model, 1, [tmp_path]))


def test_drawn_images_are_the_same_for_a_number_and_others_for_others() -> None:
    assert np.array_equal(draw(5), draw(5))
    assert len({draw(number).size for number in range(12)}) > 8


def test_images_of_a_folder_follow_the_drawn_ones(model, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), (9, 8, 7)).save(tmp_path / "a.png")
    *drawn, last = inputs_of(model, 4, [tmp_path])
    assert [one.images[0] for one in drawn] == [0, 1, 2, 3]
    assert set(last.images) == {4}
    assert last.pixels[0, :, 0, 0].tolist() == [9, 8, 7]


def test_steered_inputs_come_to_both_sides_of_the_thresholds(model) -> None:
    columns = columns_of(model.spec)
    given = list(steered(model, columns))
    assert len(given) == STEPS
    assert {one.images for one in given} == {(-1,) * STARTS}
    with torch.inference_mode():
        last = columns.of(model.to_probabilities(model.forward(given[-1].pixels)))[:, 0]
    before = columns.of(model.to_probabilities(model.forward(given[0].pixels)))[:, 0]
    assert float((last - 0.5).abs().max()) < 0.05 < float((before - 0.5).abs().max())
    near = torch.cat([columns.held(columns.of(model.to_probabilities(model.forward(one.pixels)))) for one in given])
    assert near.any()
    assert not near.all()
