"""A scan as a file of FAISS, by the command."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from nsfw_guard.cli.main import main
from tests.tools.similarity.test_pages import folder, scanned

__all__ = ["folder", "scanned"]


def test_a_file_for_faiss(scanned: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faiss = pytest.importorskip("faiss")
    file = tmp_path / "scan.faiss"
    assert main(["convert", str(scanned), "--to", "faiss", str(file)]) == 0
    index = faiss.read_index(str(file))
    lines = [json.loads(line) for line in (tmp_path / "scan.faiss.keys.jsonl").read_text().splitlines()]
    about = json.loads((tmp_path / "scan.faiss.json").read_text())
    assert index.ntotal == len(lines) == about["count"] == 4
    assert (index.d, about["model"]) == (about["width"], "demo-shapes")
    for name, sha256 in about["sha256"].items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == sha256
    at = next(i for i, line in enumerate(lines) if line["key"].endswith("red.png"))
    similar, rows = index.search(index.reconstruct(at)[None], 2)
    assert {Path(lines[row]["key"]).name for row in rows[0]} == {"red.png", "red copy.bmp"}
    assert similar[0] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert lines[at]["facts"]["sha256"] == hashlib.sha256((folder / "red.png").read_bytes()).hexdigest()
    file.unlink()
    assert main(["convert", str(scanned), "--to", "faiss", str(file)]) == 3
    assert "scan.faiss.keys.jsonl' is there already" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.glob("scan.faiss*")) == ["scan.faiss.json", "scan.faiss.keys.jsonl"]


def test_without_embeddings_nothing_is_left(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    words = ["scan", str(folder), "--model", "demo-shapes", "--format", "csv", "--out", str(tmp_path / "scan")]
    assert main(words) == 0
    assert main(["convert", str(tmp_path / "scan"), "--to", "faiss", str(tmp_path / "a.faiss")]) == 3
    assert list(tmp_path.glob("a.faiss*")) == []
