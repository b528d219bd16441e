"""The report: its counts, and files that hold everything and lead nowhere."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.testing import FakeBackend, FaultyBackend
from nsfw_guard.tools.evaluate.harmless import Answer, MeasuredImage, criteria_of, measure
from nsfw_guard.tools.evaluate.images import Collection, ImageFile, collect
from nsfw_guard.tools.evaluate.intervals import clopper_pearson
from nsfw_guard.tools.evaluate.page import percent
from nsfw_guard.tools.evaluate.report import prepare, write
from nsfw_guard.tools.evaluate.sheet import GROUND, MAX_SHOWN, short
from nsfw_guard.tools.evaluate.summary import HarmlessReport, Rate, summarise
from nsfw_guard.verdict import Outcome

REDS = {"icon": (0, 0, 12), "photograph": (0, 19), "photograph+people": (6,)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images of which a part is red, and a file that is no image."""
    for kind, reds in REDS.items():
        for number, red in enumerate(reds):
            image = Image.new("RGB", (40, 40), (0, 0, 10 * len(kind) + number))
            image.paste((255, 0, 0), (0, 0, 2 * red, 40))
            path = tmp_path / "in" / kind / f"{number}<b>&.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    return tmp_path / "in"


def report_on(folder: Path, **backends: Any) -> HarmlessReport:
    guards = {name: Guard(backend) for name, backend in backends.items()}
    collection = collect([str(folder)])
    criteria = {name: criteria_of(guard) for name, guard in guards.items()}
    return summarise(guards, criteria, collection, list(measure(guards, criteria, collection.files)), worst=3)


def test_counts_by_slice_and_threshold(folder: Path) -> None:
    (model,) = report_on(folder, red=FakeBackend()).models
    counts = {
        (row.slice, row.criterion.threshold): (row.blocked.hits, row.review.hits, row.blocked.count)
        for row in model.rows
    }
    assert counts["", "default"] == (2, 3, 6)
    assert counts["", "strict"] == (3, 3, 6)
    assert counts["", "lenient"] == (1, 2, 6)
    assert counts["icon", "default"] == (1, 1, 3)
    assert counts["photograph", "default"] == (1, 2, 3)
    assert counts["people", "default"] == (0, 1, 1)
    assert counts["aspect square", "default"] == (2, 3, 6)
    assert counts["size up to 256", "default"] == (2, 3, 6)
    assert list(dict.fromkeys(row.slice for row in model.rows)) == [
        "", "icon", "people", "photograph", "aspect square", "size up to 256",
    ]  # fmt: skip


def test_what_was_not_judged_is_listed_and_in_no_rate(folder: Path) -> None:
    red, broken = report_on(folder, red=FakeBackend(), broken=FaultyBackend("raises")).models
    assert [Path(one.path).name for one in red.not_judged] == ["broken.png"]
    assert len(broken.not_judged) == 7
    assert {(row.blocked.hits, row.blocked.count) for row in broken.rows} == {(0, 0)}
    assert broken.worst == ()
    assert sum(broken.histogram) == 0


def test_the_highest_scores_come_first_and_the_histogram_counts_all(folder: Path) -> None:
    (model,) = report_on(folder, red=FakeBackend()).models
    assert [alarm.score for alarm in model.worst] == pytest.approx([0.95, 0.6, 0.3])
    assert [alarm.outcome for alarm in model.worst] == [Outcome.BLOCK, Outcome.BLOCK, Outcome.REVIEW]
    # 0.95 is a little less in float32.
    assert [(i, n) for i, n in enumerate(model.histogram) if n] == [(0, 3), (6, 1), (12, 1), (18, 1)]


def test_the_report_as_json_has_every_rate_with_its_interval(folder: Path) -> None:
    content = json.loads(json.dumps(report_on(folder, red=FakeBackend()).to_dict()))
    assert content["images"] == 7
    assert content["slices"]["all"] == 6
    (model,) = content["models"]
    (row,) = [r for r in model["rates"] if (r["slice"], r["threshold"]) == ("all", "default")]
    low, high = clopper_pearson(2, 6)
    assert row["blocked"] == {"hits": 2, "count": 6, "rate": 2 / 6, "low": low, "high": high}
    assert (row["category"], row["severity"], row["block"]) == ("red", "high", 0.5)
    assert model["state"]["self_test"] == "passed"


def test_a_rate_of_nothing_is_no_zero() -> None:
    assert Rate(0, 0).to_dict()["rate"] is None
    assert percent(Rate(0, 0)) == "-"
    assert percent(Rate(3, 1000)) == "0.3% (0.1 to 0.9)"


