"""nsfw-guard export: what it prints is what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run

SCRIPT = ("--to", "torchscript", "--images", "2")


def test_json_is_what_stands_beside_the_network(run: Run, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = run("export", tiny, *SCRIPT, "--out", out, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines == [{"out": str(out), **json.loads((out / "export.json").read_text())}]


def test_the_table_has_the_comparison_and_the_notes_follow_it(run: Run, tiny: Path, tmp_path: Path) -> None:
    ran = run("export", tiny, *SCRIPT, "--out", tmp_path / "out")
    rows = dict(line.split("  ", 1) for line in ran.out.splitlines())
    parity = json.loads((tmp_path / "out" / "export.json").read_text())["parity"]
    assert rows["images compared"].strip() == f"2 ({parity['inputs']} inputs, {parity['blocked']} blocked)"
    assert (rows["released"].strip(), rows["target"].strip()) == ("0", "torchscript")
    assert ran.err.splitlines() == [
        "note: TorchScript is deprecated by torch: use torch-export where you can",
        f"written: use it with --model {tmp_path / 'out'}",
    ]


def test_an_exported_folder_judges_images(run: Run, tiny: Path, tmp_path: Path, folder: Path) -> None:
    run("export", tiny, *SCRIPT, "--out", tmp_path / "out")
    before, after = (
        run("check", folder / "allow.png", "--model", model, "--json") for model in (tiny, tmp_path / "out")
    )
    assert before.code == after.code
    assert [line["outcome"] for line in before.lines] == [line["outcome"] for line in after.lines]
