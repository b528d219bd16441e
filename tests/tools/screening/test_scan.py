"""A scan: every image once, whatever happens to it, and only what was asked for."""

from __future__ import annotations

import json
import os
import pickle
import tarfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.backends.examples.bank import Bank
from nsfw_guard.backends.examples.example import Example
from nsfw_guard.backends.registry import register_model, unregister_model
from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.imaging.pdq import pdq
from nsfw_guard.testing import FakeBackend, red_model
from nsfw_guard.tools.lock import locked
from nsfw_guard.tools.screening import parts, scan
from nsfw_guard.tools.screening.results import outcomes, rows_of
from nsfw_guard.tools.screening.scan import Scan, ScanProgress
from nsfw_guard.tools.screening.scorer import ScanSettings, Scorer
from tests.tools.screening.shapes import RED, encoded, paint, red, shard  # noqa: F401

SETTINGS = ScanSettings(model=RED, batch_size=2)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "CHUNK", 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight images: three of each outcome but for errors, of which there are two."""
    for number, outcome in enumerate(["allow", "block", "review", "error", "allow", "review", "error", "block"]):
        paint(tmp_path / "in" / f"{number}.png", outcome, 100 + number)
    return tmp_path / "in"


def run(source: Path, out: Path, kind: parts.Format = "jsonl", **settings: Any) -> list[ScanProgress]:
    return list(Scan([str(source)], out, settings=ScanSettings(**{**vars(SETTINGS), **settings}), kind=kind).run())


def written(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("part-*"))}


def test_rows_say_what_the_guard_says(folder: Path, tmp_path: Path) -> None:
    progress = run(folder, tmp_path / "out")
    assert [(one.index, one.count, one.total) for one in progress] == [(0, 3, 8), (1, 3, 8), (2, 2, 8)]
    assert [len(one.rows) for one in progress] == [3, 3, 2]
    rows = list(rows_of(tmp_path / "out"))
    files = sorted(folder.iterdir())
    assert [row["key"] for row in rows] == [str(file) for file in files]
    for row, verdict in zip(rows, Guard(FakeBackend()).check(files), strict=True):
        assert (row["outcome"], row["score"]) == (verdict.outcome.name.lower(), verdict.score)
        assert (row["category"], row["threshold"]) == (verdict.category, verdict.threshold)
    assert outcomes(tmp_path / "out") == {"allow": 2, "review": 2, "block": 2, "error": 2}
    assert [row["status"] for row in rows].count("error") == 2
    assert {len(row["embedding"]) for row in rows if row["status"] == "judged"} == {3}
    # The two images that are wholly red are the same file.
    assert len({row["sha256"] for row in rows if row["status"] == "judged"}) == 5


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_every_format_holds_the_same(kind: parts.Format, folder: Path, tmp_path: Path) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    run(folder, tmp_path / "plain")
    run(folder, tmp_path / "out", kind)
    names = ["key", "sha256", "outcome", "reason", "category", "model", "policy_hash"]
    assert list(rows_of(tmp_path / "out", names)) == list(rows_of(tmp_path / "plain", names))
    scores = [row["score"] for row in rows_of(tmp_path / "out", ["score"])]
    expected = [row["score"] for row in rows_of(tmp_path / "plain", ["score"])]
    assert [None if one in (None, "") else float(one) for one in scores] == expected


def test_parquet_rows_have_embeddings_of_one_width(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    run(folder, tmp_path / "out", "parquet")
    rows = list(rows_of(tmp_path / "out", ["status", "embedding"]))
    widths = {(row["status"], None if row["embedding"] is None else len(row["embedding"])) for row in rows}
    assert widths == {("judged", 3), ("error", None)}


def test_a_scan_whose_calibration_or_bank_was_changed_is_refused(folder: Path, tmp_path: Path) -> None:
    calibration, bank = tmp_path / "calibration.json", tmp_path / "bank"
    settings = {"calibration": str(calibration), "bank": str(bank)}
    Calibration(model=RED, maps={"red": (1.0, 0.0)}).save(calibration)
    Bank().save(bank)
    run(folder, tmp_path / "out", **settings)
    run(folder, tmp_path / "out", **settings)
    Calibration(model=RED, maps={"red": (1.0, -0.5)}).save(calibration)
    with pytest.raises(ConfigError, match=r"holds a scan with (state|calibration_hash)"):
        run(folder, tmp_path / "out", **settings)
    Calibration(model=RED, maps={"red": (1.0, 0.0)}).save(calibration)
    Bank(examples=[Example(kind="block", reason="r", pdq="f8" * 32)]).save(bank)
    with pytest.raises(ConfigError, match=r"holds a scan with (state|calibration_hash)"):
        run(folder, tmp_path / "out", **settings)


def test_rows_hold_the_perceptual_hash_of_the_pixels(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out")
    rows = {Path(row["key"]).name: (row["pdq"], row["quality"]) for row in rows_of(tmp_path / "out")}
    for name, (digits, quality) in rows.items():
        if quality is not None:
            expected = pdq(np.asarray(Image.open(folder / name).convert("RGB")))
            assert (digits, quality) == (expected.hex, expected.quality)
    assert {name for name, (_, quality) in rows.items() if quality is None} == {"3.png", "6.png"}
    run(folder, tmp_path / "without", hashes=False)
    assert {(row["pdq"], row["quality"]) for row in rows_of(tmp_path / "without")} == {("", None)}


def test_embeddings_may_be_left_out(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out", embeddings=False)
    assert {row["embedding"] for row in rows_of(tmp_path / "out")} == {None}


def test_a_second_run_goes_on_and_changes_nothing(folder: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    run(folder, whole)
    out = tmp_path / "out"
    first = Scan([str(folder)], out, settings=SETTINGS, kind="jsonl").run()
    next(first)
    first.close()
    assert len(written(out)) == 1
    (out / "part-000001.new").write_text("half a part")
    progress = run(folder, out)
    assert [len(one.rows) for one in progress] == [0, 3, 2]
    assert written(out) == written(whole)
    again = run(folder, out)
    assert [len(one.rows) for one in again] == [0, 0, 0]
    assert written(out) == written(whole)


def test_the_plan_holds_whatever_comes_into_the_folder_later(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = Scan([str(folder)], out, settings=SETTINGS, kind="jsonl").run()
    next(first)
    first.close()
    paint(folder / "00.png", "block")
    (folder / "4.png").unlink()
    run(folder, out)
    rows = {Path(row["key"]).name: row for row in rows_of(out)}
    assert sorted(rows) == [f"{number}.png" for number in range(8)]
    assert (rows["4.png"]["outcome"], rows["4.png"]["reason"]) == ("error", "cannot be read: there is no such file")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"policy": "strict"}, "policy_hash|settings"),
        ({"views": "center"}, "settings"),
        ({"batch_size": 3}, "settings"),
        ({"limits": Limits(frames=9)}, "settings"),
    ],
)
def test_a_scan_with_other_settings_is_refused(change: dict[str, Any], name: str, folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out")
    before = written(tmp_path / "out")
    with pytest.raises(ConfigError, match=f"holds a scan with ({name})"):
        run(folder, tmp_path / "out", **change)
    assert written(tmp_path / "out") == before


def test_other_sources_formats_and_folders_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder, tmp_path / "out")
    with pytest.raises(ConfigError, match="holds a scan with sources"):
        run(folder / "0.png", tmp_path / "out")
    with pytest.raises(ConfigError, match="holds a scan with format"):
        run(folder, tmp_path / "out", "csv")
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError, match="holds a scan with directory"):
        run(folder, tmp_path / "out")


def test_a_plan_that_was_changed_is_refused(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out")
    plan = tmp_path / "out" / "plan.jsonl"
    plan.write_text("".join(plan.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(ConfigError, match="was changed"):
        run(folder, tmp_path / "out")
    plan.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        run(folder, tmp_path / "out")


def test_two_scans_in_one_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"), pytest.raises(ConfigError, match="another process writes into"):
        run(folder, tmp_path / "out")
    assert len(run(folder, tmp_path / "out")) == 3


def test_a_full_disk_is_a_clear_stop_that_can_be_resumed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder, tmp_path / "whole")
    original = parts.Parts._encode

    def full(self: parts.Parts, rows: Sequence[Any]) -> bytes:
        if self.done(0):
            raise OSError(28, "No space left on device")
        return original(self, rows)

    monkeypatch.setattr(parts.Parts, "_encode", full)
    with pytest.raises(ConfigError, match=r"part 1 cannot be written \(No space left on device\): make room"):
        run(folder, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").glob("part-*")] == ["part-000000.jsonl"]
    monkeypatch.undo()
    monkeypatch.setattr(scan, "CHUNK", 3)
    run(folder, tmp_path / "out")
    assert written(tmp_path / "out") == written(tmp_path / "whole")


class Fragile(FakeBackend):
    """A model that fails at images that are wholly red, and all images beside them."""

    def score(self, stacks: Sequence[Any], **wants: bool) -> Any:
        scores = super().score(stacks, **wants)
        if any(one.views[0].levels["red"][max(one.views[0].levels["red"])] > 0.9 for one in scores):
            raise RuntimeError("the model broke")
        return scores


def test_an_image_at_which_the_model_fails_spoils_no_other(folder: Path, tmp_path: Path) -> None:
    register_model(red_model("fragile"), lambda spec, options: Fragile())
    try:
        run(folder, tmp_path / "out", model="fragile", batch_size=3)
    finally:
        unregister_model("fragile")
    assert outcomes(tmp_path / "out") == {"allow": 2, "review": 2, "block": 0, "error": 4}
    reasons = [row["reason"] for row in rows_of(tmp_path / "out") if Path(row["key"]).name in {"1.png", "7.png"}]
    assert reasons == ["RuntimeError: the model broke"] * 2


class Untested(FakeBackend):
    """A model that passed no self-test: a guard releases nothing that it allows."""

    def state(self) -> dict[str, str]:
        return {"self_test": "none"}


def test_what_a_guard_would_not_release_is_not_allowed_here_either(folder: Path, tmp_path: Path) -> None:
    register_model(red_model("untested"), lambda spec, options: Untested())
    try:
        run(folder, tmp_path / "out", model="untested")
    finally:
        unregister_model("untested")
    assert outcomes(tmp_path / "out") == {"allow": 0, "review": 0, "block": 2, "error": 6}


def test_one_image_under_two_sources_counts_once(folder: Path, tmp_path: Path) -> None:
    sources = [str(folder), str(folder / "0.png"), str(folder)]
    list(Scan(sources, tmp_path / "out", settings=SETTINGS, kind="jsonl").run())
    assert len(list(rows_of(tmp_path / "out"))) == 8


def test_sources_of_several_kinds_in_one_scan(folder: Path, tmp_path: Path) -> None:
    tar = shard(tmp_path / "a.tar", {"x.png": encoded("block"), "y.png": encoded("allow")})
    (tmp_path / "list.txt").write_text("in/1.png\n")
    sources = [str(tar), str(folder / "0.png"), str(tmp_path / "list.txt")]
    list(Scan(sources, tmp_path / "out", settings=SETTINGS, kind="jsonl").run())
    rows = [(row["key"], row["outcome"]) for row in rows_of(tmp_path / "out")]
    assert rows == [(f"{tar}/x.png", "block"), (f"{tar}/y.png", "allow"), (str(folder / "0.png"), "allow"),
                    ("in/1.png", "block")]  # fmt: skip


def test_nothing_to_scan_is_an_error_and_leaves_nothing_begun(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ConfigError, match="hold no image"):
        run(tmp_path / "in", tmp_path / "out")
    paint(tmp_path / "in" / "a.png")
    assert len(run(tmp_path / "in", tmp_path / "out")) == 1


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": 0}])
def test_counts_that_cannot_be(wrong: dict[str, int], tmp_path: Path) -> None:
    settings = ScanSettings(model=RED, batch_size=wrong.get("batch_size", 1))
    with pytest.raises(ConfigError, match="must be 1 or more"):
        Scan(["a"], tmp_path, settings=settings, workers=wrong.get("workers"))


def test_a_scorer_can_be_sent_and_loads_its_model_there(folder: Path) -> None:
    scorer = Scorer(SETTINGS)
    assert scorer.guard.spec.name == RED
    sent = pickle.dumps(scorer)
    assert len(sent) < 2000
    (row,) = pickle.loads(sent)(["a"], [(folder / "1.png").read_bytes()])  # noqa: S301 - just written
    assert (row.key, row.outcome, row.size) == ("a", "block", (folder / "1.png").stat().st_size)


def test_threads_share_one_model(folder: Path) -> None:
    scorer, guards = Scorer(SETTINGS), []
    threads = [threading.Thread(target=lambda: guards.append(scorer.guard)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(guard) for guard in guards}) == 1


def test_run_json_names_what_ran(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "run.json").read_text())
    assert content["images"] == 8
    assert content["model"] == RED
    assert content["state"]["self_test"] == "passed"
    assert content["settings"]["limits"]["frames"] == Limits().frames


def test_two_images_of_one_key_are_refused(tmp_path: Path) -> None:
    """Each list names an image beside itself: the second one would be left out, or pass for the first."""
    for place, outcome in (("a", "allow"), ("b", "block")):
        paint(tmp_path / place / "x.png", outcome)
        (tmp_path / place / "list.txt").write_text("x.png\n")
    lists = [str(tmp_path / place / "list.txt") for place in ("a", "b")]
    with pytest.raises(ConfigError, match=r"'x.png' stands for two images"):
        list(Scan(lists, tmp_path / "out", settings=SETTINGS, kind="jsonl").run())


def test_a_shard_that_holds_a_name_twice_is_refused(tmp_path: Path) -> None:
    """Whoever extracts it gets the last one, and would take the first one's row for it."""
    shard(tmp_path / "s.tar", {"a.png": encoded("allow")})
    with tarfile.open(tmp_path / "s.tar", "a") as tar:
        tar.add(paint(tmp_path / "block.png", "block"), "a.png")
    with pytest.raises(ConfigError, match="stands for two images"):
        run(tmp_path / "s.tar", tmp_path / "out")


