"""Video files in a scan: one row each, whole or an error, and never better than what was looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nsfw_guard.imaging.limits import Limits
from nsfw_guard.tools.screening.reporting.report import write
from nsfw_guard.tools.screening.results import rows_of
from nsfw_guard.tools.screening.scan import Scan
from nsfw_guard.tools.screening.scorer import ScanSettings
from tests.tools.screening.shapes import RED, paint, red  # noqa: F401

pytest.importorskip("av")

from tests.imaging.clips.drawing import clip, drawn


def film(*reds: int, count: int = 24) -> bytes:
    """A second of 24 frames, of which some are red."""
    frames = drawn(count)
    for index in reds:
        frames[index] = np.full_like(frames[index], (230, 20, 20))
    return clip(frames)


def scanned(folder: Path, out: Path, **settings: Any) -> dict[str, dict[str, Any]]:
    settings = {"model": RED, "batch_size": 4, **settings}
    list(Scan([str(folder)], out, settings=ScanSettings(**settings), kind="jsonl").run())
    return {Path(row["key"]).name: row for row in rows_of(out)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    paint(tmp_path / "in" / "a.png", "allow")
    paint(tmp_path / "in" / "z.png", "block")
    (tmp_path / "in" / "safe.mp4").write_bytes(film())
    (tmp_path / "in" / "spliced.mp4").write_bytes(film(12))
    (tmp_path / "in" / "long.mp4").write_bytes(film(3, 4, 5, 20))
    (tmp_path / "in" / "cut.mp4").write_bytes(film()[:-200])
    return tmp_path / "in"


def test_a_clip_is_a_row_with_its_flagged_stretches(folder: Path, tmp_path: Path) -> None:
    rows = scanned(folder, tmp_path / "out")
    assert {name: row["outcome"] for name, row in rows.items()} == {
        "a.png": "allow", "cut.mp4": "error", "long.mp4": "block", "safe.mp4": "allow", "spliced.mp4": "block",
        "z.png": "block",
    }  # fmt: skip
    assert rows["a.png"]["clip"] is None
    assert rows["safe.mp4"]["clip"] == {"frames": 24, "flagged": []}
    assert rows["spliced.mp4"]["clip"] == {"frames": 24, "flagged": [[0.5, 0.5]]}
    assert rows["long.mp4"]["clip"]["flagged"] == [[0.125, 0.208], [0.833, 0.833]]
    assert rows["cut.mp4"]["reason"].startswith("the clip cannot be judged")
    assert {row["model"] for row in rows.values()} == {"red"} or {row["model"] for row in rows.values()} == {RED}
    assert all(len(row["sha256"]) == 64 for row in rows.values())


def test_the_report_shows_the_first_frame_of_a_clip(folder: Path, tmp_path: Path) -> None:
    scanned(folder, tmp_path / "out")
    page = write(tmp_path / "out")[0].read_text(encoding="utf-8")
    assert "no longer there" not in page
    assert page.count("spliced.mp4") == 3
    assert page.count("<img ") == 3 * 5


@pytest.mark.parametrize("sampling", [{"every_nth": 4}, {"per_second": 2.0}])
def test_a_sampled_clip_is_at_best_under_review(sampling: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    rows = scanned(folder, tmp_path / "out", **sampling)
    assert rows["safe.mp4"]["outcome"] == "review"
    assert rows["safe.mp4"]["reason"].endswith("looked at")
    assert rows["safe.mp4"]["clip"]["frames"] < 24
    assert rows["a.png"]["outcome"] == "allow"


def test_a_clip_that_this_setting_cannot_judge_is_a_row_and_no_end(folder: Path, tmp_path: Path) -> None:
    rows = scanned(folder, tmp_path / "out", limits=Limits(process=True))
    assert rows["safe.mp4"]["outcome"] == "error"
    assert "process" in rows["safe.mp4"]["reason"]
    assert rows["a.png"]["outcome"] == "allow"


def test_without_its_library_a_clip_is_an_error_that_names_the_cure(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    rows = scanned(folder, tmp_path / "out")
    assert rows["safe.mp4"]["outcome"] == "error"
    assert "nsfw-guard[video]" in rows["safe.mp4"]["reason"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_every_format_holds_the_stretches(kind: str, folder: Path, tmp_path: Path) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    list(Scan([str(folder)], tmp_path / "out", settings=ScanSettings(model=RED), kind=kind).run())  # type: ignore[arg-type]
    rows = {Path(row["key"]).name: row["clip"] for row in rows_of(tmp_path / "out")}
    assert json.loads(rows["spliced.mp4"]) == {"frames": 24, "flagged": [[0.5, 0.5]]}
    assert rows["a.png"] == ""
