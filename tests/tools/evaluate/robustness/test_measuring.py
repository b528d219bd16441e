"""Recall, its loss and false alarms by change, at thresholds with the same false alarms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from nsfw_guard.guard import Guard
from nsfw_guard.testing import FakeBackend, FaultyBackend
from nsfw_guard.tools.evaluate.robustness.changes import CHANGES
from nsfw_guard.tools.evaluate.robustness.layouts import LAYOUTS
from nsfw_guard.tools.evaluate.robustness.matched import Drop, matched_threshold
from nsfw_guard.tools.evaluate.robustness.measuring import pack_of, rows_of
from nsfw_guard.tools.evaluate.robustness.scoring import AS_IT_IS, ChangedImage, score_changes
from nsfw_guard.tools.evaluate.summary import Rate
from nsfw_guard.tools.teaching.labelled import LabelledImage, read_labelled
from tests.tools.evaluate.labelled.painting import painted

EVERY = {AS_IT_IS, *CHANGES, *LAYOUTS}


def images_of(folder: Path) -> list[LabelledImage]:
    return read_labelled([str(folder)], ["red"], {})


def test_thresholds_are_matched_by_false_alarms() -> None:
    scores = [0.1, 0.2, 0.2, 0.7, 0.9]
    assert matched_threshold(scores, 2, 0.5) == 0.5
    for alarms, flagged in ((0, 0), (1, 1), (2, 2), (3, 2), (4, 4), (5, 5)):
        at = matched_threshold(scores, alarms, 0.95)
        assert sum(score >= at for score in scores) == flagged  # two have the same score: both or none
    assert matched_threshold([], 0, 0.5) == 0.5


def test_a_drop_counts_pairs() -> None:
    drop = Drop(lost=8, gained=2, count=100)
    low, high = drop.interval
    assert drop.share == pytest.approx(0.06)
    assert -0.1 < low < 0.0
    assert 0.1 < high < 0.17
    assert Drop(50, 0, 50).interval[0] > 0.8
    assert Drop(0, 0, 0).to_dict()["drop"] is None
    assert math.isnan(Drop(0, 0, 0).share)


def test_the_interval_of_a_drop_holds_the_truth_often_enough() -> None:
    rng = np.random.default_rng(4)
    for lost, gained in ((0.3, 0.05), (0.02, 0.02), (0.9, 0.0)):
        held = 0
        for _ in range(300):
            counts = rng.multinomial(60, [lost, gained, 1 - lost - gained])
            low, high = Drop(int(counts[0]), int(counts[1]), 60).interval
            held += low <= lost - gained <= high
        assert held >= 285


def test_every_change_has_a_row_and_reds_are_lost_where_the_red_goes(tmp_path: Path) -> None:
    guards = {"red": Guard(FakeBackend())}
    images = list(score_changes(guards, images_of(painted(tmp_path))))
    rows = {row.change: row for row in rows_of(guards, images)}
    assert set(rows) == EVERY
    assert (rows[AS_IT_IS].recall, rows[AS_IT_IS].alarms, rows[AS_IT_IS].threshold) == (Rate(2, 4), Rate(1, 5), 0.5)
    assert rows["rotated by 180"].recall == Rate(2, 4)
    assert rows["rotated by 180"].drop == Drop(0, 0, 4)
    assert (rows["greyscale"].recall, rows["greyscale"].drop) == (Rate(0, 4), Drop(2, 0, 4))
    # At 0.95 red 60% of the side of white leave 0.15 of the area.
    assert rows["border 60% white"].recall == Rate(0, 4)
    assert rows["collage 4 x 4"].recall == Rate(0, 4)


def test_scores_are_the_same_each_time(tmp_path: Path) -> None:
    guards = {"red": Guard(FakeBackend())}
    images = images_of(painted(tmp_path))
    first, second = (list(score_changes(guards, images)) for _ in range(2))
    backwards = {one.image.path: one.scores for one in score_changes(guards, images[::-1])}
    assert [one.scores for one in first] == [one.scores for one in second]
    alone = {key: s for key, s in first[0].scores.items() if key[1] not in LAYOUTS}
    assert alone == {key: s for key, s in backwards[images[0].path].items() if key[1] not in LAYOUTS}


def test_guards_are_compared_at_the_same_false_alarms(tmp_path: Path) -> None:
    """A model that scores all twice as high has twice the threshold, and so the same rates."""
    half = FakeBackend()
    half.rule = lambda frame: FakeBackend().rule(frame) / 2
    guards = {"red": Guard(FakeBackend()), "half": Guard(half)}
    rows = rows_of(guards, list(score_changes(guards, images_of(painted(tmp_path)))))
    by_name = {(row.guard, row.change): row for row in rows}
    # Harmless images score 0, 0.05, 0.1, 0.3 and 0.75, of which 0.5 flags one; half of them, none.
    assert 0.15 < by_name["half", AS_IT_IS].threshold < 0.1501
    for change in ("rotated by 90", "greyscale", "JPEG quality 30"):
        assert by_name["red", change].alarms.hits <= by_name["half", change].alarms.hits
    assert by_name["half", AS_IT_IS].alarms == by_name["red", AS_IT_IS].alarms == Rate(1, 5)
    assert by_name["half", AS_IT_IS].recall == Rate(3, 4)


def test_what_was_not_judged_is_counted_and_in_no_rate(tmp_path: Path) -> None:
    painted(tmp_path)
    (tmp_path / "red" / "broken.png").write_bytes(b"no image")
    guards = {"red": Guard(FakeBackend()), "nan": Guard(FaultyBackend("nan")), "raises": Guard(FaultyBackend("raises"))}
    images = list(score_changes(guards, images_of(tmp_path)))
    pack = pack_of(guards, images)
    rows = {(row["model"], row["change"]): row for row in pack.content}
    assert rows["red", "noise"]["not_judged"] == 0
    for name in ("nan", "raises"):
        assert (rows[name, "noise"]["not_judged"], rows[name, "noise"]["recall"]["count"]) == (9, 0)
    lost = f"{2 * 9 * len(EVERY)} times a changed image was not judged, which a guard covers: it is in no rate"
    assert pack.notes == (lost,)
    assert (
        sum(all(math.isnan(s["red"]) for (name, _), s in one.scores.items() if name == "nan") for one in images) == 10
    )
    assert len(pack.rows) == 3 * len(EVERY)


def test_without_a_harmless_image_there_are_no_collages(tmp_path: Path) -> None:
    guards = {"red": Guard(FakeBackend())}
    images = list(score_changes(guards, images_of(painted(tmp_path, {"red": (19, 12)}))))
    pack = pack_of(guards, images)
    assert {row[0] for row in pack.rows} == EVERY - set(LAYOUTS)
    assert pack.notes == (
        "no harmless image: there are no collages and no false alarms, and thresholds are not matched",
    )
    assert pack_of(guards, [ChangedImage(LabelledImage("a.png", frozenset()))]).rows == ()


def test_without_an_unsafe_image_false_alarms_are_still_measured(tmp_path: Path) -> None:
    guards = {"red": Guard(FakeBackend())}
    images = list(score_changes(guards, images_of(painted(tmp_path, {"safe": (0, 15)}))))
    rows = {row.change: row for row in rows_of(guards, images)}
    assert set(rows) == EVERY
    assert (rows["rotated by 90"].alarms, rows["rotated by 90"].recall) == (Rate(1, 2), Rate(0, 0))
