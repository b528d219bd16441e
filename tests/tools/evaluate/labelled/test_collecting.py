"""Copies count once, contradictions are errors, and slices come from columns and sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.errors import ConfigError
from nsfw_guard.scores import Severity
from nsfw_guard.testing import FakeBackend
from nsfw_guard.tools.evaluate.images import MAX_CONTENT_SLICES
from nsfw_guard.tools.evaluate.labelled.collecting import files_of, without_same_files
from nsfw_guard.tools.teaching.labelled import LabelledImage, read_labelled, words_of
from tests.tools.evaluate.labelled.painting import measured, paint

LEVELS = {"red": (Severity.LOW, Severity.HIGH)}


def textured(path: Path, *, side: int = 64) -> Path:
    """An image with enough in it for a perceptual hash."""
    noise = np.random.default_rng(3).integers(0, 256, (8, 8), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC).convert("RGB").save(path)
    return path


def test_copies_with_different_labels_are_an_error(tmp_path: Path) -> None:
    first = paint(tmp_path / "red" / "a.png", 9)
    second = paint(tmp_path / "safe" / "b.png", 9)
    images = read_labelled([str(tmp_path)], ["red"], {})
    with pytest.raises(ConfigError, match="are the same file with different labels: correct one") as caught:
        without_same_files(images)
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)


def test_files_with_the_same_bytes_count_once(tmp_path: Path) -> None:
    for name in "abc":
        paint(tmp_path / "red" / f"{name}.png", 9)
    kept, notes = without_same_files(read_labelled([str(tmp_path)], ["red"], {}))
    assert [Path(image.path).name for image in kept] == ["a.png"]
    assert notes == ["2 copies of other files were left out"]


def test_images_with_one_hash_and_different_labels_are_an_error(tmp_path: Path) -> None:
    textured(tmp_path / "red" / "a.png")
    textured(tmp_path / "safe" / "b.bmp")
    with pytest.raises(ConfigError, match="are the same image with different labels"):
        measured(tmp_path, {"red": FakeBackend()})


def test_near_duplicates_count_once_for_each_label(tmp_path: Path) -> None:
    with Image.open(textured(tmp_path / "red" / "a.png")) as image:
        image.save(tmp_path / "red" / "b.jpg", quality=60)
        changed = image.copy()
    changed.paste((255, 255, 255), (0, 0, 5, 5))
    (tmp_path / "safe").mkdir()
    changed.save(tmp_path / "safe" / "c.png")
    _, _, samples, notes = measured(tmp_path, {"red": FakeBackend()})
    assert [Path(one.image.path).name for one in samples] == ["a.png", "c.png"]
    assert notes[0] == "1 near-duplicates of other images were left out"
    assert notes[1].startswith("near-duplicates have different labels, and all count: ")


def test_slices_are_the_values_of_columns_and_the_sources(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", 3)
    paint(tmp_path / "b.png", 9)
    (tmp_path / "list.csv").write_text("path,label,style\na.png,safe,photo\nb.png,red,\n")
    (tmp_path / "more.jsonl").write_text('{"path": "c.png", "label": "safe", "style": 7}\n')
    one = read_labelled([str(tmp_path / "list.csv")], ["red"], {})
    assert [file.content for file in files_of(one, ["style"])] == [("style photo",), ("style (empty)",)]
    both = read_labelled([str(tmp_path / "list.csv"), str(tmp_path / "more.jsonl")], ["red"], {})
    assert files_of(both, ["style"])[2].content == ("style 7", f"from {tmp_path / 'more.jsonl'}")


def test_a_column_that_makes_no_slices_is_an_error(tmp_path: Path) -> None:
    rows = "".join(f"{n}.png,safe,{n}\n" for n in range(MAX_CONTENT_SLICES + 1))
    (tmp_path / "list.csv").write_text("path,label,user\n" + rows)
    images = read_labelled([str(tmp_path / "list.csv")], ["red"], {})
    with pytest.raises(ConfigError, match="no list has the column 'usr': did you mean 'user'"):
        files_of(images, ["usr"])
    with pytest.raises(ConfigError, match="the column 'user' has 41 values, and at most 40 make slices"):
        files_of(images, ["user"])
    with pytest.raises(ConfigError, match="folders have no columns, give a list"):
        files_of([LabelledImage("a.png", frozenset())], ["user"])


def test_labels_may_say_how_severe(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\na.png,red:high\nb.png,big\nc.png,red\nd.png,safe\n")
    source = [str(tmp_path / "list.csv")]
    images = read_labelled(source, ["red"], {"big": "red:low"}, levels=LEVELS)
    assert [words_of(image) for image in images] == ["red high", "red low", "red", "harmless"]
    assert images[1].severities == {"red": Severity.LOW}
    with pytest.raises(ConfigError, match=r"the label 'red:high' of .* means nothing yet"):
        read_labelled(source, ["red"], {"big": "red"})
    with pytest.raises(ConfigError, match="does not score 'red:medium'"):
        read_labelled(source, ["red"], {"big": "red:medium"}, levels=LEVELS)


def test_two_severities_of_one_image_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\na.png,red:high\na.png,red:low\n")
    with pytest.raises(ConfigError, match="is labelled as red:high and red:low: correct its label"):
        read_labelled([str(tmp_path / "list.csv")], ["red"], {}, levels=LEVELS)


def test_a_list_may_be_a_parquet_table(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pa.table({"path": ["a.png", "b.png"], "label": ["red", "safe"], "year": [2025, None]})
    parquet.write_table(table, tmp_path / "list.parquet")
    images = read_labelled([str(tmp_path / "list.parquet")], ["red"], {})
    assert [(Path(i.path).name, words_of(i), i.facts["year"]) for i in images] == [
        ("a.png", "red", "2025"), ("b.png", "harmless", ""),
    ]  # fmt: skip
    (tmp_path / "bad.parquet").write_bytes(b"no table")
    with pytest.raises(ConfigError, match=r"bad.parquet cannot be read"):
        read_labelled([str(tmp_path / "bad.parquet")], ["red"], {})
