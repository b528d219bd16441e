"""What a scan finds in its sources: everything once, in the same order each time, and never more than that."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.screening.sources.entries import Entry, Unreadable
from nsfw_guard.tools.screening.sources.readers import readers_of
from tests.tools.screening.shapes import encoded, paint, shard

MOST = 10_000


def names(source: object, column: str | None = None) -> list[str]:
    (reader,) = readers_of([str(source)], column=column)
    return [entry.key for entry in reader.entries(0)]


def contents(source: object, most: int = MOST, column: str | None = None) -> list[bytes | Unreadable]:
    (reader,) = readers_of([str(source)], column=column)
    return list(reader.read(list(reader.entries(0)), most))


def test_a_folder_is_listed_by_name_with_its_folders_after_its_files(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "below/c.png", "below/deeper/d.png", "also/e.png"):
        paint(tmp_path / name)
    (tmp_path / "notes.txt").write_text("text")
    paint(tmp_path / "without a suffix")
    listed = [os.path.relpath(name, tmp_path) for name in names(tmp_path)]
    assert listed == ["a.jpg", "b.png", "without a suffix", "also/e.png", "below/c.png", "below/deeper/d.png"]


def test_links_to_folders_are_not_followed_and_links_to_files_are(tmp_path: Path) -> None:
    paint(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "in" / "a.png")
    assert [Path(name).name for name in names(tmp_path / "in")] == ["a.png", "b.png"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_listed_is_a_row(tmp_path: Path) -> None:
    paint(tmp_path / "in" / "closed" / "a.png")
    (tmp_path / "in" / "closed").chmod(0)
    (content,) = contents(tmp_path / "in")
    (tmp_path / "in" / "closed").chmod(0o700)
    assert content == Unreadable("cannot be read: not a regular file")


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    paint(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    assert [Path(name).name for name in names(tmp_path)] == ["a.png"]
    assert contents(tmp_path / "b.png") == [Unreadable("cannot be read: not a regular file")]


def test_names_of_any_bytes_are_read(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(name)).write_bytes(encoded("allow"))
    except OSError:
        pytest.skip("the file system takes UTF-8 only")
    (entry,) = next(iter(readers_of([str(tmp_path)]))).entries(0)
    assert Entry.from_line(entry.to_line()) == entry
    assert contents(tmp_path) == [encoded("allow")]


def test_a_file_that_is_gone_or_too_large_says_so(tmp_path: Path) -> None:
    paint(tmp_path / "a.png")
    (reader,) = readers_of([str(tmp_path)])
    entries = list(reader.entries(0))
    assert list(reader.read(entries, 10)) == [Unreadable("more than 10 bytes: make it smaller, or raise limits.bytes")]
    (tmp_path / "a.png").unlink()
    assert list(reader.read(entries, MOST)) == [Unreadable("cannot be read: there is no such file")]


def test_a_pattern_names_files(tmp_path: Path) -> None:
    for name in ("a1.png", "a2.png", "b.png", "below/a3.png"):
        paint(tmp_path / name)
    assert [Path(name).name for name in names(tmp_path / "a*.png")] == ["a1.png", "a2.png"]
    assert [Path(name).name for name in names(tmp_path / "**" / "a*.png")] == ["a1.png", "a2.png", "a3.png"]
    with pytest.raises(ConfigError, match="no file matches"):
        readers_of([str(tmp_path / "c*.png")])


@pytest.mark.parametrize("source", ["", "nowhere", "nowhere.tar"])
def test_a_source_that_is_not_there(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"empty|does not exist"):
        readers_of([source])


LISTS = {
    "list.txt": "a.png\n\nbelow/b.png\r\n",
    "list.csv": "id,path\n1,a.png\n2,below/b.png\n",
    "list.jsonl": '{"path": "a.png"}\n"below/b.png"\n',
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_name_paths_beside_them(name: str, tmp_path: Path) -> None:
    paint(tmp_path / "a.png")
    paint(tmp_path / "below" / "b.png", "block")
    (tmp_path / name).write_text(LISTS[name])
    assert names(tmp_path / name) == ["a.png", "below/b.png"]
    assert contents(tmp_path / name) == [encoded("allow"), encoded("block")]


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("list.csv", "id,place\n1,a.png\n", "has the columns id, place, not path or file"),
        ("list.csv", "id,path\n1,\n", "line 2 of .* has no path"),
        ("list.jsonl", "{a.png}\n", "line 1 of .* is not JSON"),
        ("list.jsonl", '{"path": 3}\n', "line 1 of .* has no path"),
    ],
)
def test_a_list_without_paths_is_refused(name: str, text: str, match: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=match):
        names(tmp_path / name)


def test_a_column_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,thumb\na.png,b.png\n")
    assert names(tmp_path / "list.csv", "thumb") == ["b.png"]
    with pytest.raises(ConfigError, match="not full: name the right one"):
        names(tmp_path / "list.csv", "full")


def test_shards_are_read_where_their_members_lie(tmp_path: Path) -> None:
    members = {"1.json": b"{}", "1.png": encoded("allow"), "2.png": encoded("block")}
    path = shard(tmp_path / "a.tar", members)
    assert names(path) == [f"{path}/1.png", f"{path}/2.png"]
    assert contents(path) == [encoded("allow"), encoded("block")]


def test_a_damaged_shard_is_a_row_and_what_was_before_is_judged(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", {"1.png": encoded("allow"), "2.png": encoded("block")})
    data = bytearray(path.read_bytes())
    data[1024:1100] = b"x" * 76  # the header of the second member
    path.write_bytes(data)
    assert contents(path) == [encoded("allow"), Unreadable("the shard is damaged: what follows in it was not judged")]


def test_a_shard_that_became_shorter_says_so(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", {"1.png": encoded("allow")})
    (reader,) = readers_of([str(path)])
    entries = list(reader.entries(0))
    path.write_bytes(path.read_bytes()[:520])
    assert list(reader.read(entries, MOST)) == [Unreadable("the shard ends within this image")]
    assert list(reader.read(entries, 10)) == [Unreadable("more than 10 bytes: make it smaller, or raise limits.bytes")]


def test_a_compressed_shard_is_refused_as_damaged(tmp_path: Path) -> None:
    import gzip

    path = shard(tmp_path / "a.tar", {"1.png": encoded("allow")})
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert contents(path) == [Unreadable("the shard is damaged: what follows in it was not judged")]


def table(path: Path, rows: dict[str, list[object]], group: int = 2) -> Path:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table(rows), path, row_group_size=group)
    return path


def test_tables_hold_bytes_structs_or_paths(tmp_path: Path) -> None:
    paint(tmp_path / "b.png", "block")
    images = [encoded("allow", blue) for blue in range(5)]
    path = table(tmp_path / "bytes.parquet", {"image": list(images)})
    assert names(path) == [f"{path}#{row}" for row in range(5)]
    assert contents(path) == images
    structs = [{"bytes": images[0], "path": "x.png"}, {"bytes": None, "path": "b.png"}, {"bytes": None, "path": None}]
    assert contents(table(tmp_path / "structs.parquet", {"image": list(structs)})) == [
        images[0],
        encoded("block"),
        Unreadable("the row holds no image"),
    ]
    assert contents(table(tmp_path / "paths.parquet", {"file_name": ["b.png"]})) == [encoded("block")]


def test_rows_of_a_table_are_read_in_any_order(tmp_path: Path) -> None:
    images = [encoded("allow", blue) for blue in range(7)]
    (reader,) = readers_of([str(table(tmp_path / "a.parquet", {"image": list(images)}))])
    entries = list(reader.entries(0))
    order = [6, 0, 5, 1, 1, 4]
    assert list(reader.read([entries[i] for i in order], MOST)) == [images[i] for i in order]


def test_a_broken_table_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(ConfigError, match="not a whole Parquet file"):
        names(tmp_path / "a.parquet")


def test_addresses_are_read_by_fsspec(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe({"/scan/a.png": encoded("allow"), "/scan/notes.txt": b"text", "/scan/below/b.png": encoded("block")})
    assert names("memory://scan") == ["memory:///scan/a.png", "memory:///scan/below/b.png"]
    assert contents("memory://scan") == [encoded("allow"), encoded("block")]
    with pytest.raises(ConfigError, match="cannot be opened"):
        names("nosuch://scan")


def test_lines_of_a_plan_are_plain_json() -> None:
    entry = Entry("caf\udce9.png", 1, "/a/caf\udce9.png", 2, 3)
    assert json.loads(entry.to_line())[2:] == ["/a/caf\udce9.png", 2, 3]
    assert entry.to_line().isascii()


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.GNUTYPE_SPARSE])
def test_a_member_whose_bytes_lie_elsewhere_is_a_row(kind: bytes, tmp_path: Path) -> None:
    """A link, or a sparse file, whose pieces a program that extracts it puts into another order."""
    body = encoded("allow") if kind == tarfile.GNUTYPE_SPARSE else b""
    head = bytearray(member("b.png", kind, len(body), "a.png"))
    if kind == tarfile.GNUTYPE_SPARSE:
        head[386:410], head[483:495] = b"%011o\0%011o\0" % (0, len(body)), b"%011o\0" % len(body)
        head[148:156] = b"        "
        head[148:156] = b"%06o\0 " % sum(head)
    (tmp_path / "a.tar").write_bytes(bytes(head) + body.ljust(-(-len(body) // 512) * 512, b"\0") + bytes(1024))
    assert [Path(name).name for name in names(tmp_path / "a.tar")] == ["b.png"]
    (content,) = contents(tmp_path / "a.tar")
    assert content == Unreadable("a link or a sparse file in a shard is not read: write the shard with plain files")


def test_a_shard_of_names_without_end_is_damaged(tmp_path: Path) -> None:
    long = member("././@LongLink", tarfile.GNUTYPE_LONGNAME, 10) + b"name".ljust(512, b"\0")
    (tmp_path / "a.tar").write_bytes(long * 3000 + bytes(1024))
    (content,) = contents(tmp_path / "a.tar")
    assert isinstance(content, Unreadable)
    assert "damaged" in content.reason


def test_two_columns_of_one_name_are_not_judged(tmp_path: Path) -> None:
    """Another program may read the other one."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table([[b"one"], [b"other"]], names=["image", "image"]), tmp_path / "a.parquet")
    (content,) = contents(tmp_path / "a.parquet")
    assert isinstance(content, Unreadable)