def test_names_that_are_the_same_in_the_output_are_refused(tmp_path: Path) -> None:
    paint(tmp_path / "in" / "\\xff.png")
    (tmp_path / "in" / os.fsdecode(b"\xff.png")).write_bytes(encoded("block"))
    with pytest.raises(ConfigError, match="stands for two images"):
        run(tmp_path / "in", tmp_path / "out")


def test_a_name_of_half_a_letter_is_a_row_and_no_end(tmp_path: Path) -> None:
    paint(tmp_path / "a.png")
    (tmp_path / "list.jsonl").write_text('"\\ud800.png"\n"a.png"\n')
    run(tmp_path / "list.jsonl", tmp_path / "out")
    assert [(row["key"], row["outcome"]) for row in rows_of(tmp_path / "out")] == [
        ("\\ud800.png", "error"), ("a.png", "allow"),
    ]  # fmt: skip


def test_parts_of_an_earlier_scan_do_not_count(folder: Path, tmp_path: Path) -> None:
    """Without run.json nothing says of which images and rules they are."""
    run(folder, tmp_path / "out")
    (tmp_path / "out" / "run.json").unlink()
    with pytest.raises(ConfigError, match="parts of an earlier scan"):
        run(folder, tmp_path / "out", policy="strict")


def test_a_part_that_lost_rows_is_refused(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out")
    part = tmp_path / "out" / "part-000001.jsonl"
    part.write_text("".join(part.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(ConfigError, match=r"part-000001.jsonl holds 2 rows, not 3"):
        run(folder, tmp_path / "out")
