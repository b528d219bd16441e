"""A scan for other programs: the same images and numbers in every format, whole or not there."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.tools.converting import images
from nsfw_guard.tools.converting.formats import FORMATS, FormatName, convert
from nsfw_guard.tools.screening.results import rows_of
from tests.tools.converting.conftest import Scanned

KINDS = ["jsonl", "parquet"]
NAMES = ["a allow&.png", "a block&.png", "a error&.png", "a review&.png"]


def needs(to: str, kind: str = "jsonl") -> None:
    for library in {"faiss": ["faiss"], "parquet": ["pyarrow"]}.get(to, []) + ["pyarrow"] * (kind == "parquet"):
        pytest.importorskip(library)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_text(encoding="utf-8").splitlines()]


def rows(scan: Path) -> list[dict[str, Any]]:
    return list(rows_of(scan))


@pytest.mark.parametrize("kind", KINDS)
def test_an_array_opens_without_being_read_and_line_i_is_about_vector_i(
    kind: Any, scanned: Scanned, tmp_path: Path
) -> None:
    needs("npy", kind)
    scan, out = scanned(kind), tmp_path / "out"
    about = convert(scan, out, to="npy")
    vectors = np.load(out / "embeddings.npy", mmap_mode="r", allow_pickle=False)
    assert isinstance(vectors, np.memmap)
    wanted = [row for row in rows(scan) if row["embedding"]]
    assert (vectors.dtype, vectors.shape) == (np.float32, (4, 3))
    np.testing.assert_allclose(vectors, [row["embedding"] for row in wanted], rtol=1e-6)
    names = ("key", "outcome", "score", "category", "sha256")
    assert lines(out / "keys.jsonl") == [{name: row[name] for name in names} for row in wanted]
    assert json.loads((out / "about.json").read_text()) == about
    assert about["sha256"] == {
        name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in ("embeddings.npy", "keys.jsonl")
    }
    first = wanted[0]
    assert about == {
        "model": first["model"], "revision": first["revision"], "policy_hash": first["policy_hash"],
        "count": 4, "width": 3, "sha256": about["sha256"],
    }  # fmt: skip


def test_the_header_has_room_for_any_count(tmp_path: Path) -> None:
    from nsfw_guard.tools.converting import arrays

    for shape in ((1, 1), (10**12, 10**5)):
        file = io.BytesIO()
        arrays._write_header(file, *shape)
        assert len(file.getvalue()) == arrays._HEAD
        file.seek(0)
        assert np.lib.format.read_magic(file) == (1, 0)
        assert np.lib.format.read_array_header_1_0(file) == (shape, False, np.dtype("<f4"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_has_a_row_for_each_image(kind: Any, scanned: Scanned, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    scan = scanned(kind)
    facts = convert(scan, tmp_path / "out.parquet", to="parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column_names == ["key", "outcome", "category", "sha256", "pdq", "score", "embedding"]
    for row, wanted in zip(table.to_pylist(), rows(scan), strict=True):
        for name in ("key", "outcome", "category", "sha256", "pdq", "score"):
            assert row[name] == wanted[name]
        assert (row["embedding"] is None) == (not wanted["embedding"])
        if row["embedding"]:
            assert row["embedding"] == pytest.approx(wanted["embedding"], rel=1e-5)
    assert (facts["count"], facts["without_embedding"], facts["width"]) == (5, 1, 3)
    assert table.schema.metadata[b"nsfw_guard.model"].decode() == facts["model"]


def test_groups_of_rows_are_written_as_they_come(
    scanned: Scanned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    from nsfw_guard.tools.converting import tables

    monkeypatch.setattr(tables, "_GROUP", 2)
    scan = scanned()
    convert(scan, tmp_path / "out.parquet", to="parquet")
    file = parquet.ParquetFile(tmp_path / "out.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [2, 2, 1]
    assert file.read().column("key").to_pylist() == [row["key"] for row in rows(scan)]


def array_of(value: Any) -> Any:
    """As FiftyOne's VectorField reads it."""
    data = base64.b64decode(value["$binary"]["base64"], validate=True)
    return np.load(io.BytesIO(zlib.decompress(data)), allow_pickle=False)


