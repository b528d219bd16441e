"""Rates and the confusion table, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsfw_guard.backends.spec import Label, ScoreSpec
from nsfw_guard.scores import Severity
from nsfw_guard.testing import FakeBackend, FaultyBackend
from nsfw_guard.tools.evaluate.harmless import ANY
from nsfw_guard.tools.evaluate.labelled.counts import truth_of
from nsfw_guard.tools.evaluate.summary import Rate
from nsfw_guard.tools.teaching.labelled import LabelledImage
from tests.tools.evaluate.labelled.painting import paint, painted, report_on

GRADED = ScoreSpec(
    name="graded",
    labels={"a": Label("gore", Severity.LOW), "b": Label("gore", Severity.MEDIUM), "c": Label("gore", Severity.HIGH),
            "d": Label("hate", Severity.HIGH)},
    positive=Severity.MEDIUM,
)  # fmt: skip


def image(*categories: str, **severities: Severity) -> LabelledImage:
    return LabelledImage("a.png", frozenset(categories), severities)


@pytest.mark.parametrize(
    ("labelled", "category", "severity", "truth"),
    [
        (image(), "gore", Severity.LOW, False),
        (image("hate"), "gore", Severity.LOW, False),
        (image("gore"), "gore", Severity.LOW, True),
        (image("gore"), "gore", Severity.MEDIUM, True),
        (image("gore"), "gore", Severity.HIGH, None),
        (image("gore", gore=Severity.LOW), "gore", Severity.LOW, True),
        (image("gore", gore=Severity.LOW), "gore", Severity.MEDIUM, False),
        (image("gore", gore=Severity.HIGH), "gore", Severity.HIGH, True),
        (image(), ANY, None, False),
        (image("gore", gore=Severity.LOW), ANY, None, False),
        (image("gore", gore=Severity.LOW), "gore", None, False),
        (image("hate"), ANY, None, True),
        (image("gore", "hate", gore=Severity.LOW), ANY, None, True),
    ],
)
def test_what_a_label_says_of_a_level(
    labelled: LabelledImage, category: str, severity: Severity | None, truth: bool | None
) -> None:
    assert truth_of(labelled, category, severity, GRADED) is truth


def test_rates_at_every_threshold(tmp_path: Path) -> None:
    (model,) = report_on(painted(tmp_path), {"red": FakeBackend()}).models
    rows = {row.criterion.threshold: row for row in model.rows if not row.slice}
    # Scores 0.95, 0.6, 0.4, 0.15 are labelled red, and 0, 0.05, 0.1, 0.3, 0.75 harmless.
    assert rows["default"].recall == Rate(2, 4)
    assert rows["default"].held == Rate(3, 4)
    assert rows["default"].alarms == Rate(1, 5)
    assert rows["default"].alarms_held == Rate(2, 5)
    assert rows["default"].precision == Rate(2, 3)
    assert (rows["strict"].recall, rows["strict"].alarms) == (Rate(3, 4), Rate(2, 5))
    assert (rows["lenient"].recall, rows["lenient"].precision) == (Rate(1, 4), Rate(1, 1))
    content = rows["default"].to_dict()
    assert content["recall"]["low"] == pytest.approx(0.0676, abs=1e-4)
    assert content["recall"]["high"] == pytest.approx(0.9324, abs=1e-4)


def test_rates_by_slice(tmp_path: Path) -> None:
    for number, columns in enumerate((19, 3, 0)):
        paint(tmp_path / f"{number}.png", columns)
    (tmp_path / "list.csv").write_text("path,label,style\n0.png,red,photo\n1.png,red,drawn\n2.png,safe,drawn\n")
    (model,) = report_on(tmp_path / "list.csv", {"red": FakeBackend()}, columns=["style"]).models
    rows = {row.slice: row for row in model.rows if row.criterion.threshold == "default"}
    assert (rows["style photo"].recall, rows["style photo"].alarms) == (Rate(1, 1), Rate(0, 0))
    assert (rows["style drawn"].recall, rows["style drawn"].alarms) == (Rate(0, 1), Rate(0, 1))
    assert rows[""].recall == Rate(1, 2)


def test_the_confusion_table_has_a_place_for_what_was_not_judged(tmp_path: Path) -> None:
    painted(tmp_path)
    (tmp_path / "red" / "broken.png").write_bytes(b"no image")
    red, broken = report_on(tmp_path, {"red": FakeBackend(), "broken": FaultyBackend("nan")}).models
    assert red.confusion.columns == ("below the threshold", "red", "not judged")
    assert red.confusion.rows == {"harmless": (4, 1, 0), "red": (2, 2, 1)}
    assert broken.confusion.rows == {"harmless": (0, 0, 5), "red": (0, 0, 5)}
    assert [Path(one.path).name for one in red.not_judged] == ["broken.png"]
    assert len(broken.not_judged) == 10
    assert broken.rows == ()
    assert red.confusion.to_dict()["labels"]["red"]["not judged"] == 1
