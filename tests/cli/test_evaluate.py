"""evaluate on labelled images: exit codes, JSON lines, and the way from a sample to an estimate."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.registry import register_model, unregister_model
from nsfw_guard.testing import FakeBackend, red_model
from tests.cli.conftest import Run, label


@pytest.fixture
def shifting() -> Iterator[str]:
    """A model that scores half as high in bfloat16."""

    def build(spec: Any, options: Options) -> FakeBackend:
        backend = FakeBackend()
        share = 0.5 if options.dtype is torch.bfloat16 else 1.0
        backend.rule = lambda frame: share * FakeBackend().rule(frame)
        backend.spec = spec
        return backend

    register_model(red_model("shifting"), build)
    yield "shifting"
    unregister_model("shifting")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    label(tmp_path / "labelled")
    return tmp_path / "labelled"


def test_a_block_that_becomes_an_allow_exits_with_1(run: Run, shifting: str, labelled: Path, tmp_path: Path) -> None:
    ran = run("evaluate", labelled, "--model", shifting, "--parity", "--out", tmp_path / "out")
    assert ran.code == 1
    assert "torch bfloat16 on cpu allows" in ran.err
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    rows = {row["setting"]: row for row in content["parity"]["rows"]}
    assert rows["torch bfloat16 on cpu"]["flips"]["default"]["block_to_allow"] == []  # 0.5 to 0.94 are held
    assert rows["torch bfloat16 on cpu"]["flips"]["strict"]["changed"] != []
    assert rows["torch float16 on cpu"]["largest_difference"] == 0.0
    assert "Parity" in (tmp_path / "out" / "report.html").read_text()
    assert run("evaluate", labelled, "--model", "red", "--parity", "--out", tmp_path / "out").code == 0


def test_an_image_that_is_not_judged_exits_with_2(run: Run, labelled: Path, tmp_path: Path) -> None:
    (labelled / "red" / "broken.png").write_bytes(b"no image")
    ran = run("evaluate", labelled, "--model", "red", "--out", tmp_path / "out")
    assert ran.code == 2
    assert "red: 1 not judged, such as " in ran.err


def test_json_has_a_line_for_each_row(run: Run, labelled: Path, tmp_path: Path) -> None:
    base = ["evaluate", labelled, "--model", "red", "--sheet", "none", "--out", tmp_path / "out", "--json"]
    plain = run(*base)
    rows = {(row["threshold"], row["slice"]): row for row in plain.lines}
    images = json.loads((tmp_path / "out" / "report.json").read_text())["images"]
    assert rows["default", "all"]["recall"]["count"] + rows["default", "all"]["false_alarms"]["count"] == images > 70
    assert {row["threshold"] for row in plain.lines} == {"default", "strict", "lenient"}
    robust = run(*base, "--robustness")
    changes = [row for row in robust.lines if "change" in row]
    assert changes[0]["change"] == "as it is"
    assert changes[0]["recall"] == rows["default", "all"]["recall"]
    assert len({row["change"] for row in changes}) == 31


def test_two_models_and_views_are_compared(run: Run, labelled: Path, tmp_path: Path) -> None:
    ran = run(
        "evaluate", labelled, "--model", "red", "--model", "single", "--views", "cover", "--views", "center",
        "--batch", "1", "--out", tmp_path / "out",
    )  # fmt: skip
    assert ran.code == 0
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [model["name"] for model in content["models"]] == [
        "red, cover", "red, center", "single, cover", "single, center",
    ]  # fmt: skip


def test_from_a_scan_to_an_estimate(run: Run, labelled: Path, tmp_path: Path) -> None:
    scan, out = tmp_path / "scan", tmp_path / "out"
    run("scan", labelled, "--model", "red", "--out", scan, "--format", "jsonl")
    drawn = run("evaluate", "--estimate-recall", scan, "--draw", "60", "--out", out, "--json")
    assert drawn.code == 0
    assert sum(row["drawn"] for row in drawn.lines) == 60
    sample = out / "sample.csv"
    empty = run("evaluate", "--estimate-recall", scan, "--labels", sample, "--out", out)
    assert empty.code == 3
    assert f"label {len(drawn.lines)} more images" in empty.err
    rows = list(csv.DictReader(sample.read_text().splitlines()))
    for row in rows:
        row["label"] = Path(row["path"]).parent.name
    with sample.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    ran = run("evaluate", "--estimate-recall", scan, "--labels", sample, "--out", out, "--json")
    (result,) = ran.lines
    unsafe = len(list((labelled / "red").iterdir()))
    assert result["unsafe"]["low"] <= unsafe <= result["unsafe"]["high"]
    assert json.loads((out / "recall.json").read_text()) == result
    text = run("evaluate", "--estimate-recall", scan, "--labels", sample, "--out", out)
    assert "recall with review" in text.out
