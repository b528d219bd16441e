"""Arrow files and saved datasets as sources: every row once, and no file that was cut passes for a whole one."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nsfw_guard.cli.main import main
from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.screening.results import rows_of
from nsfw_guard.tools.screening.sources.entries import Unreadable
from nsfw_guard.tools.screening.sources.readers import readers_of
from tests.tools.screening.shapes import encoded, paint
from tests.tools.screening.sources.test_readers import MOST, contents, names

pa = pytest.importorskip("pyarrow")
CUT = Unreadable("the Arrow file is cut or damaged: what follows in it was not judged")
IMAGES = [encoded("allow", blue) for blue in range(5)]
WRITERS: dict[str, Callable[..., Any]] = {"stream": pa.ipc.new_stream, "file": pa.ipc.new_file}


def arrow(path: Path, rows: dict[str, list[Any]], kind: str = "stream", batch: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(rows)
    with WRITERS[kind](path, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch)
    return path


def saved(folder: Path, images: list[bytes], *, shards: int = 2, **state: object) -> Path:
    """A folder as `Dataset.save_to_disk` writes it."""
    structs = [{"bytes": data, "path": None} for data in images]
    files = [f"data-{shard:05d}-of-{shards:05d}.arrow" for shard in range(shards)]
    size = -(-len(images) // shards)
    for shard, file in enumerate(files):
        rows = structs[shard * size :][:size]
        arrow(folder / file, {"image": rows, "label": [0] * len(rows)})
    (folder / "dataset_info.json").write_text(json.dumps({"features": {"image": {"_type": "Image"}}}))
    listed = {"_data_files": [{"filename": file} for file in files], "_fingerprint": "f", **state}
    (folder / "state.json").write_text(json.dumps(listed))
    return folder


@pytest.mark.parametrize("kind", WRITERS)
def test_arrow_files_hold_bytes_structs_or_paths(kind: str, tmp_path: Path) -> None:
    paint(tmp_path / "b.png", "block")
    path = arrow(tmp_path / "bytes.arrow", {"id": list(range(5)), "image": list(IMAGES)}, kind)
    assert names(path) == [f"{path}#{row}" for row in range(5)]
    assert contents(path) == IMAGES
    structs = [{"bytes": IMAGES[0], "path": "x"}, {"bytes": None, "path": "b.png"}, {"bytes": None, "path": None}, None]
    missing = Unreadable("the row holds no image")
    assert contents(arrow(tmp_path / "structs.arrow", {"image": structs}, kind)) == [
        IMAGES[0], encoded("block"), missing, missing,
    ]  # fmt: skip
    assert contents(arrow(tmp_path / "paths.arrow", {"file_name": ["b.png"]}, kind)) == [encoded("block")]


@pytest.mark.parametrize("kind", WRITERS)
def test_rows_of_arrow_are_read_in_any_order(kind: str, tmp_path: Path) -> None:
    (reader,) = readers_of([str(arrow(tmp_path / "a.arrow", {"image": list(IMAGES)}, kind))])
    entries = list(reader.entries(0))
    order = [4, 0, 3, 3, 1]
    assert list(reader.read([entries[i] for i in order], MOST)) == [IMAGES[i] for i in order]
    assert list(reader.read(entries[:1], 10)) == [
        Unreadable("more than 10 bytes: make it smaller, or raise limits.bytes")
    ]


def test_a_stream_that_was_cut_anywhere_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    path = arrow(tmp_path / "a.arrow", {"image": list(IMAGES)})
    data = path.read_bytes()
    for size in range(0, len(data), 24):
        path.write_bytes(data[:size])
        read = contents(path)
        assert read == [*IMAGES[: len(read) - 1], CUT]
    path.write_bytes(data[:-8])  # between two batches: only the mark of the end is gone
    assert contents(path) == [*IMAGES, CUT]


def test_a_file_with_a_table_of_contents_that_was_cut_is_one_row(tmp_path: Path) -> None:
    path = arrow(tmp_path / "a.arrow", {"image": list(IMAGES)}, "file")
    path.write_bytes(path.read_bytes()[:-20])
    assert contents(path) == [CUT]


def test_offsets_that_lead_out_of_the_file_are_refused(tmp_path: Path) -> None:
    batch = pa.record_batch([pa.array([b"few"])], names=["image"])
    with pa.ipc.new_stream(tmp_path / "a.arrow", batch.schema) as writer:
        writer.write_batch(batch)
    data = (tmp_path / "a.arrow").read_bytes()
    at = data.rindex(b"\0\0\0\0\3\0\0\0")  # both offsets of the only value
    (tmp_path / "a.arrow").write_bytes(data[: at + 4] + b"\xff\xff\xff\x7f" + data[at + 8 :])
    assert contents(tmp_path / "a.arrow") == [Unreadable("cannot be read (ArrowInvalid)")]


def test_a_column_of_arrow_may_be_named_and_must_be_there_once(tmp_path: Path) -> None:
    path = arrow(tmp_path / "a.arrow", {"photo": list(IMAGES)})
    assert contents(path, column="photo") == IMAGES
    with pytest.raises(ConfigError, match=r"has the columns photo, not image or .*: name the right one with --column"):
        names(path)
    batch = pa.record_batch([pa.array([b"one"]), pa.array([b"other"])], names=["image", "image"])
    with pa.ipc.new_stream(tmp_path / "b.arrow", batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(ConfigError, match="has two columns 'image'"):
        names(tmp_path / "b.arrow")


def test_a_pattern_names_arrow_files(tmp_path: Path) -> None:
    arrow(tmp_path / "a.arrow", {"image": IMAGES[:2]})
    arrow(tmp_path / "b.arrow", {"image": IMAGES[2:]})
    assert contents(tmp_path / "*.arrow") == IMAGES


def test_a_saved_dataset_is_read_in_the_order_of_its_files(tmp_path: Path) -> None:
    folder = saved(tmp_path / "set", IMAGES)
    assert contents(folder) == IMAGES
    first, second = sorted(folder.glob("*.arrow"))
    second.unlink()
    gone = Unreadable("cannot be read: there is no such file")
    assert contents(folder) == [*IMAGES[:3], gone]
    first.write_bytes(first.read_bytes()[:-8])
    assert contents(folder) == [*IMAGES[:3], CUT, gone]


def test_the_splits_of_a_saved_dataset_are_read_one_after_the_other(tmp_path: Path) -> None:
    saved(tmp_path / "set" / "train", IMAGES[:3])
    saved(tmp_path / "set" / "test", IMAGES[3:], shards=1)
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert contents(tmp_path / "set") == IMAGES


@pytest.mark.parametrize(
    ("state", "match"),
    [
        ({"_data_files": [{"filename": "../elsewhere.arrow"}]}, "names '../elsewhere.arrow', expected a name in its"),
        ({"_data_files": [{"filename": 3}]}, "names 3, expected a name"),
        ({"_data_files": [{"filename": "data-00000-of-00002.arrow"}, "other"]}, "names None, expected a name"),
        ({"_data_files": []}, "lists nothing"),
        ({"_data_files": 3}, "lists nothing"),
        ({"_indices_data_files": [{"filename": "indices.arrow"}]}, "save the result of its flatten_indices"),
    ],
)
def test_a_saved_dataset_that_cannot_be_followed_is_refused(
    state: dict[str, object], match: str, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "set", IMAGES, **state)
    with pytest.raises(ConfigError, match=match):
        readers_of([str(folder)])


def test_images_beside_a_saved_dataset_are_not_passed_over(tmp_path: Path) -> None:
    folder = saved(tmp_path / "set", IMAGES)
    paint(folder / "more" / "a.png")
    with pytest.raises(ConfigError, match=r"beside it .*a.png': move one of them"):
        readers_of([str(folder)])


def test_a_folder_with_another_state_is_a_folder(tmp_path: Path) -> None:
    paint(tmp_path / "a.png")
    for text in ('{"step": 3}', "no JSON"):
        (tmp_path / "state.json").write_text(text)
        assert contents(tmp_path) == [encoded("allow")]


def test_a_saved_dataset_is_scanned(tmp_path: Path) -> None:
    folder = saved(tmp_path / "set", IMAGES)
    words = ["scan", str(folder), "--model", "demo-shapes", "--format", "jsonl", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert [Path(row["key"]).name for row in rows_of(tmp_path / "out")] == [
        f"data-{shard:05d}-of-00002.arrow#{row}" for shard, row in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1))
    ]


def test_tables_at_an_address_are_read_by_fsspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `hf://datasets/...` is, whose protocol the package `huggingface_hub` registers in the same way."""
    fsspec = pytest.importorskip("fsspec")
    parquet = pytest.importorskip("pyarrow.parquet")
    from fsspec.implementations.memory import MemoryFileSystem

    class Hub(MemoryFileSystem):  # type: ignore[misc]
        protocol = "hf"
        store: dict[str, Any] = {}  # noqa: RUF012
        pseudo_dirs = [""]  # noqa: RUF012
        cachable = False

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return "/" + path.removeprefix("hf://").strip("/")

        def unstrip_protocol(self, name: str) -> str:
            return "hf://" + name.lstrip("/")

    monkeypatch.setitem(importlib.import_module("fsspec.registry")._registry, "hf", Hub)
    secret = paint(tmp_path / "secret.png", "block")
    for name, structs in {
        "a.parquet": [{"bytes": data, "path": "x.png"} for data in IMAGES[:3]],
        "b.parquet": [{"bytes": IMAGES[3], "path": None}, {"bytes": None, "path": str(secret)}],
    }.items():
        with fsspec.open(f"hf://datasets/some/images/data/{name}", "wb") as file:
            parquet.write_table(pa.table({"image": structs}), file, row_group_size=2)
    one = "hf://datasets/some/images/data/a.parquet"
    assert names(one) == [f"{one}#{row}" for row in range(3)]
    assert contents(one) == IMAGES[:3]
    assert contents("hf://datasets/some/images/data/*.parquet") == [
        *IMAGES[:4], Unreadable("a path in a table at an address is not read: only its bytes are"),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="no file matches"):
        names("hf://datasets/some/none/*.parquet")
    with pytest.raises(ConfigError, match="cannot be opened"):
        names("hf://datasets/some/images/none.parquet")
    (reader,) = readers_of([one])
    entries = list(reader.entries(0))
    monkeypatch.setattr(Hub, "_open", failing)
    assert list(reader.read(entries[:2], MOST)) == [Unreadable("cannot be read (ConfigError)")] * 2


def failing(*args: object, **options: object) -> None:
    """As a network that is gone: a protocol's errors are of any class."""
    raise RuntimeError("no network")
