"""Replay: what another policy would have said is what it says, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nsfw_guard.backends.examples.bank import Bank
from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError, PolicyError
from nsfw_guard.guard import Guard
from nsfw_guard.policy.policy import Policy
from nsfw_guard.policy.rules import Rule, Threshold
from nsfw_guard.tools.examples import Decision, add_images
from nsfw_guard.tools.screening.scan import Scan
from nsfw_guard.tools.screening.scorer import ScanSettings
from nsfw_guard.tools.teaching.replay import Flip, Replayed, read_decisions, replay
from nsfw_guard.tools.teaching.replay_page import write
from nsfw_guard.verdict import Outcome
from tests.tools.screening.shapes import RED, paint, red  # noqa: F401

TWICE = Calibration(model=RED, maps={"red": (1.0, 3.0)}, thresholds={"default": Threshold(block=0.9)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, outcome in enumerate(["allow", "block", "review", "error", "allow", "review"]):
        paint(tmp_path / "in" / f"{number}.png", outcome, 100 + number)
    return tmp_path / "in"


def scanned(source: Path, out: Path, kind: Any = "jsonl", **settings: Any) -> Path:
    list(Scan([str(source)], out, settings=ScanSettings(model=RED, **settings), kind=kind).run())
    return out


def run(scan: Path, policy: Policy | str, **rest: Any) -> tuple[Replayed, list[Flip]]:
    counted = Replayed()
    return counted, list(replay(scan, Policy.load(policy), counted, **rest))


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("preset", ["default", "strict", "lenient"])
def test_it_says_what_a_guard_with_this_policy_says(kind: str, preset: str, folder: Path, tmp_path: Path) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    counted, flips = run(scanned(folder, tmp_path / "out", kind), preset)
    now = Guard.from_pretrained(RED, policy=preset).check(sorted(folder.iterdir()))
    before = Guard.from_pretrained(RED).check(sorted(folder.iterdir()))
    expected = {i: (b, a) for i, (b, a) in enumerate(zip(before, now, strict=True)) if b.outcome is not a.outcome}
    assert {flip.number: flip.before for flip in flips} == {i: b.outcome for i, (b, _) in expected.items()}
    for flip in flips:
        after = expected[flip.number][1]
        assert (flip.verdict.outcome, flip.verdict.reason) == (after.outcome, after.reason)
    assert counted.flips == len(expected)
    assert sum(counted.counts.values()) == 6
    assert counted.kept == {"was not judged": 1}


def test_flips_are_counted_by_category_and_beside_what_people_decided(folder: Path, tmp_path: Path) -> None:
    out = scanned(folder, tmp_path / "out")
    decisions = {str(folder / "2.png"): "appealed", str(folder / "1.png"): "appealed"}
    counted, flips = run(out, Policy(rules={"red": Rule(block=0.3)}), decisions=decisions)
    assert counted.categories == {("red", "review", "block"): 2}
    assert counted.decisions == {("appealed", "review", "block"): 1}
    assert sorted(flip.decision for flip in flips) == ["", "appealed"]
    assert counted.to_dict()["decisions"] == [
        {"decision": "appealed", "before": "review", "after": "block", "images": 1}
    ]


def test_a_calibration_is_applied_to_what_the_model_said(folder: Path, tmp_path: Path) -> None:
    TWICE.save(tmp_path / "calibration.json")
    plain = scanned(folder, tmp_path / "plain")
    calibrated = scanned(folder, tmp_path / "calibrated", calibration=str(tmp_path / "calibration.json"))
    with pytest.raises(ConfigError, match="was calibrated: pass the calibration"):
        run(calibrated, "default")
    (from_plain, flips), (from_calibrated, none) = (
        run(out, "default", calibration=TWICE) for out in (plain, calibrated)
    )
    assert none == []
    assert from_calibrated.flips == 0
    assert {a for _, a in from_plain.counts} == {a for _, a in from_calibrated.counts}
    assert {flip.verdict.outcome for flip in flips} == {Outcome.BLOCK}
    with pytest.raises(ConfigError, match="the calibration is of 'other'"):
        run(plain, "default", calibration=Calibration(model="other", maps={}))


def test_what_an_example_has_decided_stays(folder: Path, tmp_path: Path) -> None:
    guard = Guard.from_pretrained(RED)
    decision = Decision(kind="block", reason="r")
    bank, _ = add_images(Bank(), guard, [folder / "0.png"], decision, hash_only=True)
    bank, _ = add_images(bank, guard, [folder / "1.png"], Decision(kind="allow", reason="r"), hash_only=True)
    bank.save(tmp_path / "bank")
    counted, flips = run(scanned(folder, tmp_path / "out", bank=str(tmp_path / "bank")), "default")
    assert flips == []
    assert counted.kept["decided by an example"] == 2


def test_what_cannot_be_replayed_is_an_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no scan"):
        run(tmp_path / "none", "default")
    out = scanned(folder, tmp_path / "out")
    with pytest.raises(PolicyError, match="does not score"):
        run(out, Policy(rules={"zebra": Rule(block=0.5)}))
    part = out / "part-000000.jsonl"
    part.write_text(part.read_text().replace('"levels"', '"level"'))
    with pytest.raises(ConfigError, match="scores of a row are damaged"):
        run(out, "default")


def test_decisions_are_a_table(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("key,decision\na,upheld\n")
    assert read_decisions(tmp_path / "d.csv") == {"a": "upheld"}
    (tmp_path / "d.csv").write_text("key,what\na,upheld\n")
    with pytest.raises(ConfigError, match="has the columns key, what: it needs key and decision"):
        read_decisions(tmp_path / "d.csv")


def test_the_page_shows_the_flips_behind_a_blur(folder: Path, tmp_path: Path) -> None:
    out = scanned(folder, tmp_path / "out")
    counted, flips = run(out, Policy(rules={"red": Rule(block=0.3)}), decisions={str(folder / "2.png"): "<b>"})
    write(out, counted, flips, tmp_path / "flips.html")
    page = (tmp_path / "flips.html").read_text()
    assert page.count("<img") == page.count("class=cover") == 2
    assert "review becomes block: 2" in page
    assert "&lt;b&gt;" in page