def test_a_link_to_itself_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("a.png")
    paint(tmp_path / "b.png")
    first, second = contents(tmp_path)
    assert isinstance(first, Unreadable)
    assert second == encoded("allow")


@pytest.mark.parametrize(("name", "text"), [("a.jsonl", "[" * 100_000), ("a.csv", "path\n" + "x" * 200_000)])
def test_a_list_that_no_reader_takes_is_refused(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match="correct the list"):
        names(tmp_path / name)


def test_a_shard_that_was_written_again_says_so(tmp_path: Path) -> None:
    """Two images of one size change places after the scan was begun: each would get the verdict of the other."""
    one, other = encoded("allow"), encoded("block").ljust(len(encoded("allow")), b"\0")
    size = max(len(one), len(other))
    images = {"a.png": one.ljust(size, b"\0"), "b.png": other.ljust(size, b"\0")}
    (reader,) = readers_of([str(shard(tmp_path / "s.tar", images))])
    entries = list(reader.entries(0))
    assert list(reader.read(entries, MOST)) == list(images.values())
    shard(tmp_path / "s.tar", dict(reversed(images.items())))
    assert list(reader.read(entries, MOST)) == [Unreadable("the shard was changed after the scan was begun")] * 2


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_members_of_long_and_foreign_names_are_read(kind: int, tmp_path: Path) -> None:
    long = "d" * 90 + "/" + "n" * (60 if kind == tarfile.USTAR_FORMAT else 160) + ".png"
    listed = [
        long,
        "\N{GREEK SMALL LETTER ALPHA}.png",
        *([] if kind == tarfile.USTAR_FORMAT else ["\u00e4" * 99 + ".png"]),
    ]
    with tarfile.open(tmp_path / "a.tar", "w", format=kind) as tar:
        for name in listed:
            tar.add(paint(tmp_path / "a.png"), name)
    assert contents(tmp_path / "a.tar") == [encoded("allow")] * len(listed)


def test_a_pattern_ends_where_links_lead_back(tmp_path: Path) -> None:
    paint(tmp_path / "in" / "deep" / "a.png")
    for name in ("one", "other"):
        (tmp_path / "in" / name).symlink_to(".")
    for pattern in ("**", "**/*.png", "*/**/a.png"):
        assert f"{tmp_path}/in/deep/a.png" in names(tmp_path / "in" / pattern)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tar", "a.parquet"])
def test_a_pipe_is_no_list_and_no_shard(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    assert contents(tmp_path / name) == [Unreadable("cannot be read: not a regular file")]