def test_samples_for_fiftyone(scanned: Scanned, folder: Path, tmp_path: Path) -> None:
    scan, out = scanned(), tmp_path / "out"
    facts = convert(scan, out, to="fiftyone")
    assert (facts["count"], facts["left_out"]) == (4, 1)
    samples = json.loads((out / "samples.json").read_text(), parse_constant=pytest.fail)["samples"]
    assert [sample["filepath"] for sample in samples] == [str(folder / name) for name in NAMES]
    for sample, row in zip(samples, rows(scan), strict=False):
        assert sample["outcome"]["_cls"] == "Classification"
        assert (sample["outcome"]["label"], sample["outcome"]["confidence"]) == (row["outcome"], row["score"])
        assert (sample["sha256"], sample["score"], sample["pdq"] or "") == (row["sha256"], row["score"], row["pdq"])
        if row["embedding"]:
            assert array_of(sample["embedding"]).dtype == np.float32
            assert array_of(sample["embedding"]) == pytest.approx(row["embedding"], rel=1e-5)
        else:
            assert sample["embedding"] is None
    metadata = json.loads((out / "metadata.json").read_text())
    assert metadata["media_type"] == "image"
    assert metadata["info"]["nsfw_guard_model"] == facts["model"]


def test_tasks_for_label_studio(scanned: Scanned, folder: Path, tmp_path: Path) -> None:
    scan, out = scanned(), tmp_path / "out"
    assert convert(scan, out, to="label-studio") == {"count": 4, "left_out": 1}
    tasks = json.loads((out / "tasks.json").read_text(), parse_constant=pytest.fail)
    config = (out / "label_config.xml").read_text()
    choices = set(re.findall(r'<Choice value="(\w+)"/>', config))
    assert choices == {"allow", "review", "block", "error"}
    for task, row, name in zip(tasks, rows(scan), NAMES, strict=False):
        start, path = task["data"]["image"].split("?d=")
        assert start == "/data/local-files/"
        assert unquote_to_bytes(path).decode() == str(folder / name).lstrip("/")
        assert "&" not in path
        (prediction,) = task["predictions"]
        assert prediction["result"][0]["value"]["choices"] == [row["outcome"]]
        assert prediction.get("score") == row["score"]
        assert 'Choices name="outcome" toName="image"' in config
        assert (prediction["result"][0]["from_name"], prediction["result"][0]["to_name"]) == ("outcome", "image")


def test_tasks_by_address(scanned: Scanned, folder: Path, tmp_path: Path) -> None:
    scan = scanned()
    (folder / NAMES[0]).unlink()  # what a server has need not be here
    convert(scan, tmp_path / "out", to="label-studio", url_prefix="https://images.example/x/")
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert len(tasks) == 4
    assert tasks[0]["data"]["image"] == f"https://images.example/x{folder}/a%20allow%26.png"


def test_what_is_gone_is_left_out_and_counted(scanned: Scanned, folder: Path, tmp_path: Path) -> None:
    scan = scanned()
    (folder / NAMES[0]).unlink()
    assert convert(scan, tmp_path / "tasks", to="label-studio") == {"count": 3, "left_out": 2}
    for name in NAMES[1:]:
        (folder / name).unlink()
    for to in ("label-studio", "fiftyone"):
        with pytest.raises(ConfigError, match=r"no image of the scan .* is an image file that is there"):
            convert(scan, tmp_path / "none", to=to)  # type: ignore[arg-type]
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("to", ["fiftyone", "label-studio"])
def test_clips_are_left_out(to: FormatName, scanned: Scanned, folder: Path, tmp_path: Path) -> None:
    """FiftyOne refuses images and clips in one dataset, and the labelling config shows images."""
    (folder / "clip.mp4").write_bytes(b"no clip")
    facts = convert(scanned(), tmp_path / "out", to=to)
    assert (facts["count"], facts["left_out"]) == (4, 2)


