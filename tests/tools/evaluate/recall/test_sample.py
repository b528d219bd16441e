"""A sample of a real scan: what is drawn, what is written, and what is read back."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.evaluate.recall.estimate import Counted
from nsfw_guard.tools.evaluate.recall.sample import COLUMNS, read_sample, write_sample
from nsfw_guard.tools.evaluate.recall.strata import strata_of, stratum_of
from nsfw_guard.tools.screening.scan import Scan
from nsfw_guard.tools.screening.scorer import ScanSettings
from tests.tools.screening.shapes import RED, paint, red  # noqa: F401

LOW, REVIEW, BLOCK = stratum_of("allow", 0.0), stratum_of("review", 0.5), stratum_of("block", 1.0)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """20 images that pass, 6 that are held, 4 that are blocked and one that is none."""
    for outcome, count in {"allow": 20, "review": 6, "block": 4, "error": 1}.items():
        for number in range(count):
            paint(tmp_path / "in" / f"{outcome}-{number}.png", outcome, blue=150 + number)
    list(Scan([str(tmp_path / "in")], tmp_path / "scan", settings=ScanSettings(model=RED), kind="jsonl").run())
    return tmp_path / "scan"


def filled(path: Path, labels: dict[str, str]) -> Path:
    """The list with a label for each outcome."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["label"] = labels[Path(row["path"]).name.partition("-")[0]]
    with (path.parent / "filled.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path.parent / "filled.csv"


def test_what_is_drawn(scan: Path) -> None:
    strata = strata_of(scan, draw=12)
    assert strata.sizes == {LOW: 20, BLOCK: 4, REVIEW: 6}
    assert strata.not_judged == 1
    assert len(strata.drawn) == 12
    assert strata.drawn == strata_of(scan, draw=12).drawn
    assert len({one.number for one in strata.drawn}) == 12
    assert all(one.stratum.outcome == Path(one.entry.key).name.partition("-")[0] for one in strata.drawn)


def test_a_sample_is_written_filled_in_and_read_back(scan: Path, tmp_path: Path) -> None:
    sample, page = write_sample(strata_of(scan, draw=12), scan, tmp_path / "out")
    rows = list(csv.DictReader(sample.read_text().splitlines()))
    weights = {row["stratum"]: float(row["weight"]) for row in rows}
    assert sum(weights[row["stratum"]] for row in rows) == pytest.approx(30)
    assert {row["label"] for row in rows} == {""}
    text = page.read_text(encoding="utf-8")
    assert text.count("<figure>") == 12
    assert text.count("<label class=cover>") == 12
    labels = {"allow": "safe", "review": "", "block": " Red "}
    counted = read_sample(filled(sample, labels), scan, ["red"])
    drawn = {stratum: sum(one.stratum == stratum for one in strata_of(scan, draw=12).drawn) for stratum in counted}
    assert counted == {
        LOW: Counted(20, drawn[LOW], 0), BLOCK: Counted(4, drawn[BLOCK], drawn[BLOCK]), REVIEW: Counted(6, 0, 0),
    }  # fmt: skip


def test_a_list_that_was_not_drawn_from_this_scan_is_refused(scan: Path, tmp_path: Path) -> None:
    sample, *_ = write_sample(strata_of(scan, draw=12), scan, tmp_path / "out", sheets="none")
    whole = sample.read_text()
    with pytest.raises(ConfigError, match=r"row 1 of filled.csv has the label 'rad': did you mean 'red'"):
        read_sample(filled(sample, {"allow": "rad", "review": "rad", "block": "rad"}), scan, ["red"])
    sample.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(ConfigError, match="is not what was drawn from this scan: keep all rows"):
        read_sample(sample, scan, ["red"])
    sample.write_text("path,label\na.png,red\n")
    with pytest.raises(ConfigError, match="is no sample of a scan"):
        read_sample(sample, scan, ["red"])
    with pytest.raises(ConfigError, match=r"gone\.csv cannot be read"):
        read_sample(tmp_path / "gone.csv", scan, ["red"])


def test_labels_are_never_overwritten(scan: Path, tmp_path: Path) -> None:
    strata = strata_of(scan, draw=12)
    write_sample(strata, scan, tmp_path / "out", sheets="none")
    with pytest.raises(ConfigError, match="is there already, and may have labels"):
        write_sample(strata, scan, tmp_path / "out")


def test_a_score_of_another_hand_is_refused(scan: Path) -> None:
    part = scan / "part-000000.jsonl"
    part.write_text(part.read_text().replace('"score": 0.0', '"score": 7.0', 1))
    with pytest.raises(ConfigError, match=r"holds the score 7\.0, which no scan writes"):
        strata_of(scan)
