"""The report of a scan: every image counted, those shown chosen well, and a page that leads nowhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.tools.screening import scan
from nsfw_guard.tools.screening.reporting import findings as findings_module
from nsfw_guard.tools.screening.reporting import report
from nsfw_guard.tools.screening.reporting.report import Sheets, find, write
from nsfw_guard.tools.screening.scan import Scan
from nsfw_guard.tools.screening.scorer import ScanSettings
from tests.tools.browser import chromium, read_on_a_phone
from tests.tools.screening.shapes import RED, paint, red  # noqa: F401


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Forty images from not red to wholly red, and two that cannot be read."""
    (tmp_path / "in").mkdir()
    for number in range(40):
        pixels = np.full((40, 40, 3), (0, 0, number), np.uint8)
        pixels[:, :number] = (255, 0, 0)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number:02d} <b>&.png")
    paint(tmp_path / "in" / "x.png", "error")
    paint(tmp_path / "in" / "y.png", "error")
    scanned(tmp_path / "in", tmp_path / "out")
    return tmp_path / "out"


def scanned(source: Path, out: Path) -> None:
    list(Scan([str(source)], out, settings=ScanSettings(model=RED), kind="jsonl").run())


def numbers(shown: list[findings_module.Shown]) -> list[int]:
    return [int(Path(one.entry.key).name[:2]) for one in shown]


def test_every_image_is_counted(out: Path) -> None:
    findings = find(out)
    assert dict(findings.outcomes) == {"allow": 10, "review": 10, "block": 20, "error": 2}
    assert dict(findings.categories) == {("red", "review"): 10, ("red", "block"): 20}
    assert sum(findings.bins) == 40
    assert sum(findings.reasons.values()) == 2


def test_the_sheets_hold_what_they_say(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings_module, "SHEET", 5)
    findings = find(out)
    assert numbers(findings.highest) == [39, 38, 37, 36, 35]
    # From 0.25 on an image is held for review, from 0.5 on it is blocked.
    assert {10, 11, 20, 21} < set(numbers(findings.nearest))
    assert {abs(one.rank) < 0.06 for one in findings.nearest} == {True}
    assert numbers(findings.sample) == numbers(find(out).sample)
    assert len(set(numbers(findings.sample))) == 5


def images_in(text: str) -> int:
    return text.count("<img ")


@pytest.mark.parametrize(
    ("sheets", "count", "hidden"), [("hidden", 72, True), ("shown", 72, False), ("none", 0, False)]
)
def test_images_are_hidden_shown_or_left_out(sheets: Sheets, count: int, hidden: bool, out: Path) -> None:
    page = write(out, sheets=sheets)[0].read_text(encoding="utf-8")
    assert images_in(page) == count
    assert ('<input type="checkbox">' in page) == hidden


def test_a_blurred_page_holds_nothing_else(out: Path) -> None:
    shown = set(re.findall(r'src="([^"]+)"', write(out, sheets="shown")[0].read_text(encoding="utf-8")))
    blurred = set(re.findall(r'src="([^"]+)"', write(out, sheets="blurred")[0].read_text(encoding="utf-8")))
    # Images of one colour stay what they are.
    assert len(shown & blurred) <= 2
    assert len(blurred) > 20


def test_the_page_loads_and_runs_nothing(out: Path) -> None:
    page = write(out)[0].read_text(encoding="utf-8")
    assert "<b>&.png" not in page
    assert "&lt;b&gt;&amp;.png" in page
    assert not re.search(r"<script|https?://|<link|@import|onclick", page)
    assert "scan-red" in page
    assert "42 images" in page


def test_an_image_that_is_gone_is_named(out: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "in").glob("39*"):
        path.unlink()
    page = write(out)[0].read_text(encoding="utf-8")
    assert page.count("no longer there") >= 1


def test_an_image_that_was_replaced_is_not_shown_under_the_score_of_another(out: Path, tmp_path: Path) -> None:
    before = images_in(write(out)[0].read_text(encoding="utf-8"))
    (path,) = (tmp_path / "in").glob("39*")
    Image.new("RGB", (40, 40), (1, 2, 3)).save(path)
    page = write(out)[0].read_text(encoding="utf-8")
    assert page.count("no longer there as it was") == before - images_in(page) > 0


def test_what_has_no_report(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="holds no scan"):
        write(tmp_path / "in")
    with pytest.raises(UnknownNameError):
        write(out, sheets="visible")  # type: ignore[arg-type]
    monkeypatch.setattr(scan, "CHUNK", 3)
    started = Scan([str(tmp_path / "in")], tmp_path / "begun", settings=ScanSettings(model=RED), kind="jsonl").run()
    next(started)
    started.close()
    with pytest.raises(ConfigError, match="is not finished"):
        write(tmp_path / "begun")
    assert not (tmp_path / "begun" / "report.html").exists()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_other_formats_give_the_same_page(kind: str, out: Path, tmp_path: Path) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    settings = ScanSettings(model=RED)
    list(Scan([str(tmp_path / "in")], tmp_path / kind, settings=settings, kind=kind).run())  # type: ignore[arg-type]
    first, second = find(out), find(tmp_path / kind)
    assert first == second


