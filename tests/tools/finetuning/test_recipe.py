"""What a recipe accepts."""

from __future__ import annotations

import pytest

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.tools.finetuning.recipe import Part, Recipe


@pytest.mark.parametrize(
    ("setting", "value"),
    [("epochs", 0), ("batch_size", 0), ("blocks", 0), ("patience", -1), ("ema", 1.0), ("label_smoothing", 0.6),
     ("mixup", -1.0), ("balance", 1.5), ("validation", 0.6), ("validation", 0.0), ("learning_rate", 0.0),
     ("keep", float("nan"))],
)  # fmt: skip
def test_a_setting_out_of_its_range_is_refused_by_name(setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=setting):
        Recipe(**{setting: value})  # type: ignore[arg-type]


def test_an_unknown_way_to_vary_images_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="mirrored"):
        Recipe(vary=("mirrored",))


def test_the_hash_depends_on_every_setting() -> None:
    recipes = [Recipe(), Recipe(seed=1), Recipe(part=Part.FULL), Recipe(vary=()), Recipe(keep=0.5)]
    assert len({recipe.hash for recipe in recipes}) == len(recipes)
    assert Recipe().hash == Recipe().hash


def test_a_part_has_its_usual_rate_unless_one_is_given() -> None:
    assert Recipe(part=Part.FULL).rate == 2e-4
    assert Recipe(part=Part.LAST).rate == 5e-4
    assert Recipe(part=Part.FULL, learning_rate=0.1).rate == 0.1