def test_names_of_any_bytes(odd: str, scanned: Scanned, tmp_path: Path) -> None:
    scan = scanned()
    assert convert(scan, tmp_path / "tasks", to="label-studio")["count"] == 5
    tasks = json.loads((tmp_path / "tasks" / "tasks.json").read_text())
    (task,) = [task for task in tasks if "caf" in task["data"]["image"]]
    assert unquote_to_bytes(task["data"]["image"].split("?d=")[1]) == os.fsencode(odd).lstrip(b"/")
    convert(scan, tmp_path / "npy", to="npy")
    assert any(line["key"].endswith("caf\\xe9.png") for line in lines(tmp_path / "npy" / "keys.jsonl"))
    assert convert(scan, tmp_path / "fiftyone", to="fiftyone")["left_out"] == 2  # its database holds text only


@pytest.mark.parametrize("to", FORMATS)
def test_a_scan_that_is_not_finished_is_refused_and_nothing_is_left(
    to: FormatName, scanned: Scanned, tmp_path: Path
) -> None:
    needs(to)
    scan = scanned()
    (part,) = scan.glob("part-*")
    part.write_text("".join(part.read_text().splitlines(keepends=True)[:-1]))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="is not finished: run the same command again"):
        convert(scan, tmp_path / "out", to=to)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("to", ["npy", "parquet", "faiss"])
@pytest.mark.parametrize("how", [{"kind": "csv"}, {"embeddings": False}])
def test_a_scan_without_embeddings_is_refused_where_they_are_wanted(
    to: FormatName, how: dict[str, Any], scanned: Scanned, tmp_path: Path
) -> None:
    needs(to)
    scan = scanned(**how)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="has no embeddings: scan without --no-embeddings"):
        convert(scan, tmp_path / "out", to=to)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("to", ["fiftyone", "label-studio"])
def test_samples_and_tasks_need_no_embeddings(to: FormatName, scanned: Scanned, tmp_path: Path) -> None:
    assert convert(scanned("csv"), tmp_path / "out", to=to)["count"] == 4


@pytest.mark.parametrize("to", FORMATS)
def test_what_is_there_is_never_replaced(to: FormatName, scanned: Scanned, tmp_path: Path) -> None:
    needs(to)
    scan = scanned()
    (tmp_path / "out").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("out", "link"):
        with pytest.raises(ConfigError, match="is there already"):
            convert(scan, tmp_path / name, to=to)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("to", ["npy", "parquet"])
def test_a_target_that_appears_meanwhile_is_kept(
    to: FormatName, scanned: Scanned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(to)
    scan, plain = scanned(), images.pairs_of

    def meanwhile(*args: Any) -> Any:
        (tmp_path / "out").write_text("mine")
        return plain(*args)

    monkeypatch.setattr(images, "pairs_of", meanwhile)
    with pytest.raises(ConfigError, match="has appeared meanwhile"):
        convert(scan, tmp_path / "out", to=to)
    assert (tmp_path / "out").read_text() == "mine"
    assert list(tmp_path.glob(".*.new")) == []


def test_embeddings_of_several_models_are_refused(scanned: Scanned, tmp_path: Path) -> None:
    scan = scanned()
    (part,) = scan.glob("part-*")
    part.write_text(part.read_text().replace('"revision": "', '"revision": "x', 1))
    with pytest.raises(ConfigError, match="embeddings of several models"):
        convert(scan, tmp_path / "out", to="npy")


def test_an_embedding_that_is_not_finite_is_refused(scanned: Scanned, tmp_path: Path) -> None:
    scan = scanned()
    (part,) = scan.glob("part-*")
    part.write_text(re.sub(r'"embedding": \[[^,]*', '"embedding": [NaN', part.read_text(), count=1))
    with pytest.raises(ConfigError, match="is not finite"):
        convert(scan, tmp_path / "out", to="npy")


def test_an_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'npy'"):
        convert(tmp_path, tmp_path / "out", to="npz")  # type: ignore[arg-type]
