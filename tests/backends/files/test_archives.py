"""Files are read out of small archives made here: sound ones, and each kind that is refused."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nsfw_guard.backends.files import archives
from nsfw_guard.backends.files.archives import read_files
from nsfw_guard.errors import WeightsMissingError, WeightsUnfitError

NAME, DATA = "package/weights.bin", b"0123456789" * 200
SIZES = {NAME: len(DATA)}
Entry = tuple[str, bytes]
SOUND: list[Entry] = [("package/a.txt", b"a" * 700), (NAME, DATA), ("package/b.txt", b"")]


def zipped(path: Path, entries: list[Entry], change: Callable[[zipfile.ZipInfo], object] = lambda info: None) -> Path:
    with zipfile.ZipFile(path.with_suffix(".whl"), "w", zipfile.ZIP_DEFLATED) as whole:
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            change(info)
            whole.writestr(info, data, zipfile.ZIP_DEFLATED)
    return path.with_suffix(".whl")


def tarred(path: Path, entries: list[Entry], change: Callable[[tarfile.TarInfo], object] = lambda info: None) -> Path:
    with tarfile.open(path.with_suffix(".tgz"), "w:gz", format=tarfile.USTAR_FORMAT) as whole:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            change(info)
            whole.addfile(info, io.BytesIO(data))
    return path.with_suffix(".tgz")


WRITERS = [pytest.param(zipped, id="zip"), pytest.param(tarred, id="tar")]


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_is_read_by_its_path(write, tmp_path) -> None:
    assert read_files(write(tmp_path / "one", SOUND), SIZES) == {NAME: DATA}
    assert list(tmp_path.iterdir()) == [next(tmp_path.glob("one.*"))]  # nothing was extracted


def test_names_and_folders_of_npm_archives_are_read(tmp_path) -> None:
    deep = f"package/{'d' * 90}/{'e' * 40}.bin"  # in two fields of the header
    path = tmp_path / "one.tgz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT, pax_headers={"comment": "a commit"}) as whole:
        folder = tarfile.TarInfo("package/")
        folder.type = tarfile.DIRTYPE
        whole.addfile(folder)
    with tarfile.open(tmp_path / "two.tgz", "w:gz", format=tarfile.USTAR_FORMAT) as whole:
        info = tarfile.TarInfo(deep)
        info.size = 3
        whole.addfile(info, io.BytesIO(b"abc"))
    with pytest.raises(WeightsMissingError, match=r"has no 'package/weights\.bin'"):
        read_files(path, SIZES)
    assert read_files(tmp_path / "two.tgz", {deep: 3}) == {deep: b"abc"}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    "name", ["../up.bin", "package/../../up.bin", "/etc/up.bin", "C:/up.bin", "..\\up.bin", "package/a\nb"]
)
def test_an_archive_with_a_path_outside_is_refused(write, name, tmp_path) -> None:
    path = write(tmp_path / "one", [*SOUND, (name, b"x")])
    with pytest.raises(WeightsUnfitError, match=r"outside its folder.*download the recorded release again"):
        read_files(path, SIZES)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("again", [NAME, "package/./weights.bin", "package//weights.bin"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_an_entry_twice_is_refused(write, again, tmp_path) -> None:
    with pytest.raises(WeightsUnfitError, match="twice"):
        read_files(write(tmp_path / "one", [*SOUND, (again, b"other")]), SIZES)


def test_a_zip_with_a_link_is_refused(tmp_path) -> None:
    def link(info: zipfile.ZipInfo) -> None:
        if info.filename == "package/a.txt":
            info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16

    with pytest.raises(WeightsUnfitError, match="has a link or another special entry"):
        read_files(zipped(tmp_path / "one", SOUND, link), SIZES)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE, b"L"]
)
@pytest.mark.parametrize("name", ["package/a.txt", NAME])
def test_a_tar_with_a_link_or_a_device_is_refused(kind, name, tmp_path) -> None:
    def special(info: tarfile.TarInfo) -> None:
        if info.name == name:
            info.type, info.linkname = kind, "/etc/passwd"

    with pytest.raises(WeightsUnfitError, match="has a link or another special entry"):
        read_files(tarred(tmp_path / "one", SOUND, special), SIZES)


def test_a_tar_whose_extended_header_renames_an_entry_is_refused(tmp_path) -> None:
    path = tmp_path / "one.tgz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as whole:
        info = tarfile.TarInfo("package/\u00e4.txt")
        whole.addfile(info)
    with pytest.raises(WeightsUnfitError, match="names or sizes an entry in an extended header"):
        read_files(path, SIZES)


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_of_another_size_is_refused_before_it_is_unpacked(write, tmp_path) -> None:
    bomb = write(tmp_path / "one", [(NAME, bytes(50 << 20))])
    assert bomb.stat().st_size < 100_000
    with pytest.raises(WeightsUnfitError, match=r"declares 52428800 bytes for .*, expected 2000"):
        read_files(bomb, SIZES)


def test_a_zip_that_declares_less_than_it_holds_gives_no_more_than_it_declares(tmp_path) -> None:
    path = zipped(tmp_path / "one", [(NAME, bytes(1 << 20))])
    data = path.read_bytes().replace((1 << 20).to_bytes(4, "little"), len(DATA).to_bytes(4, "little"))
    path.write_bytes(data)
    with pytest.raises(WeightsUnfitError, match="is not a complete archive"):
        read_files(path, SIZES)


@pytest.mark.parametrize("write", WRITERS)
def test_an_archive_that_unpacks_to_too_much_is_refused(write, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 10_000)
    with pytest.raises(WeightsUnfitError, match="has more than 20000 entries or unpacks to more than"):
        read_files(write(tmp_path / "one", [*SOUND, ("package/bomb", bytes(20_000))]), SIZES)


@pytest.mark.parametrize("write", WRITERS)
def test_an_archive_with_too_many_entries_is_refused(write, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRIES", 2)
    with pytest.raises(WeightsUnfitError, match="has more than 2 entries"):
        read_files(write(tmp_path / "one", SOUND), SIZES)


@pytest.mark.parametrize("write", WRITERS)
def test_an_archive_that_is_too_large_is_refused(write, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(archives, "SLACK_BYTES", -2 * len(DATA))
    with pytest.raises(WeightsUnfitError, match="has more than 0 MB"):
        read_files(write(tmp_path / "one", SOUND), SIZES)


def test_an_extended_header_is_limited(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(archives, "MAX_NOTE_BYTES", 10)
    path = tmp_path / "one.tgz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT, pax_headers={"comment": "a commit"}):
        pass
    with pytest.raises(WeightsUnfitError, match="has an extended header of"):
        read_files(path, SIZES)


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_in_an_unusual_compression_is_refused(kind, tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "one.whl", "w", kind) as whole:
        whole.writestr(NAME, DATA)
    with pytest.raises(WeightsUnfitError, match="has an entry in an unusual compression"):
        read_files(tmp_path / "one.whl", SIZES)


@pytest.mark.parametrize("write", WRITERS)
def test_another_spelling_of_a_path_is_not_the_file(write, tmp_path) -> None:
    with pytest.raises(WeightsMissingError, match="has no"):
        read_files(write(tmp_path / "one", [("package//weights.bin", DATA)]), SIZES)


def test_an_encrypted_zip_is_refused(tmp_path) -> None:
    path = zipped(tmp_path / "one", SOUND)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2")
    data[at + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(WeightsUnfitError, match="has an encrypted entry"):
        read_files(path, SIZES)


@pytest.mark.parametrize("write", WRITERS)
def test_a_damaged_archive_is_refused(write, tmp_path) -> None:
    path = write(tmp_path / "one", [("package/noise", bytes(range(256)) * 40), *SOUND])
    whole = path.read_bytes()
    for length in (0, 1, len(whole) // 3, len(whole) - 40):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsUnfitError, match=r"is not a complete archive|is cut off"):
            read_files(path, SIZES)


def test_a_tar_with_a_wrong_checksum_is_refused(tmp_path) -> None:
    path = tarred(tmp_path / "one", SOUND)
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[0] ^= 1
    path.write_bytes(gzip.compress(data))
    with pytest.raises(WeightsUnfitError, match="the checksum of an entry"):
        read_files(path, SIZES)


def test_a_zip_entry_without_a_name_is_refused(tmp_path) -> None:
    path = zipped(tmp_path / "one", [*SOUND, ("x", b"")])
    data = path.read_bytes()
    path.write_bytes(data.replace(b"x", b"\0"))
    with pytest.raises(WeightsUnfitError, match=r"one\.whl .*so nothing is taken out of it"):
        read_files(path, SIZES)


def test_the_entries_of_a_zip_are_counted_before_its_directory_is_read(tmp_path) -> None:
    path = tmp_path / "one.whl"
    path.write_bytes(b"PK\1\2" * (archives.MAX_ENTRIES + 1))  # no zip file, so that nothing else can have counted
    with pytest.raises(WeightsUnfitError, match="has more than 20000 entries"):
        read_files(path, SIZES)
    path.write_bytes(b"PK\1\2" * archives.MAX_ENTRIES)
    with pytest.raises(WeightsUnfitError, match="is not a complete archive"):
        read_files(path, SIZES)
