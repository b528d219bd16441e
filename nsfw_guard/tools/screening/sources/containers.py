"""Files as contents, columns by name, and images that lie in other files: shards of tar and tables of Parquet."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nsfw_guard.errors import ConfigError, MissingExtraError
from nsfw_guard.tools.screening.sources.entries import JUDGED_SUFFIXES, UNREADABLE, Content, Entry, Unreadable

DAMAGED, ELSEWHERE = -1, -2  # in place of a length
_NOT_READ = {
    DAMAGED: "the shard is damaged: what follows in it was not judged",
    ELSEWHERE: "a link or a sparse file in a shard is not read: write the shard with plain files",
}
IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "content", "path", "file_name")
# What reading a damaged table raises; the last one is Arrow's, for a kind of value that it cannot read.
NO_IMAGE = (ConfigError, OSError, ValueError, LookupError, NotImplementedError)


def read_file(path: str, most: int) -> Content:
    """Return the bytes of a file; a pipe or a device is never opened, since reading it may wait for ever."""
    try:
        if not os.path.exists(path):
            return Unreadable(f"{UNREADABLE}: there is no such file")
        if not os.path.isfile(path):
            return Unreadable(f"{UNREADABLE}: not a regular file")
        with open(path, "rb") as file:
            return within(file.read(most + 1), most)
    except OSError as error:
        return Unreadable(f"{UNREADABLE} ({error.strerror})")


def within(data: bytes, most: int) -> Content:
    """Return data, unless there is more of it than allowed."""
    return data if len(data) <= most else Unreadable(f"more than {most} bytes: make it smaller, or raise limits.bytes")


class Shards:
    """Images in tar files (WebDataset): their members are read where they lie, nothing is extracted."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths

    def entries(self, reader: int) -> Iterator[Entry]:
        """Yield each image of each shard, and an entry that cannot be read where a shard is damaged."""
        for path in self.paths:
            whole = False
            try:
                # Without compression only, so that a member can be read at its offset.
                with tarfile.open(path, "r:") as tar:
                    while member := tar.next():
                        tar.members = []  # type: ignore[attr-defined]  # it would keep every one of millions
                        if not member.isdir() and Path(member.name).suffix.lower() in JUDGED_SUFFIXES:
                            # What a program extracts of a link or a sparse file are not the bytes at this offset.
                            plain = member.isreg() and not member.issparse() and member.size >= 0
                            length = member.size if plain else ELSEWHERE
                            yield Entry(f"{path}/{member.name}", reader, path, member.offset_data, length)
                    whole = _ends(path, tar.offset)
            except (tarfile.TarError, OSError, ValueError, RecursionError):
                whole = False
            if not whole:
                yield Entry(f"{path}/", reader, path, 0, DAMAGED)

    def read(self, entries: Sequence[Entry], most: int) -> Iterator[Content]:
        """Yield the bytes of each member."""
        for entry in entries:
            if entry.length < 0:
                yield Unreadable(_NOT_READ[entry.length])
            elif entry.length > most:
                yield Unreadable(f"more than {most} bytes: make it smaller, or raise limits.bytes")
            else:
                yield self._member(entry)

    def _member(self, entry: Entry) -> Content:
        try:
            with open(entry.place, "rb") as file:
                file.seek(entry.offset - tarfile.BLOCKSIZE)
                header = file.read(tarfile.BLOCKSIZE)
                data = file.read(entry.length)
        except OSError as error:
            return Unreadable(f"{UNREADABLE} ({error.strerror})")
        if len(data) < entry.length:
            return Unreadable("the shard ends within this image")
        return data if _is_header(header, entry) else Unreadable("the shard was changed after the scan was begun")


class Tables:
    """Images in Parquet files: bytes, paths, or the structs of Hugging Face datasets that hold one or the other."""

    _errors: tuple[type[Exception], ...] = NO_IMAGE

    def __init__(self, paths: Sequence[str], column: str | None = None) -> None:
        self.paths, self.column = paths, column

    def entries(self, reader: int) -> Iterator[Entry]:
        """Yield each row of each table."""
        for path in self.paths:
            table = self._open(path)
            for row in range(table.metadata.num_rows):
                yield Entry(f"{path}#{row}", reader, path, row)

    def read(self, entries: Sequence[Entry], most: int) -> Iterator[Content]:
        """Yield the bytes of each row; one group of rows is held at a time."""
        place, held = "", range(0)
        table: Any = None
        values: Any = None
        for entry in entries:
            try:
                if entry.place != place:
                    table, place, held = self._open(entry.place), entry.place, range(0)
                if entry.offset not in held:
                    group, held = _group_of(table.metadata, entry.offset)
                    column = column_of(table.schema_arrow.names, self.column, IMAGE_COLUMNS, place)
                    # By its name, which refuses a name of two columns.
                    values = table.read_row_group(group, columns=[column]).column(column)
                yield self._content(values[entry.offset - held.start].as_py(), place, most)
            except self._errors as error:
                place = ""
                yield Unreadable(f"{UNREADABLE} ({type(error).__name__})")

    def _open(self, path: str) -> Any:
        try:
            from pyarrow import parquet
        except ImportError:
            raise MissingExtraError("pyarrow", "scan") from None
        source = self._source(path)
        try:
            return parquet.ParquetFile(source)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path!r} is not a whole Parquet file: write it again") from error

    def _source(self, path: str) -> Any:
        """What Parquet is read from."""
        return path

    def _content(self, value: object, place: str, most: int) -> Content:
        return content_of(value, place, most)


def content_of(value: object, place: str, most: int) -> Content:
    """Return the bytes of an image in a table: they are the value, or in a struct, or in a file beside the table."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str) and value:
        return read_file(os.path.join(os.path.dirname(place), value), most)
    return within(value, most) if isinstance(value, bytes) and value else Unreadable("the row holds no image")


def _ends(path: str, offset: int) -> bool:
    """Whether a tar file ends at this offset: the library takes a damaged header for the end as well."""
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)


def _is_header(header: bytes, entry: Entry) -> bool:
    """Whether this is the header of a member: of another one the image would get the verdict."""
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    # Names that are long or no ASCII are whole elsewhere; here they are cut, perhaps within a letter, or replaced.
    name, shown = (text.encode("ascii", "replace") for text in (entry.key[len(entry.place) + 1 :], info.name))
    is_cut = len(os.fsencode(info.name)) > 90 and name.startswith(shown[:-4])
    return info.size == entry.length and (name == shown or is_cut)


def _group_of(metadata: Any, row: int) -> tuple[int, range]:
    """The group of rows that holds a row, and all of its rows."""
    first = 0
    for group in range(metadata.num_row_groups):
        count = metadata.row_group(group).num_rows
        if row < first + count:
            return group, range(first, first + count)
        first += count
    raise IndexError(row)


def column_of(names: Any, wanted: str | None, usual: Sequence[str], file: str) -> str:
    """Return the column that was asked for, or the first usual one."""
    for name in (wanted,) if wanted else usual:
        if name in names:
            return name
    raise ConfigError(
        f"{file!r} has the columns {', '.join(map(str, names)) or '(none)'}, not {wanted or ' or '.join(usual)}: name "
        "the right one with --column"
    )
