"""Two guards on the same images."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from nsfw_guard.backends.wrappers.calibrated import Calibrated
from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.testing import FakeBackend, FaultyBackend
from nsfw_guard.tools.evaluate.agreement import Agreement, Pair, agreement, images_on, to_html
from nsfw_guard.tools.evaluate.images import ImageFile
from nsfw_guard.tools.screening.scan import Scan
from nsfw_guard.tools.screening.scorer import ScanSettings
from nsfw_guard.verdict import Outcome
from tests.tools.browser import chromium, read_on_a_phone

ALLOW, REVIEW, BLOCK, ERROR = Outcome.ALLOW, Outcome.REVIEW, Outcome.BLOCK, Outcome.ERROR


@pytest.fixture
def files(tmp_path: Path) -> list[ImageFile]:
    """Nine images, the n-th of which is red by n eighths; the last file is no image."""
    paths = []
    for columns in range(9):
        image = Image.new("RGB", (16, 16), "blue")
        image.paste((255, 0, 0), (0, 0, 2 * columns, 16))
        paths.append(tmp_path / f"{columns}.png")
        image.save(paths[-1])
    paths.append(tmp_path / "9.png")
    paths[-1].write_bytes(b"no image")
    return [ImageFile(str(path)) for path in paths]


def compared(first: Guard, second: Guard, files: list[ImageFile]) -> Agreement:
    return Agreement(tuple(agreement(first, second, files)))


def test_a_model_that_fails_and_an_image_that_cannot_be_read_never_count_as_agreement(files: list[ImageFile]) -> None:
    broken = compared(Guard(FaultyBackend("raises")), Guard(FaultyBackend("raises")), files)
    assert broken.counts == {("error", "error"): 10}
    assert broken.agreed == (0, 0.0, 1.0)
    assert broken.flips() == []
    one = compared(Guard(FakeBackend()), Guard(FaultyBackend("raises")), files)
    assert len(one.judged) == 0
    assert all(pair.fault for pair in one.pairs)


def test_the_same_guard_twice_agrees_on_all_that_it_can_judge(files: list[ImageFile]) -> None:
    result = compared(Guard(FakeBackend()), Guard(FakeBackend()), files)
    assert result.agreed[0] == len(result.judged) == 9
    assert result.counts["error", "error"] == 1
    assert result.pairs[9].fault


def test_each_guard_has_its_policy_and_its_calibration(files: list[ImageFile]) -> None:
    plain = Guard(FakeBackend(), policy={"rules": {"red": {"block": 0.5}}})
    strict = Guard(FakeBackend(), policy={"rules": {"red": {"block": 0.2}}})
    result = compared(plain, strict, files)
    assert result.counts["allow", "block"] == 2
    assert [pair.outcomes for pair in result.flips()] == [(ALLOW, BLOCK)] * 2
    assert [Path(pair.path).stem for pair in result.flips()] == ["3", "2"]
    calibrated = Calibrated(FakeBackend(), Calibration(model="red", maps={"red": (1.0, 3.0)}))
    moved = Guard(calibrated, policy={"rules": {"red": {"block": 0.5}}})
    assert compared(plain, moved, files).counts["allow", "block"] >= 2


def test_flips_that_only_one_blocks_come_first_the_surest_first() -> None:
    pairs = [Pair("a", (ALLOW, REVIEW), (0.1, 0.9), (1.0, 2.0)), Pair("b", (ALLOW, BLOCK), (0.1, 0.6), (1.0, 2.0)),
             Pair("c", (BLOCK, REVIEW), (0.8, 0.4), (3.0, 2.0)), Pair("d", (ALLOW, ERROR), (0.1, 0.0), (1.0, 2.0), "x"),
             Pair("e", (ALLOW, ALLOW), (0.1, 0.1), (1.0, 5.0))]  # fmt: skip
    result = Agreement(tuple(pairs))
    assert [pair.path for pair in result.flips()] == ["c", "b", "a"]
    assert result.milliseconds == (1.0, 2.0)
    assert result.agreed[0] == 1
    facts = result.to_dict()
    assert (facts["images"], facts["judged"], facts["agreed"]) == (5, 4, 1)
    assert [one["path"] for one in facts["faults"]] == ["d"]


def test_images_come_from_folders_lists_and_scans_each_once(files: list[ImageFile], tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,other\n0.png,x\n3.png,y\n")
    assert [Path(one.path).name for one in images_on([str(tmp_path / "list.csv")])] == ["0.png", "3.png"]
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"{number}.png").write_bytes(Path(files[number].path).read_bytes())
    list(Scan([str(folder)], tmp_path / "scan", settings=ScanSettings(model="demo-shapes")).run())
    named = images_on([str(folder), str(tmp_path / "scan"), str(tmp_path / "list.csv")])
    assert sorted(Path(one.path).name for one in named) == ["0.png", "1.png", "2.png", "3.png"]
    (folder / "1.png").unlink()
    with pytest.raises(ConfigError, match=r"1\.png' of the scan is no file"):
        images_on([str(tmp_path / "scan")])


def test_a_list_without_paths_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text('{"label": "red"}\n')
    with pytest.raises(ConfigError, match=r"row 1 of list\.jsonl has no text 'path'"):
        images_on([str(tmp_path / "list.jsonl")])


def test_the_page_shows_what_differs_behind_a_blur_or_not_at_all(files: list[ImageFile]) -> None:
    plain = Guard(FakeBackend(), policy={"rules": {"red": {"block": 0.5}}})
    strict = Guard(FakeBackend(), policy={"rules": {"red": {"block": 0.2}}})
    result = compared(plain, strict, files)
    shown = to_html(result, ("<A>", "B"))
    assert shown.count("<img") == 2
    assert "&lt;A&gt;" in shown
    assert "<script" not in shown
    assert "<img" not in to_html(result, ("A", "B"), hidden=False)


@pytest.mark.slow
@chromium
def test_a_browser_shows_the_page_on_a_phone(files: list[ImageFile], tmp_path: Path) -> None:
    result = compared(Guard(FakeBackend()), Guard(FakeBackend(), policy={"rules": {"red": {"block": 0.2}}}), files)
    page = tmp_path / "report.html"
    page.write_text(to_html(result, ("A: a-model-with-a-rather-long-name-of-its-own", "B: models/" + "x" * 80)))
    read_on_a_phone(page, tmp_path)
