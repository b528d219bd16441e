"""`check`: what is printed for each file, and what is written."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from PIL import Image

from nsfw_guard.cli import show
from nsfw_guard.verdict import Outcome, Verdict
from tests.cli.conftest import CODES, OUTCOMES, Run, paint


def test_json_has_one_line_an_image_with_path_and_verdict(run: Run, folder: Path) -> None:
    ran = run("check", folder, "--model", "red", "--json")
    expected = sorted(OUTCOMES)
    assert [line["outcome"] for line in ran.lines] == expected
    assert [line["path"] for line in ran.lines] == [str(folder / f"{name}.png") for name in expected]
    keys = {"path", "written", *Verdict(Outcome.ALLOW, "").to_dict()}
    assert all(set(line) == keys for line in ran.lines)
    assert [line["score"] for line in ran.lines] == [0.0, 1.0, None, 0.375]
    assert {(line["model"], line["policy"], line["written"]) for line in ran.lines} == {("red", "default", None)}
    assert all(line["state"]["self_test"] == "passed" for line in ran.lines)


def test_a_table_has_one_line_an_image_and_the_summary_is_a_message(run: Run, folder: Path) -> None:
    ran = run("check", folder, "--model", "red")
    header, *rows = ran.out.splitlines()
    assert header.split() == ["outcome", "score", "threshold", "reason", "path"]
    assert [row.split()[:3] for row in rows] == [
        ["ALLOW", "0.000", "0.5"], ["BLOCK", "1.000", "0.5"], ["ERROR", "-", "-"], ["REVIEW", "0.375", "0.25"]
    ]  # fmt: skip
    assert [row.split()[-1] for row in rows] == [str(folder / f"{name}.png") for name in sorted(OUTCOMES)]
    assert ran.err == "4 images, model red, policy default: 1 allow, 1 review, 1 block, 1 error\n"


def test_allowed_files_are_written_byte_for_byte_and_others_as_png(run: Run, folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (0, 0, 255)).save(folder / "deep.jpg", comment=b"kept")
    (folder / "deep").mkdir()
    (folder / "deep.jpg").rename(folder / "deep" / "allow.jpg")
    paint(folder / "deep" / "block.webp", "block")
    ran = run("check", folder, "--model", "red", "--json", "--out", tmp_path / "out")
    out = tmp_path / "out"
    assert {str(p.relative_to(out)) for p in out.rglob("*.*")} == {
        "allow.png", "block.png", "error.png", "review.png", "deep/allow.jpg", "deep/block.png"
    }  # fmt: skip
    for name in ("allow.png", "review.png", "deep/allow.jpg"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    for name in ("block.png", "error.png", "deep/block.png"):
        with Image.open(out / name) as image:
            assert (image.format, image.convert("L").getextrema()) == ("PNG", (0, 0))
    assert {line["path"]: line["written"] for line in ran.lines}[str(folder / "deep" / "block.webp")] == str(
        out / "deep" / "block.png"
    )


def test_names_that_collide_are_all_kept(run: Run, tmp_path: Path) -> None:
    paths = [paint(tmp_path / str(i) / "a.png", outcome) for i, outcome in enumerate(("allow", "block", "allow"))]
    ran = run("check", *paths, paths[0], "--model", "red", "--json", "--out", tmp_path / "out")
    assert [Path(line["written"]).name for line in ran.lines] == ["a.png", "a-2.png", "a-3.png", "a-4.png"]
    assert (tmp_path / "out" / "a-4.png").read_bytes() == paths[0].read_bytes()


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_standard_input_is_judged(outcome: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = paint(tmp_path / "a.png", outcome).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    ran = run("check", "-", "--model", "red", "--json", "--out", tmp_path / "out")
    assert ran.code == CODES["block"][outcome]
    assert [(line["path"], line["outcome"]) for line in ran.lines] == [("-", outcome)]
    written = (tmp_path / "out" / "stdin.png").read_bytes()
    assert (written == data) is (outcome in {"allow", "review"})


def test_every_action_writes_another_image(run: Run, folder: Path, tmp_path: Path) -> None:
    (folder / "block.png").unlink()
    paint(folder / "block.png", "block", (64, 64))
    written = set()
    for action in ("block", "pixelate", "replace", "flag"):
        run("check", folder / "block.png", "--model", "red", "--out", tmp_path / action, "--action", action)
        written.add((tmp_path / action / "block.png").read_bytes())
    assert len(written) == 4
    assert (folder / "block.png").read_bytes() in written


def test_a_tiny_real_model_judges_a_folder(run: Run, tiny: Path, folder: Path) -> None:
    ran = run("check", folder, "--model", tiny, "--json")
    assert ran.code == 2
    by_name = {Path(line["path"]).stem: line for line in ran.lines}
    assert {name: line["evaluated"] for name, line in by_name.items()} == {
        "allow": True, "block": True, "review": True, "error": False
    }  # fmt: skip
    assert 0.0 <= by_name["allow"]["score"] <= 1.0
    assert by_name["allow"]["score"] != by_name["block"]["score"]
    assert {line["state"]["self_test"] for line in ran.lines} == {"answers unrecorded"}


def test_a_bar_is_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, drawn in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        assert list(show.progress(iter("abc"), 3, "images")) == ["a", "b", "c"]
        assert ("images" in stream.getvalue()) is drawn
