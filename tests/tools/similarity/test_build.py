"""From a scan to an index, and back to images: by the command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.cli.main import main
from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.similarity.build import build
from nsfw_guard.tools.similarity.exact import ExactIndex

COLOURS = {"red": (250, 10, 10), "rose": (240, 20, 30), "blue": (10, 10, 250), "navy": (20, 20, 140)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Patches of colours, each with its own noise."""
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name, colour in COLOURS.items():
        pixels = np.clip(np.array(colour) + rng.integers(0, 9, (64, 64, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.png")
    return tmp_path / "in"


@pytest.fixture
def scanned(folder: Path, tmp_path: Path) -> Path:
    words = ["scan", str(folder), "--model", "demo-shapes", "--format", "jsonl", "--out", str(tmp_path / "scan")]
    assert main(words) == 0
    return tmp_path / "scan"


@pytest.fixture(autouse=True)
def _quiet(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    capsys.readouterr()


def lines(capsys: pytest.CaptureFixture[str], *words: object) -> list[dict[str, object]]:
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_build_search_add_remove_and_stats(
    scanned: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = tmp_path / "index"
    (built,) = lines(capsys, "index", "build", index, scanned)
    assert (built["images"], built["width"], built["model"]) == (4, 96, "demo-shapes")
    matches = lines(capsys, "index", "search", index, folder / "red.png", "--k", 2)
    assert [Path(str(match["key"])).name for match in matches] == ["red.png", "rose.png"]
    assert matches[0]["similarity"] == pytest.approx(1.0, abs=1e-4)
    (removed,) = lines(capsys, "index", "remove", index, folder / "red.png")
    assert (removed["removed"], removed["images"]) == (1, 3)
    matches = lines(capsys, "index", "search", index, folder / "red.png", "--k", 1)
    assert [Path(str(match["key"])).name for match in matches] == ["rose.png"]
    (added,) = lines(capsys, "index", "add", index, scanned)
    assert (added["added"], added["images"]) == (4, 4)
    (stats,) = lines(capsys, "index", "stats", index)
    assert (stats["images"], stats["segments"], stats["model"]) == (4, 2, "demo-shapes")


def test_only_images_with_some_facts(
    scanned: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = tmp_path / "index"
    build(scanned, index)
    outcomes = {str(match["facts"]["outcome"]) for match in lines(capsys, "index", "search", index, folder)}  # type: ignore[index]
    for outcome in ("allow", "review", "block"):
        found = lines(capsys, "index", "search", index, folder / "red.png", "--where", f"outcome={outcome}")
        assert {str(match["facts"]["outcome"]) for match in found} == outcomes & {outcome}  # type: ignore[index]


@pytest.mark.parametrize("where", ["outcome", "colour=red", "=allow"])
def test_facts_that_are_not_known(
    where: str, scanned: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(scanned, tmp_path / "index")
    assert main(["index", "search", str(tmp_path / "index"), str(folder), "--where", where]) == 3
    assert "write outcome=VALUE, category=VALUE" in capsys.readouterr().err


def test_another_model_is_refused_by_name(
    scanned: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(scanned, tmp_path / "index")
    words = ["index", "search", str(tmp_path / "index"), str(folder), "--model", "demo-shapes-graded"]
    assert main(words) == 3
    assert "not 'demo-shapes-graded', and these cannot be compared" in capsys.readouterr().err
    other = tmp_path / "other"
    words = ["scan", str(folder), "--model", "demo-shapes-graded", "--format", "jsonl", "--out", str(other)]
    assert main(words) == 0
    assert main(["index", "add", str(tmp_path / "index"), str(other)]) == 3
    assert "embeddings of different models cannot be compared" in capsys.readouterr().err
    assert ExactIndex.open(tmp_path / "index").count == 4


def test_a_scan_without_embeddings(folder: Path, tmp_path: Path) -> None:
    words = ["scan", str(folder), "--model", "demo-shapes", "--format", "csv", "--out", str(tmp_path / "scan")]
    assert main(words) == 0
    with pytest.raises(ConfigError, match="has no embeddings: scan without --no-embeddings"):
        build(tmp_path / "scan", tmp_path / "index")
    with pytest.raises(ConfigError, match="holds no part of a scan"):
        build(folder, tmp_path / "index")


def test_an_image_that_cannot_be_read_is_named(
    scanned: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(scanned, tmp_path / "index")
    (folder / "broken.png").write_bytes(b"no image")
    assert main(["index", "search", str(tmp_path / "index"), str(folder / "broken.png")]) == 3
    assert "broken.png' has no embedding" in capsys.readouterr().err


def test_a_key_that_is_not_there(scanned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(scanned, tmp_path / "index")
    assert main(["index", "remove", str(tmp_path / "index"), "nowhere.png"]) == 3
    assert "has none of these keys" in capsys.readouterr().err