@pytest.mark.slow
@chromium
def test_a_browser_shows_the_page_on_a_phone(out: Path, tmp_path: Path) -> None:
    read_on_a_phone(write(out)[0], tmp_path)
    image = tmp_path / "page.png"
    with Image.open(image) as shot:
        assert len(shot.convert("RGB").getcolors(1 << 24) or []) > 100


def test_run_facts_are_on_the_page(out: Path) -> None:
    run = json.loads((out / "run.json").read_text())
    page = write(out)[0].read_text(encoding="utf-8")
    assert run["policy_hash"] in page
    assert "self_test: passed" in page


def test_an_outcome_of_another_hand_is_text(out: Path) -> None:
    part = out / "part-000000.jsonl"
    part.write_text(part.read_text().replace('"outcome": "block"', '"outcome": "<script>"'))
    page = report.write(out)[0].read_text()
    assert "<script>" not in page.lower()
    assert "&lt;SCRIPT&gt;" in page


def textured(path: Path, seed: int, *, side: int = 64, reddish: bool = False) -> None:
    """An image with enough in it for a hash; every third column is red, or none."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (8, 8), dtype=np.uint8)
    pixels = np.array(Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC).convert("RGB"))
    if reddish:  # too fine for the hash
        pixels[:, ::3] = (255, 0, 0)
    Image.fromarray(pixels).save(path)


def test_near_duplicates_are_one_group_and_once_on_a_sheet(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for seed in range(5):
        textured(source / f"{seed} alone.png", seed)
    textured(source / "6 small.png", 5)
    textured(source / "7 large.png", 5, side=256)
    textured(source / "8 red.png", 5, side=256, reddish=True)
    scanned(source, tmp_path / "out")
    findings = find(tmp_path / "out")
    (group,) = findings.groups
    assert (findings.grouped, findings.disagreeing) == (3, 1)
    assert group.outcomes == {"allow": 2, "review": 1}
    assert Path(group.shown.entry.key).name == "8 red.png"
    assert len(findings.highest) == 6
    page = write(tmp_path / "out")[0].read_text(encoding="utf-8")
    assert "3 images are copies of each other, or nearly, 1 groups of which were not judged alike" in page
    assert "2x allow 1x review" in page


def test_images_with_nothing_to_hash_are_no_near_duplicates(tmp_path: Path) -> None:
    for blue in range(4):
        paint(tmp_path / "in" / f"{blue}.png", "allow", blue)
    scanned(tmp_path / "in", tmp_path / "out")
    assert find(tmp_path / "out").groups == []
    assert "Near-duplicates" not in write(tmp_path / "out")[0].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"outcome": ["x"]}, "holds the outcome"), ({"outcome": None}, "holds the outcome"),
        ({"reason": {"a": 1}}, "holds the reason"), ({"category": ["x"], "outcome": "block"}, "holds the category"),
        (None, "is damaged"), ([1], "is damaged"),
    ],
)  # fmt: skip
def test_a_row_that_no_scan_has_written_is_an_error_with_a_cure(changed: object, why: str, out: Path) -> None:
    part = out / "part-000000.jsonl"
    first, *others = part.read_text().splitlines(keepends=True)
    row = {**json.loads(first), **changed} if isinstance(changed, dict) else changed
    part.write_text((json.dumps(row) if row else "no json") + "\n" + "".join(others))
    with pytest.raises(ConfigError, match=why):
        write(out)


def colours(image: Image.Image) -> int:
    """How much of an image is as red as the images of the scan are."""
    pixels = np.asarray(image.convert("RGB")).astype(int)
    return int(((pixels[..., 0] > 250) & (pixels[..., 1] < 5) & (pixels[..., 2] < 5)).sum())


def test_the_report_is_an_image_too_and_its_images_are_blurred(out: Path) -> None:
    sizes, sharp = {}, {}
    for sheets in get_args(Sheets):
        with Image.open(write(out, sheets=sheets)[1]) as image:
            sizes[sheets], sharp[sheets] = image.size, colours(image)
    assert sizes["hidden"] == sizes["shown"] == sizes["blurred"]
    assert sizes["none"][1] < sizes["shown"][1]
    assert sharp["none"] == 0
    # An image that is wholly red stays so, however it is blurred.
    assert 0 < sharp["hidden"] == sharp["blurred"] < sharp["shown"]


def test_an_image_that_has_gone_leaves_its_place_empty(out: Path, tmp_path: Path) -> None:
    before = colours(Image.open(write(out, sheets="shown")[1]))
    for path in (tmp_path / "in").iterdir():
        path.write_bytes(b"another file")
    after = Image.open(write(out, sheets="shown")[1])
    assert colours(after) == 0 < before