def test_the_page_is_one_file_that_loads_and_runs_nothing(folder: Path, tmp_path: Path) -> None:
    _, page, *_ = write(report_on(folder, red=FakeBackend()), tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert "<b>&" not in text
    assert "&lt;b&gt;&amp;" in text
    assert not re.search(r"<script|https?://|<link|@import", text)
    assert set(re.findall(r'src="([^,]*),', text)) == {"data:image/png;base64"}
    assert text.count("<figure>") == 3


def test_sheets_are_shown_blurred_or_left_out(folder: Path, tmp_path: Path) -> None:
    report = report_on(folder, **{"../red": FakeBackend(), "dull": FakeBackend(0.0)})
    shown = write(report, tmp_path / "shown")
    blurred = write(report, tmp_path / "blurred", sheet="blurred")
    none = write(report, tmp_path / "none", sheet="none")
    names = ["report.json", "report.html", "highest-1-red.png", "highest-2-dull.png"]
    assert [path.name for path in shown] == names
    assert all(path.parent == tmp_path / "shown" for path in shown)
    assert [path.name for path in none] == names[:2]
    assert "<img" not in none[1].read_text()
    first, second = (Image.open(paths[2]) for paths in (shown, blurred))
    assert first.size == second.size
    assert first.tobytes() != second.tobytes()


def test_nothing_judged_makes_a_report_too(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no image")
    paths = write(report_on(tmp_path / "in", red=FakeBackend()), tmp_path / "out")
    assert all(path.stat().st_size for path in paths)


def test_long_names_are_cut_in_the_middle() -> None:
    assert short("a/b/" + "x" * 20 + "y" * 20) == "x" * 13 + "..." + "y" * 13
    assert short("folder/short.png") == "short.png"


@pytest.mark.skipif(sys.platform not in {"linux", "freebsd"}, reason="elsewhere names of files are text")
def test_names_that_are_no_text_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "in" / os.fsdecode(b"dir\xfe") / os.fsdecode(b"a\xff\n\x1b[31m.png")
    path.parent.mkdir(parents=True)
    Image.new("RGB", (40, 40), "red").save(path)
    content, page, _ = write(report_on(tmp_path / "in", **{"m\udcff": FakeBackend()}), tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert text.count("dir\\udcfe") == 2  # a slice, and how many images it has
    assert "<small>a\\udcff\\n\\x1b[31m.png</small>" in text
    assert "<h2>m\\udcff</h2>" in text
    (model,) = json.loads(content.read_text(encoding="utf-8"))["models"]
    assert [one["path"] for one in model["worst"]] == [str(path)]


def test_an_image_that_has_gone_leaves_a_blank_place(folder: Path, tmp_path: Path) -> None:
    report = report_on(folder, red=FakeBackend())
    Path(report.models[0].worst[0].path).unlink()
    Path(report.models[0].worst[1].path).write_bytes(b"another file")
    content, page, sheet = write(report, tmp_path / "out")
    assert page.read_text(encoding="utf-8").count("<figure>") == 3
    assert len(json.loads(content.read_text())["models"][0]["worst"]) == 3
    with Image.open(sheet) as image:
        assert image.getpixel((100, 150)) == GROUND


def test_a_sheet_shows_so_many_at_most(tmp_path: Path) -> None:
    for number in range(MAX_SHOWN + 1):
        path = tmp_path / "in" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (1, 1), (number, 0, 0)).save(path)
    guards, collection = {"red": Guard(FakeBackend())}, collect([str(tmp_path / "in")])
    criteria = {"red": criteria_of(guards["red"])}
    images = list(measure(guards, criteria, collection.files))
    content, page, _ = write(summarise(guards, criteria, collection, images, worst=999), tmp_path / "out")
    assert page.read_text(encoding="utf-8").count("<figure>") == MAX_SHOWN
    assert len(json.loads(content.read_text())["models"][0]["worst"]) == MAX_SHOWN + 1


@pytest.mark.parametrize("out", ["in", "in/out", "in/none/../out", "link"])
def test_a_report_into_the_measured_folder_is_refused(out: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(ConfigError, match="would be measured the next time: pass --out with a folder elsewhere"):
        prepare(tmp_path / out, [str(tmp_path / "other"), str(folder)])
    assert not (folder / "out").exists()


@pytest.mark.parametrize("out", ["file", "file/out"])
def test_a_folder_that_cannot_be_written_is_refused_before_measuring(out: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(ConfigError, match="cannot be written"):
        prepare(tmp_path / out, [str(tmp_path / "in")])
    prepare(tmp_path / "new" / "out", [str(tmp_path / "in")])
    assert list((tmp_path / "new" / "out").iterdir()) == []


def test_many_images_in_many_slices_are_counted_in_one_pass() -> None:
    guards = {"red": Guard(FakeBackend())}
    criteria = {"red": criteria_of(guards["red"])}
    answers = [Answer((outcome,) * 3, {}) for outcome in (Outcome.ALLOW, Outcome.REVIEW, Outcome.BLOCK)]
    images = [
        MeasuredImage(ImageFile(str(i)), ("", f"kind {i % 400}"), {"red": answers[i % 3]}, {"red": 0.0}, 0.0)
        for i in range(12_000)
    ]
    began = time.perf_counter()
    (model,) = summarise(guards, criteria, Collection(()), images).models
    assert time.perf_counter() - began < 2
    by_slice = {(row.slice, row.blocked.hits, row.review.hits, row.blocked.count) for row in model.rows}
    assert by_slice == {("", 4000, 8000, 12_000), *((f"kind {i}", 10, 20, 30) for i in range(400))}
