"""What counts as the same verdicts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nsfw_guard.tools.exporting.columns import Columns
from nsfw_guard.tools.exporting.pack import Inputs
from nsfw_guard.tools.exporting.parity import compare, refusal, why_refused
from nsfw_guard.tools.exporting.result import Parity

COLUMNS = Columns(torch.tensor([[1.0, 0.0]]), ((0.2, 0.5),))


def shown(*scores: float, images: tuple[int, ...] | None = None) -> list[Inputs]:
    """Inputs whose levels are their scores in percent."""
    pixels = torch.tensor([round(100 * score) for score in scores], dtype=torch.uint8).view(-1, 1, 1, 1)
    return [Inputs(pixels, images or tuple(range(len(scores))))]


def score(pixels: Tensor) -> Tensor:
    unsafe = pixels.flatten().double() / 100
    return torch.stack([unsafe, 1 - unsafe], 1)


def moved(by: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A network whose scores are moved by what a function returns for them."""

    def answer(pixels: Tensor) -> Tensor:
        unsafe = score(pixels)[:, 0]
        return torch.stack([unsafe + by(unsafe), 1 - unsafe - by(unsafe)], 1)

    return answer


def parity(**changes: float) -> Parity:
    """A comparison in which nothing changed, with changes."""
    unchanged = {"images": 1000, "inputs": 2000, "steered": 96, "blocked": 100, "max_change": 0.0, "margin": 0.0,
                 "flips": 0, "stricter": 0, "released": 0}  # fmt: skip
    return Parity(**{**unchanged, **changes})  # type: ignore[arg-type]


def test_an_exact_export_that_releases_an_image_is_counted_at_the_thresholds_as_they_are() -> None:
    down = moved(lambda unsafe: torch.full_like(unsafe, -0.01))
    measured = compare(score, down, shown(0.1, 0.5, 0.9), COLUMNS, exact=True)
    assert (measured.released, measured.flips, measured.blocked, measured.margin) == (1, 1, 2, 0.0)
    assert measured.max_change == pytest.approx(0.01)
    assert why_refused(measured, "fp32") == "at most 1e-05 is allowed"


def test_thresholds_are_lowered_by_twice_the_largest_change_so_that_nothing_is_released() -> None:
    down = moved(lambda unsafe: torch.full_like(unsafe, -0.01))
    measured = compare(score, down, shown(0.1, 0.3, 0.9), COLUMNS, exact=False)
    assert measured.margin == pytest.approx(0.02, abs=1e-4)
    assert measured.margin >= 2 * measured.max_change
    assert (measured.released, measured.flips, measured.stricter) == (0, 0, 0)
    assert why_refused(measured, "int8") == ""
    near = compare(score, down, shown(0.1, 0.5, 0.9), COLUMNS, exact=False)
    assert (near.released, near.flips, near.stricter) == (0, 1, 0)


def test_images_just_below_a_threshold_are_counted_where_most_are() -> None:
    first_down = moved(lambda unsafe: torch.where(unsafe < 0.1, -0.03, 0.0))
    images = shown(0.05, 0.18, 0.19, 0.48, 0.6)
    measured = compare(score, first_down, images, COLUMNS, exact=False)
    assert (measured.margin, measured.flips, measured.stricter) == (pytest.approx(0.06, abs=1e-4), 0, 2)


def test_a_nan_is_refused_even_where_it_blocks() -> None:
    broken = moved(lambda unsafe: torch.where(unsafe > 0.8, float("nan"), 0.0))
    for exact, precision in ((True, "fp32"), (False, "int8")):
        measured = compare(score, broken, shown(0.1, 0.9), COLUMNS, exact=exact)
        assert why_refused(measured, precision).startswith("at most")  # type: ignore[arg-type]


@pytest.mark.parametrize(("changes", "precision", "why"), [
    ({"max_change": 2e-5}, "fp32", "at most 1e-05"),
    ({"max_change": 0.03}, "int8", "at most 0.02"),
    ({"released": 1}, "int8", "must stay blocked"),
    ({"released": 1}, "fp32", "must stay blocked"),
    ({"blocked": 0}, "int8", "--parity FOLDER"),
    ({"flips": 2}, "int8", "at most 0.1%"),
    ({"flips": 2, "images": 10}, "fp32", "at most 0.1%"),
])  # fmt: skip
def test_each_limit_refuses(changes: dict[str, float], precision: str, why: str) -> None:
    assert why in why_refused(parity(**changes), precision)  # type: ignore[arg-type]


@pytest.mark.parametrize(("changes", "precision"), [
    ({}, "fp32"), ({"blocked": 0}, "fp32"), ({"max_change": 0.02, "flips": 1}, "int8"), ({"max_change": 1e-5}, "fp32"),
])  # fmt: skip
def test_what_is_within_the_limits_passes(changes: dict[str, float], precision: str) -> None:
    assert why_refused(parity(**changes), precision) == ""  # type: ignore[arg-type]


def test_an_image_flips_once_however_many_of_its_views_do_and_a_steered_input_never() -> None:
    up = moved(lambda unsafe: torch.full_like(unsafe, 0.02))
    measured = compare(score, up, shown(0.19, 0.49, 0.49, 0.6, images=(0, 0, -1, 1)), COLUMNS, exact=False)
    assert (measured.flips, measured.images, measured.steered, measured.inputs) == (1, 2, 1, 4)


def test_a_refusal_gives_the_numbers_of_every_way_and_a_cure() -> None:
    error = refusal("'tiny' in onnx, int8", {"dynamic": parity(flips=9), "weights-only": parity(released=3)}, "int8")
    assert "dynamic: " in str(error)
    assert "9 of 1000 images get another verdict" in str(error)
    assert "3 of 100 blocked inputs would be released with" in str(error)
    assert str(error).endswith("use a higher precision (--precision fp32)")
