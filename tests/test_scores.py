"""Numbers that no fault can hide in: what is no probability is seen, and a box that cannot be placed covers all."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from nsfw_guard.scores import Fixed, Region, Scores, Severity, View, ViewScores, number, plain

NAN, INF = math.nan, math.inf
LOW, MEDIUM, HIGH = Severity


def scores_of(*values: float) -> Scores:
    """One view a value."""
    return Scores(tuple(ViewScores(View("full"), {"red": {HIGH: value}}) for value in values))


@pytest.mark.parametrize(
    ("values", "finite"),
    [
        ((), False),
        ((NAN,), False),
        ((INF,), False),
        ((-INF,), False),
        ((1.0000001,), False),
        ((-0.0000001,), False),
        ((0.5, NAN), False),
        ((NAN, 0.5), False),
        ((0.0,), True),
        ((1.0,), True),
        ((0.5, 0.25), True),
    ],
)
def test_scores_are_finite_only_when_each_is_a_probability(values: tuple[float, ...], finite: bool) -> None:
    assert scores_of(*values).finite is finite


@pytest.mark.parametrize("levels", [{}, {"red": {}}])
def test_no_number_at_all_is_not_finite(levels: Any) -> None:
    assert not Scores.single(levels).finite


def test_one_nan_among_many_levels_is_seen() -> None:
    assert not Scores.single({"red": {LOW: 0.5, HIGH: 0.1}, "blue": {LOW: NAN}}).finite


@pytest.mark.parametrize(
    ("values", "expected"), [((0.25, 0.75), 0.75), ((0.75, 0.25), 0.75), ((0.5,), 0.5), ((1.5, 0.5), 1.5)]
)
def test_the_worst_is_the_highest_over_the_views(values: tuple[float, ...], expected: float) -> None:
    assert scores_of(*values).worst == {"red": {HIGH: expected}}


@pytest.mark.parametrize("values", [(NAN, 0.5), (0.5, NAN), (NAN,), (0.5, NAN, 0.75, 0.1)])
def test_the_worst_of_a_nan_is_the_nan(values: tuple[float, ...]) -> None:
    assert math.isnan(scores_of(*values).worst["red"][HIGH])


def test_the_worst_keeps_categories_and_levels_apart() -> None:
    first = ViewScores(View("full"), {"red": {LOW: 0.5, HIGH: 0.25}})
    second = ViewScores(View("side"), {"red": {LOW: 0.25, HIGH: 0.75}, "blue": {HIGH: 0.125}})
    assert Scores((first, second)).worst == {"red": {LOW: 0.5, HIGH: 0.75}, "blue": {HIGH: 0.125}}
    assert Scores(()).worst == {}


@pytest.mark.parametrize(
    ("value", "level"),
    [("low", LOW), ("Medium", MEDIUM), ("HIGH", HIGH), (1, LOW), (3, HIGH), (MEDIUM, MEDIUM)],
)
def test_a_severity_is_given_by_name_number_or_itself(value: Any, level: Severity) -> None:
    assert Severity.of(value) is level


@pytest.mark.parametrize("value", ["", "hi", "3", 0, 4, -1, 2.5, None, [1], True, False])
def test_anything_else_is_refused_as_a_severity(value: Any) -> None:
    with pytest.raises(ValueError, match="low, medium or high"):
        Severity.of(value)


def test_severities_are_ordered() -> None:
    assert LOW < MEDIUM < HIGH


@pytest.mark.parametrize(
    ("box", "clamped"),
    [
        ((0.25, 0.25, 0.75, 0.75), (0.25, 0.25, 0.75, 0.75)),
        ((-1, -2, 3, 4), (0, 0, 1, 1)),
        ((0.5, -0.5, 1.5, 0.5), (0.5, 0, 1, 0.5)),
        ((NAN, NAN, NAN, NAN), (0, 0, 1, 1)),
        ((NAN, 0.5, 0.75, 0.75), (0, 0.5, 0.75, 0.75)),
        ((0.5, 0.5, NAN, 0.75), (0.5, 0.5, 1, 0.75)),
        ((INF, -INF, -INF, INF), (0, 0, 1, 1)),
    ],
)
def test_a_region_is_clamped_and_what_cannot_be_placed_covers_everything(box: Any, clamped: Any) -> None:
    region = Region(*box)
    assert (region.left, region.top, region.right, region.bottom) == clamped


@pytest.mark.parametrize(
    "box", [(0, 0, 0, 1), (0, 0, 1, 0), (0.75, 0, 0.25, 1), (0, 0.75, 1, 0.25), (1.5, 0, 2, 1), (-2, 0, -1, 1)]
)
def test_an_empty_region_is_refused(box: Any) -> None:
    with pytest.raises(ValueError, match="covers nothing"):
        Region(*box)


def test_later_changes_by_the_caller_do_not_change_the_scores() -> None:
    levels = {"red": {HIGH: 0.75}}
    scores = Scores.single(levels)
    levels["red"][HIGH] = 0.0
    levels["blue"] = {HIGH: 1.0}
    assert scores.worst == {"red": {HIGH: 0.75}}


def test_scores_are_immutable() -> None:
    scores = scores_of(0.75)
    for owner, name in ((scores, "views"), (scores.views[0], "levels"), (Region(0, 0, 1, 1), "left")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(owner, name, ())


def test_single_passes_the_rest_on() -> None:
    scores = Scores.single({"red": {HIGH: 0.5}}, kind="side", digest="ab", blank=True, fault="no")
    assert scores.views == (ViewScores(View("side", (0.0, 0.0, 1.0, 1.0)), {"red": {HIGH: 0.5}}),)
    assert (scores.digest, scores.blank, scores.fault) == ("ab", True, "no")


def test_an_embedding_is_neither_compared_nor_shown() -> None:
    one, other = (Scores.single({}, embedding=torch.ones(size)) for size in (2, 3))
    assert one == other
    assert "tensor" not in repr(one)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))], ids=["deepcopy", "pickle"])  # noqa: S301
def test_scores_survive_a_copy(again: Any) -> None:
    scores = Scores.single(
        {"red": {HIGH: 0.5}}, embedding=torch.arange(3), regions=(Region(0, 0, 0.5, 1, "red", 0.75),), digest="ab"
    )
    copied = again(scores)
    assert copied == scores
    assert copied.embedding.tolist() == [0, 1, 2]
    assert copied.views[0].levels["red"][HIGH] == 0.5


def test_the_list_is_json_with_faults_as_text() -> None:
    assert scores_of(0.5, NAN).to_list() == [
        {"view": "full", "box": [0.0, 0.0, 1.0, 1.0], "levels": {"red": {"high": 0.5}}},
        {"view": "full", "box": [0.0, 0.0, 1.0, 1.0], "levels": {"red": {"high": "nan"}}},
    ]


@pytest.mark.parametrize(
    ("value", "written"), [(None, None), (0.0, 0.0), (0.5, 0.5), (NAN, "nan"), (INF, "inf"), (-INF, "-inf")]
)
def test_a_number_is_always_written_as_a_number(value: float | None, written: Any) -> None:
    assert number(value) == written


def test_a_fixed_mapping_is_immutable_but_can_be_copied() -> None:
    fixed = Fixed({"a": 1})
    for change in (
        lambda: fixed.update(b=2),
        lambda: fixed.__setitem__("a", 2),
        lambda: fixed.pop("a"),
        fixed.clear,
        lambda: fixed.setdefault("b", 2),
        fixed.popitem,
        lambda: fixed.__delitem__("a"),
        lambda: fixed.__ior__({"b": 2}),
    ):
        with pytest.raises(TypeError, match="is immutable"):
            change()
    assert fixed == copy.deepcopy(fixed) == pickle.loads(pickle.dumps(fixed)) == {"a": 1}  # noqa: S301
    assert type(copy.deepcopy(fixed)) is Fixed


# ---- numbers of other types


class Liar(float):
    """0.75 that calls itself 0.0, and is below everything."""

    def __float__(self) -> float:
        return 0.0

    def __lt__(self, other: object) -> bool:
        return True


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.75, 0.75), (1, 1.0), (np.float32(0.75), 0.75), (np.float64(0.75), 0.75), (np.int64(1), 1.0),
        (Decimal("0.75"), 0.75), (Fraction(3, 4), 0.75), (torch.tensor(0.75), 0.75), (Liar(0.75), 0.75),
    ],
)  # fmt: skip
def test_every_number_becomes_a_plain_float(value: Any, expected: float) -> None:
    region = Region(0, 0, 1, 1, "red", value)
    view = ViewScores(View("full"), {"red": {HIGH: value}}, {"told": value})
    for result in (plain(value), view.levels["red"][HIGH], view.details["told"], region.score):
        assert type(result) is float
        assert result == expected


@pytest.mark.parametrize(
    "value", [True, False, np.True_, np.False_, torch.tensor(False), "0.5", b"0", None, 0.5j, [0.5], {}, object()]
)
def test_booleans_texts_and_other_non_numbers_are_refused(value: Any) -> None:
    kind = type(value).__name__
    for build in (
        lambda: plain(value),
        lambda: Scores.single({"red": {HIGH: value}}),
        lambda: ViewScores(View("full"), {}, {"told": value}),
        lambda: Region(0, 0, 1, 1, "red", value),
        lambda: Region(value, 0, 1, 1),
    ):
        with pytest.raises(TypeError, match=f"a score must be a number from 0 to 1, got {kind}: return a float"):
            build()


def test_nan_and_infinity_are_kept() -> None:
    assert math.isnan(plain(np.float32("nan")))
    assert plain(Decimal("Infinity")) == INF
    assert not Scores.single({"red": {HIGH: Decimal("nan")}}).finite


def test_views_and_regions_are_copied_into_tuples() -> None:
    views, regions = [ViewScores(View("full"), {"red": {HIGH: 0.75}})], [Region(0, 0, 1, 1)]
    scores, read_once = Scores(views, regions=regions), Scores(iter(views), regions=iter(regions))  # type: ignore[arg-type]
    views.clear(), regions.clear()
    assert scores == read_once
    assert (len(scores.views), len(scores.regions)) == (1, 1)
    assert list(read_once.numbers()) == list(read_once.numbers()) == [0.75]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"views": ({"red": 0.5},)}, "views must contain only ViewScores objects"),
        ({"views": (Region(0, 0, 1, 1),)}, "views must contain only ViewScores objects"),
        ({"regions": ((0, 0, 1, 1),)}, "regions must contain only Region objects"),
        ({"digest": b"ab"}, "digest must be a str, got bytes"),
        ({"digest": None}, "digest must be a str, got NoneType"),
        ({"fault": 1}, "fault must be a str, got int"),
    ],
)
def test_parts_of_another_kind_are_refused(given: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        Scores(**{"views": (), **given})


def test_omitted_fields_have_empty_defaults() -> None:
    scores = Scores.single({"red": {HIGH: 0.5}})
    assert (scores.regions, scores.embedding, scores.digest, scores.blank, scores.fault) == ((), None, "", False, "")
    assert scores.views[0].view == View("full", (0.0, 0.0, 1.0, 1.0))
    assert (Region(0, 0, 1, 1).category, Region(0, 0, 1, 1).score) == ("", 1.0)


def test_details_are_in_the_list_where_there_are_some() -> None:
    view = ViewScores(View("side", (0.5, 0.0, 1.0, 1.0)), {"red": {HIGH: 0.5}}, {"a": 0.25, "b": NAN})
    assert Scores((view,)).to_list() == [
        {
            "view": "side", "box": [0.5, 0.0, 1.0, 1.0], "levels": {"red": {"high": 0.5}},
            "details": {"a": 0.25, "b": "nan"},
        }
    ]  # fmt: skip


# ---- how much a region covers


@pytest.mark.parametrize(
    ("region", "margin", "box"),
    [
        (Region(0.25, 0.5, 0.5, 0.75), 0.0, (512, 256, 768, 512)),
        (Region(0.25, 0.5, 0.5, 0.75), 0.125, (480, 224, 800, 544)),
        (Region(0.0, 0.0, 1.0, 1.0), 0.125, (0, 0, 1024, 1024)),
        (Region(0.5, 0.5, 0.53125, 0.53125), 0.0, (512, 512, 544, 544)),  # 1/32: the least there is
        (Region(0.5, 0.5, 0.515625, 0.53125), 0.0, (512, 504, 544, 536)),  # 1/64 wide: widened around its centre
        (Region(0.5, 0.5, 0.53125, 0.515625), 0.0, (504, 512, 536, 544)),
        (Region(0.5, 0.5, 0.515625, 0.515625), 1.0, (496, 496, 544, 544)),  # its margin is more than the least
        (Region(0.0, 0.0, 0.0078125, 0.0078125), 0.0, (0, 0, 20, 20)),  # at an edge: around its centre, cut off
        (Region(0.9921875, 0.9921875, 1.0, 1.0), 0.0, (1004, 1004, 1024, 1024)),
        (Region(0.0005, 0.0005, 0.4995, 0.4995), 0.0, (0, 0, 512, 512)),  # outwards
    ],
    ids=str,
)
def test_a_region_in_pixels(region: Region, margin: float, box: tuple[int, int, int, int]) -> None:
    assert region.pixels(1024, 1024, margin=margin) == box
    if not margin:
        assert region.pixels(1024, 1024) == box


def test_a_region_barely_under_the_minimum_is_widened() -> None:
    side = 0.5 + 1 / 33
    assert Region(0.5, 0.5, side, side).pixels(33 * 32, 33 * 32) == (527, 527, 561, 561)


@pytest.mark.parametrize(
    ("wide", "high", "tiny"),
    [
        (1 / 256, 1 / 256, False), (1 / 128, 1.0, False), (1.0, 1.0, False), (0.0039, 0.5, True), (0.5, 0.0039, True),
        (1e-9, 1e-9, True), (1 / 256, 1e-9, True), (1e-9, 1 / 256, True),
    ],
)  # fmt: skip
def test_a_region_below_a_pixel_of_what_models_see_is_tiny(wide: float, high: float, tiny: bool) -> None:
    assert Region(0.0, 0.0, wide, high).tiny is tiny
