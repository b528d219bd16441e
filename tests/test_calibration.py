"""A calibration keeps the order of scores and never makes a probability of what is none."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.scores import Region, Scores, Severity, View, ViewScores

LOW, _, HIGH = Severity
FULL = Calibration(
    model="red",
    maps={"red": (0.5, -1.25), "blue": (2.0, 0.0)},
    thresholds={
        "default": Threshold(block=0.5, review=0.25, source="measured", views={"side": 0.75}),
        "strict": Threshold(block=0.125),
    },
    source="500 images",
)


def moved(p: float, slope: float = 1.0, shift: float = 0.0) -> float:
    """One score through a calibration."""
    calibrated = Calibration(model="red", maps={"red": (slope, shift)}).apply(Scores.single({"red": {HIGH: p}}))
    return calibrated.worst["red"][HIGH]


@pytest.mark.parametrize("odd", [math.inf, -math.inf, 1.5, -0.5, math.nextafter(1.0, 2)])
def test_a_number_that_is_not_a_probability_is_unchanged(odd: float) -> None:
    assert moved(odd, 0.5, -3.0) == odd


def test_a_nan_stays_a_nan() -> None:
    assert math.isnan(moved(math.nan, 0.5, -3.0))


@pytest.mark.parametrize(
    ("p", "slope", "shift", "expected"),
    [
        (0.5, 1, 0, 0.5),
        (0.25, 1, 0, 0.25),
        (0.5, 1, math.log(3), 0.75),
        (0.5, 7, 0, 0.5),
        (0.75, 2, 0, 0.9),
        (0.9, 0.5, 0, 0.75),
        (0.1, 0.5, math.log(3), 0.5),
    ],
)
def test_the_logit_is_scaled_and_shifted(p: float, slope: float, shift: float, expected: float) -> None:
    assert moved(p, slope, shift) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("slope", [1e-6, 1.0, 40.0, 1e6, 1e300])
@pytest.mark.parametrize("shift", [-1e300, -1e4, 0.0, 1e4, 1e300])
def test_no_map_however_steep_breaks(slope: float, shift: float) -> None:
    if not abs(shift) < 50 * slope and shift:
        with pytest.raises(ConfigError, match="map every score to the same number: fit it again"):
            moved(0.5, slope, shift)
        return
    numbers = [moved(p, slope, shift) for p in (0.0, 1e-12, 0.25, 0.5, 0.75, 1.0)]
    assert all(0.0 <= p <= 1.0 for p in numbers)
    assert numbers == sorted(numbers)


@settings(max_examples=300, deadline=None)
@given(
    ps=st.lists(st.floats(0, 1), min_size=2, max_size=8),
    slope=st.floats(1e-3, 1e3),
    shift=st.floats(-1e3, 1e3),
)
def test_the_order_of_scores_is_kept(ps: list[float], slope: float, shift: float) -> None:
    try:
        calibrated = [moved(p, slope, shift) for p in sorted(ps)]
    except ConfigError:
        assert abs(shift) > 13 * slope, "a map that keeps scores apart"
        return
    assert all(0.0 <= p <= 1.0 for p in calibrated)
    assert all(a <= b + 1e-15 for a, b in pairwise(calibrated))


def test_each_category_has_its_own_map_and_one_without_stays() -> None:
    views = tuple(
        ViewScores(View(kind), {"red": {LOW: 0.5, HIGH: 0.1}, "blue": {HIGH: 0.75}, "green": {HIGH: 0.3}})
        for kind in ("full", "side")
    )
    calibrated = Calibration(model="red", maps={"red": (1, math.log(3)), "blue": (2, 0)}).apply(Scores(views))
    assert [view.view.kind for view in calibrated.views] == ["full", "side"]
    for view in calibrated.views:
        assert view.levels["red"][LOW] == pytest.approx(0.75)
        assert view.levels["red"][HIGH] == pytest.approx(0.25)
        assert view.levels["blue"][HIGH] == pytest.approx(0.9)
        assert view.levels["green"][HIGH] == 0.3


def test_only_the_scores_change_and_the_input_is_left_alone() -> None:
    given_ = Scores.single(
        {"red": {HIGH: 0.5}}, digest="ab", blank=True, fault="odd", embedding="e", regions=(Region(0, 0, 1, 1),)
    )
    calibrated = FULL.apply(given_)
    assert (calibrated.digest, calibrated.blank, calibrated.fault, calibrated.embedding, calibrated.regions) == (
        "ab", True, "odd", "e", given_.regions
    )  # fmt: skip
    assert given_.worst == {"red": {HIGH: 0.5}}
    assert calibrated.worst != given_.worst


@pytest.mark.parametrize(
    "pair", [(0, 0), (-1, 0), (math.nan, 0), (math.inf, 0), (1, math.nan), (1, math.inf), (1, -math.inf)]
)
def test_a_map_that_loses_the_order_is_refused(pair: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="calibration of 'red'"):
        Calibration(model="red", maps={"red": pair})


@pytest.mark.parametrize(
    "calibration", [FULL, Calibration(model="m", maps={}), Calibration(model="m", maps={"a": (1.0, 0.1)})]
)
def test_a_saved_calibration_is_loaded_unchanged(calibration: Calibration, tmp_path: Path) -> None:
    calibration.save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json") == calibration


def test_the_older_key_cuts_is_read_as_thresholds(tmp_path: Path) -> None:
    FULL.save(tmp_path / "calibration.json")
    text = (tmp_path / "calibration.json").read_text()
    (tmp_path / "calibration.json").write_text(text.replace('"thresholds"', '"cuts"'))
    assert Calibration.load(tmp_path / "calibration.json") == FULL


def content(**changed: Any) -> dict[str, Any]:
    return {"model": "red", "maps": {"red": [1.0, 0.0]}, "thresholds": {}, "source": "", **changed}


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "null", "3", "[]", '"text"', "{}", '{"model": "red"}', '{"maps": {}}',
        *(json.dumps(content(**c)) for c in (
            {"maps": None}, {"maps": []}, {"maps": {"red": 1.0}}, {"maps": {"red": [1.0]}},
            {"maps": {"red": [1.0, 0.0, 0.0]}}, {"maps": {"red": ["steep", 0.0]}}, {"maps": {"red": [None, 0.0]}},
            {"maps": {"red": [0.0, 0.0]}}, {"maps": {"red": [math.nan, 0.0]}}, {"maps": {"red": [1.0, math.inf]}},
            {"thresholds": []}, {"thresholds": {"default": 0.5}}, {"thresholds": {"default": {}}},
            {"thresholds": {"default": {"block": 0}}},
            {"thresholds": {"default": {"block": None}}}, {"thresholds": {"default": {"block": 0.5, "revue": 0.1}}},
            {"thresholds": {"default": {"block": 0.5, "review": 0.75}}}, {"extra": 1},
        )),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        Calibration.load(tmp_path / "bad.json")


@pytest.mark.parametrize("data", [b"\xff\xfe\xff", b"\x00" * 9])
def test_bytes_that_are_no_text_are_refused_with_the_cure(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(data)
    with pytest.raises(ConfigError, match=r"bad.json is not a calibration file .*: write one with Calibration.save"):
        Calibration.load(tmp_path / "bad.json")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ConfigError, match="is not a calibration file"):
            Calibration.load(path)


@pytest.mark.parametrize(
    ("points", "why"),
    [
        ([], "two or more points"),
        ([(0.1, 0.2)], "two or more points"),
        ([(0.1, 0.2), (0.1, 0.3)], "rise in both"),
        ([(0.1, 0.2), (0.3, 0.2)], "rise in both"),
        ([(0.1, 0.2), (0.3, 1.2)], "from 0 to 1"),
        ([(0.1, float("nan")), (0.3, 0.4)], "from 0 to 1"),
    ],
)
def test_a_curve_that_does_not_rise_is_refused(points: list[tuple[float, float]], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Calibration(model="red", maps={"red": (1.0, 0.0)}, curves={"red": tuple(points)})


def test_a_curve_keeps_order_to_both_ends_and_what_is_no_score() -> None:
    curved = Calibration(model="red", maps={"red": (1.0, 0.0)}, curves={"red": ((0.2, 0.1), (0.5, 0.7))})
    moved = [curved.moved("red", p) for p in (0.0, 0.1, 0.2, 0.3, 0.5, 0.9, 1.0)]
    assert moved == sorted(set(moved))
    assert (moved[0], moved[2], moved[-1]) == pytest.approx((0.0, 0.1, 1.0), abs=1e-6)
    assert math.isnan(curved.moved("red", float("nan")))
    assert curved.moved("red", 1.5) == 1.5


def test_maps_of_a_kind_of_view_hold_there_only(tmp_path: Path) -> None:
    by_kind = Calibration(model="red", maps={"red": (1.0, 0.0)}, views={"side": {"red": (1.0, -2.0)}}, revision="r")
    assert by_kind.moved("red", 0.5) == by_kind.moved("red", 0.5, kind="full") == 0.5
    assert by_kind.moved("red", 0.5, kind="side") == pytest.approx(0.1192, abs=1e-4)
    assert by_kind.lowest("red", 0.5) == by_kind.moved("red", 0.5, kind="side")
    by_kind.save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json") == by_kind
    with pytest.raises(ConfigError, match="maps 'blue', and `maps` does not"):
        Calibration(model="red", maps={"red": (1.0, 0.0)}, views={"side": {"blue": (1.0, 0.0)}})
