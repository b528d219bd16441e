"""The page and the files: everything is in them, and they lead nowhere."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nsfw_guard.testing import FakeBackend, FaultyBackend
from nsfw_guard.tools.evaluate.labelled.curves import Bin
from nsfw_guard.tools.evaluate.labelled.drawing import HEIGHT, WIDTH, line_chart, reliability_chart
from nsfw_guard.tools.evaluate.labelled.page import to_html
from nsfw_guard.tools.evaluate.labelled.report import summarise_labelled
from nsfw_guard.tools.evaluate.labelled.writing import write, write_table
from nsfw_guard.tools.evaluate.summary import Rate
from tests.tools.browser import chromium, read_on_a_phone
from tests.tools.evaluate.labelled.painting import measured, painted, report_on


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return painted(tmp_path / "in <b>&")


def test_the_page_is_one_file_that_loads_and_runs_nothing(folder: Path, tmp_path: Path) -> None:
    report = report_on(folder, {"r<e>d": FakeBackend()}, labels={})
    content, page = write(report, tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"<script|https?://|<link|@import|onclick|<b>&|<e>", text)
    assert set(re.findall(r'src="([^,]*),', text)) == {"data:image/png;base64"}
    assert text.count("<label class=cover>") == 6  # three missed and three false alarms, each behind a blur
    assert "50.0% (6.8 to 93.2)" in text
    values = json.loads(content.read_text())
    (model,) = values["models"]
    (curve,) = model["curves"]
    assert values["labels"] == {"harmless": 5, "red": 4}
    assert curve["roc_auc"] == pytest.approx(16 / 20)
    assert [one["score"] for one in model["missed"]] == pytest.approx([0.15, 0.4, 0.6])
    assert [one["outcome"] for one in model["alarms"]] == ["block", "review", "allow"]


def test_sheets_are_shown_blurred_or_left_out(folder: Path) -> None:
    report = report_on(folder, {"red": FakeBackend()})
    shown, blurred, none = (to_html(report, sheet=sheet) for sheet in ("shown", "blurred", "none"))
    assert "<label class=cover>" not in shown + blurred + none
    assert (shown.count("<img"), blurred.count("<img"), none.count("<img")) == (6, 6, 0)
    assert re.findall(r'src="([^"]*)', shown) != re.findall(r'src="([^"]*)', blurred)


def test_a_file_that_has_gone_is_no_error(folder: Path) -> None:
    report = report_on(folder, {"red": FakeBackend()})
    shutil.rmtree(folder)
    assert to_html(report).count("no longer there as it was") == 6


def test_what_says_little_is_named(tmp_path: Path) -> None:
    report = report_on(painted(tmp_path, {"red": (19,)}), {"red": FakeBackend(), "broken": FaultyBackend("nan")})
    page = to_html(report)
    assert "1 image labelled red: too few to say more than the interval does" in page
    assert "no harmless image: false alarms are measured on images with other categories only" in page
    assert "images of one kind only: no curve can be drawn" in page
    assert "broken could not judge" in page
    harmless = report_on(painted(tmp_path / "b", {"safe": (1, 2)}), {"red": FakeBackend()})
    assert "no image of red: its recall is not measured" in harmless.notes


def test_charts_are_well_formed_and_stay_inside() -> None:
    chart = line_chart("a < b", "x", "y", [(0, 0), (0.5, 1), (1, 1)], {"default": (1.0, 0.0)})
    chart += reliability_chart("r", [Bin(0.2, Rate(0, 5)), Bin(0.9, Rate(5, 5))])
    tree = ElementTree.fromstring(f"<p>{chart}</p>")  # noqa: S314 - our own text
    places = [
        tuple(map(float, at.split(","))) for line in tree.iter("polyline") for at in line.get("points", "").split()
    ]
    assert len(places) > 20
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
    assert [node.text for node in tree.iter("b")] == ["a < b", "r"]


def test_the_table_has_a_row_for_each_image_and_model(folder: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    (folder / "safe" / "broken.png").write_bytes(b"no image")
    guards, criteria, samples, _ = measured(folder, {"red": FakeBackend(), "dull": FakeBackend(0.0)})
    path = write_table(guards, criteria, samples, tmp_path)
    assert path == tmp_path / "report.parquet"
    rows = parquet.read_table(path).to_pylist()
    assert len(rows) == 2 * 10
    by_key = {(Path(row["path"]).parent.name, Path(row["path"]).name, row["model"]): row for row in rows}
    first = by_key["red", "0.png", "red"]
    assert (first["labels"], first["outcome"], first["score red high"]) == (["red"], "block", pytest.approx(0.95))
    assert first["slices"] == ["aspect square", "size up to 256"]
    broken = by_key["safe", "broken.png", "red"]
    assert (broken["outcome"], broken["labels"], broken["score red high"]) == ("error", ["harmless"], None)
    assert "broken.png" not in broken["fault"]
    assert by_key["red", "0.png", "dull"]["outcome"] == "allow"


@pytest.mark.slow
@chromium
def test_a_browser_shows_the_page_on_a_phone(folder: Path, tmp_path: Path) -> None:
    guards, criteria, samples, _ = measured(folder, {"red": FakeBackend(), "a-model-with-a-long-name": FakeBackend()})
    report = summarise_labelled(guards, criteria, samples)
    _, page = write(report, tmp_path / "out")
    read_on_a_phone(page, tmp_path)
