"""Pages of a search and of groups: by the command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.cli.main import main

COLOURS = {"red": (250, 10, 10), "blue": (10, 10, 250), "green": (10, 250, 10)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Noise in colours, and a copy of the first."""
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name, colour in COLOURS.items():
        pixels = np.clip(np.array(colour) + rng.integers(0, 9, (64, 64, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.png")
    Image.open(tmp_path / "in" / "red.png").save(tmp_path / "in" / "red copy.bmp")
    return tmp_path / "in"


@pytest.fixture
def scanned(folder: Path, tmp_path: Path) -> Path:
    words = ["scan", str(folder), "--model", "demo-shapes", "--format", "jsonl", "--out", str(tmp_path / "scan")]
    assert main(words) == 0
    return tmp_path / "scan"


@pytest.fixture
def index(scanned: Path, tmp_path: Path) -> Path:
    assert main(["index", "build", str(tmp_path / "index"), str(scanned)]) == 0
    return tmp_path / "index"


@pytest.fixture(autouse=True)
def _quiet(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    capsys.readouterr()


def test_a_page_of_a_search_shows_only_what_is_still_there(index: Path, folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "white").save(folder / "blue.png")  # another image under the same name
    page = tmp_path / "page.html"
    assert main(["index", "search", str(index), str(folder / "red.png"), "--k", "4", "--html", str(page)]) == 0
    html = page.read_text()
    assert html.count("<figure>") == 5  # the one that was asked about, and four matches
    assert html.count("<label class=cover>") == html.count("data:image/png") == 4
    assert html.count("no longer there as it was") == 1
    assert " 1.000</b>" in html
    assert "<script" not in html
    assert "http" not in html.replace('<html lang="en">', "")


def test_names_of_files_are_text_on_a_page(folder: Path, tmp_path: Path) -> None:
    (folder / "red.png").rename(folder / "<b>&'.png")
    assert main(["scan", str(folder), "--model", "demo-shapes", "--format", "jsonl", "--out", str(tmp_path / "s")]) == 0
    assert main(["index", "build", str(tmp_path / "i"), str(tmp_path / "s")]) == 0
    page = tmp_path / "page.html"
    assert main(["index", "search", str(tmp_path / "i"), str(folder / "blue.png"), "--html", str(page)]) == 0
    assert "&lt;b&gt;&amp;&#x27;.png" in page.read_text()
    assert "<b>&" not in page.read_text()


def test_groups_and_their_page(index: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    capsys.readouterr()
    assert main(["index", "clusters", str(index), "--least", "0.99999", "--html", str(page), "--json"]) == 0
    (group,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(key).name for key in group["keys"]] == ["red copy.bmp", "red.png"]
    assert "1 groups with 2 images" in page.read_text()
    assert page.read_text().count("data:image/png") == 2
    assert main(["index", "clusters", str(index), "--least", "0.99999"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == "2"


@pytest.mark.parametrize("least", ["0", "1.1", "nan", "-1"])
def test_a_least_similarity_out_of_range(least: str, index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "clusters", str(index), "--least", least]) == 3
    assert "must be above 0 and at most 1" in capsys.readouterr().err


def test_a_page_never_takes_the_place_of_an_image(
    index: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / "red.png").read_bytes()
    for words in (["search", str(index), str(folder)], ["clusters", str(index)]):
        assert main(["index", *words, "--html", str(folder / "red.png")]) == 3
        assert "a page must be a .html file" in capsys.readouterr().err
    assert (folder / "red.png").read_bytes() == before


@pytest.mark.parametrize(("store", "library"), [("exact", "torch"), ("lance", "lancedb")])
def test_an_index_of_each_kind_by_the_command(
    store: str, library: str, scanned: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(library)
    index = str(tmp_path / "index")
    capsys.readouterr()
    assert main(["index", "build", index, str(scanned), "--store", store, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["store"] == store
    assert main(["index", "remove", index, str(folder / "blue.png")]) == 0
    assert main(["index", "add", index, str(scanned)]) == 0
    capsys.readouterr()
    assert main(["index", "search", index, str(folder / "red.png"), "--k", "2", "--json"]) == 0
    keys = {Path(json.loads(line)["key"]).name for line in capsys.readouterr().out.splitlines()}
    assert keys == {"red.png", "red copy.bmp"}
    assert main(["index", "stats", index, "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert (stats["store"], stats["images"], stats["model"]) == (store, 4, "demo-shapes")
