"""Which files are measured with: each once, in the slices that their folders name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.evaluate.images import MAX_CONTENT_SLICES, ImageFile, collect, slices_of
from nsfw_guard.tools.screen import STDIN


def paint(path: Path, colour: str = "blue") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)
    return path


def test_a_file_with_the_same_bytes_counts_once(tmp_path: Path) -> None:
    first = paint(tmp_path / "a.png")
    shutil.copy(first, tmp_path / "b.png")
    paint(tmp_path / "c.png", "red")
    collection = collect([str(tmp_path)])
    assert [Path(file.path).name for file in collection.files] == ["a.png", "c.png"]
    assert [(Path(one.path).name, one.why) for one in collection.copies] == [("b.png", f"the same file as {first}")]


def test_a_folder_that_is_given_twice_counts_once(tmp_path: Path) -> None:
    paint(tmp_path / "a.png")
    collection = collect([str(tmp_path), str(tmp_path)])
    assert (len(collection.files), len(collection.copies)) == (1, 1)


def test_files_that_cannot_be_read_are_not_copies_of_each_other(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).symlink_to(tmp_path / "nowhere" / name)
    paint(tmp_path / "c.png")
    collection = collect([str(tmp_path)])
    assert [Path(file.path).name for file in collection.files] == ["c.png"]
    assert [one.why for one in collection.skipped] == ["a broken link", "a broken link"]


def test_folders_name_slices(tmp_path: Path) -> None:
    paint(tmp_path / "photograph+people" / "below" / "a.png", "red")
    paint(tmp_path / "icon" / "b.png", "green")
    paint(tmp_path / "c.png", "blue")
    files = {Path(file.path).name: file.content for file in collect([str(tmp_path)]).files}
    assert files == {"a.png": ("photograph", "people"), "b.png": ("icon",), "c.png": ()}


def test_odd_names_of_folders_are_no_empty_slices(tmp_path: Path) -> None:
    paint(tmp_path / "+ icon++icon +" / "a.png")
    assert [file.content for file in collect([str(tmp_path)]).files] == [("icon",)]


def test_too_many_folders_are_no_slices(tmp_path: Path) -> None:
    for number in range(MAX_CONTENT_SLICES + 1):
        paint(tmp_path / f"user{number}" / "a.png", f"#0000{number:02x}")
    collection = collect([str(tmp_path)])
    assert {file.content for file in collection.files} == {()}
    assert collection.notes == ("41 folders are too many for slices (at most 40): they were left out",)


def test_other_files_are_listed(tmp_path: Path) -> None:
    paint(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("text")
    assert [Path(one.path).name for one in collect([str(tmp_path)]).skipped] == ["notes.txt"]


@pytest.mark.parametrize("path", [STDIN, "", "nowhere"])
def test_what_is_no_folder_of_images(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError):
        collect([path])


def test_one_file_may_be_given(tmp_path: Path) -> None:
    path = str(paint(tmp_path / "a.png"))
    assert collect([path]).files == (ImageFile(path),)


@pytest.mark.parametrize(
    ("size", "aspect", "side"),
    [
        ((100, 100), "square", "up to 256"),
        ((115, 100), "square", "up to 256"),
        ((100, 116), "tall", "up to 256"),
        ((257, 200), "wide", "257 to 1024"),
        ((512, 256), "long (2:1 or more)", "257 to 1024"),
        ((256, 512), "long (2:1 or more)", "257 to 1024"),
        ((1025, 800), "wide", "over 1024"),
    ],
)
def test_aspect_and_size(size: tuple[int, int], aspect: str, side: str) -> None:
    assert slices_of(("icon",), *size) == ("", "icon", f"aspect {aspect}", f"size {side}")


def test_a_folder_called_as_a_slice_of_the_report_is_none(tmp_path: Path) -> None:
    for number, name in enumerate(("all+icon", "aspect square", "size up to 256", "All", "sizes")):
        paint(tmp_path / name / "a.png", f"#0000{number:02x}")
    collection = collect([str(tmp_path)])
    assert {Path(file.path).parent.name: file.content for file in collection.files} == {
        "all+icon": ("icon",), "aspect square": (), "size up to 256": (), "All": ("All",), "sizes": ("sizes",),
    }  # fmt: skip
    assert collection.notes == tuple(
        f"the folder {name!r} names no slice, as the report has its own of such names: rename it"
        for name in ("all", "aspect square", "size up to 256")
    )
