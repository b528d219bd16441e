"""The sources of a scan: folders, lists of paths, shards of tar files, tables in Parquet and Arrow, and addresses."""

from __future__ import annotations

import csv
import glob
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.screen import looks_like_an_image
from nsfw_guard.tools.screening.sources.arrow import Streams, files_of, is_saved
from nsfw_guard.tools.screening.sources.containers import Shards, Tables, column_of, content_of, read_file, within
from nsfw_guard.tools.screening.sources.entries import JUDGED_SUFFIXES, UNREADABLE, Content, Entry, Reader, Unreadable

LISTS = {".csv", ".jsonl", ".txt"}
LONGEST_PATH = 1 << 17  # letters of a field of CSV: a quote that is never closed must not fill the memory
PATH_COLUMNS = ("path", "file", "file_name", "filename", "image", "url")


def readers_of(sources: Sequence[str], *, column: str | None = None) -> list[Reader]:
    """Return a reader for each source.

    Args:
        sources: folders, images, globs, `.tar` shards, `.parquet` and `.arrow` tables, folders of
            `Dataset.save_to_disk`, `.csv`, `.jsonl` or `.txt` lists of paths, and addresses such as
            `s3://bucket/folder` or `hf://datasets/name/of/train.parquet`.
        column: the column of tables and lists that holds images or paths; by default the first usual name.

    Raises:
        ConfigError: a source does not exist, or is of no known kind.
    """
    return [_reader_of(source, column) for source in sources]


def _reader_of(source: str, column: str | None) -> Reader:
    if not source:
        raise ConfigError("a source is empty: pass a folder, a file or an address")
    if "://" in source:
        is_table = PurePosixPath(source).suffix.lower() == ".parquet"
        return RemoteTables(source, column) if is_table else Remote(source)
    path = Path(source)
    kinds: dict[str, Callable[[], Reader]] = {
        ".tar": lambda: Shards((source,)), ".parquet": lambda: Tables((source,), column),
        ".arrow": lambda: Streams((source,), column),
        **{suffix: lambda: PathList(source, column) for suffix in LISTS},
    }  # fmt: skip
    if path.is_dir():
        return _saved(path, column) if is_saved(path) else Folder(source)
    if path.exists():
        # A pipe may wait for ever: it becomes a row that says what it is.
        return kinds.get(path.suffix.lower() if path.is_file() else "", lambda: Files((source,)))()
    if any(sign in source for sign in "*?["):
        files = [match for match in _matches(source) if os.path.isfile(match)]
        if not files:
            raise ConfigError(f"no file matches {source!r}: check the pattern")
        suffixes = {Path(file).suffix.lower() for file in files}
        if suffixes == {".tar"}:
            return Shards(tuple(files))
        if suffixes == {".arrow"}:
            return Streams(tuple(files), column)
        return Tables(tuple(files), column) if suffixes == {".parquet"} else Files(tuple(files))
    raise ConfigError(f"the source {source!r} does not exist: check the path")


def _saved(folder: Path, column: str | None) -> Reader:
    """The reader of a saved dataset; images beside it would not be judged, and nobody would know."""
    beside = next(Folder(str(folder)).entries(0), None)
    if beside is not None:
        raise ConfigError(
            f"{str(folder)!r} holds a saved dataset, and beside it {beside.key!r}: move one of them to another folder"
        )
    return Streams(tuple(files_of(folder)), column)


def _matches(pattern: str) -> list[str]:
    """What a pattern names; ** does not follow links to folders, of which two to themselves would have no end."""
    parts = Path(pattern).parts
    if "**" not in parts:
        return sorted(glob.glob(pattern))
    start = next(at for at, part in enumerate(parts) if any(sign in part for sign in "*?["))
    below = Path(*parts[start:], *(["*"] if parts[-1] == "**" else []))
    return sorted({str(path) for path in Path(*parts[:start]).glob(str(below))})


class Files:
    """Files that were named."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths

    def entries(self, reader: int) -> Iterator[Entry]:
        """Yield each file."""
        for path in self.paths:
            yield Entry(path, reader, path)

    def read(self, entries: Sequence[Entry], most: int) -> Iterator[Content]:
        """Yield the bytes of each file."""
        for entry in entries:
            yield read_file(entry.place, most)


class Folder(Files):
    """All images below a folder, by name; links to folders are not followed. One folder's names are held at a time."""

    def __init__(self, folder: str) -> None:
        super().__init__(())
        self.folder = folder

    def entries(self, reader: int) -> Iterator[Entry]:
        """Yield each image: by its suffix, or by its first bytes."""
        waiting = [self.folder]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(folder) as listed:
                    inside = sorted(listed, key=lambda one: one.name)
            except OSError as error:
                if folder == self.folder:
                    raise ConfigError(f"the folder {folder!r} cannot be listed ({error.strerror}): check it") from error
                # Named in the output, so that it is not taken for an empty one.
                yield Entry(os.path.join(folder, ""), reader, folder)
                continue
            waiting += [one.path for one in reversed(inside) if one.is_dir(follow_symlinks=False)]
            for one in inside:
                if _is_file(one) and (
                    Path(one.name).suffix.lower() in JUDGED_SUFFIXES or looks_like_an_image(Path(one.path))
                ):
                    yield Entry(one.path, reader, one.path)


def _is_file(one: os.DirEntry[str]) -> bool:
    """Whether this is a file; true where it cannot be said, as for a link to itself, so that it is named as a row."""
    try:
        return one.is_file()
    except OSError:
        return True


class PathList(Files):
    """A list of paths: a column of a CSV, a key of JSON lines, or one a line, relative to the list's folder."""

    def __init__(self, file: str, column: str | None = None) -> None:
        super().__init__(())
        self.file, self.column = file, column

    def entries(self, reader: int) -> Iterator[Entry]:
        """Yield each path of the list."""
        base = os.path.dirname(self.file)
        try:
            for name in self._names():
                yield Entry(name, reader, os.path.join(base, name))
        except csv.Error as error:
            raise ConfigError(f"{self.file!r} is no CSV that can be read ({error}): correct the list") from error

    def _names(self) -> Iterator[str]:
        suffix = Path(self.file).suffix.lower()
        with open(self.file, encoding="utf-8", errors="surrogateescape", newline="") as file:
            if suffix == ".txt":
                yield from (line.rstrip("\r\n") for line in file if line.strip())
            elif suffix == ".csv":
                csv.field_size_limit(LONGEST_PATH)
                rows = csv.DictReader(file)
                column = column_of(rows.fieldnames or (), self.column, PATH_COLUMNS, self.file)
                yield from (self._text(row.get(column), number) for number, row in enumerate(rows, 2))
            else:
                yield from (self._of_json(line, number) for number, line in enumerate(file, 1) if line.strip())

    def _of_json(self, line: str, number: int) -> str:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"line {number} of {self.file!r} is not JSON: correct the list") from error
        if isinstance(row, dict):
            row = row.get(column_of(row, self.column, PATH_COLUMNS, self.file))
        return self._text(row, number)

    def _text(self, value: object, number: int) -> str:
        if not isinstance(value, str) or not value:
            raise ConfigError(f"line {number} of {self.file!r} has no path: correct the list")
        return value


class Remote:
    """Files below an address of fsspec, such as `s3://bucket/folder`; its package for this protocol is the user's."""

    def __init__(self, address: str) -> None:
        self.address = address

    def entries(self, reader: int) -> Iterator[Entry]:
        """Yield each image by its suffix: looking into each file would fetch it."""
        system, path = self._system()
        for file in sorted(system.find(path)):
            if Path(file).suffix.lower() in JUDGED_SUFFIXES:
                yield Entry(str(system.unstrip_protocol(file)), reader, file)

    def read(self, entries: Sequence[Entry], most: int) -> Iterator[Content]:
        """Yield the bytes of each file."""
        system, _ = self._system()
        for entry in entries:
            try:
                with system.open(entry.place, "rb") as file:
                    yield within(io.BufferedReader(file).read(most + 1), most)
            except Exception as error:  # noqa: BLE001 - each protocol raises errors of its own
                yield Unreadable(f"{UNREADABLE} ({type(error).__name__}: {error})"[:300])

    def _system(self) -> tuple[Any, str]:
        return system_of(self.address)


class RemoteTables(Tables):
    """Parquet files at an address of fsspec, or at all that a pattern there names; only what is needed is fetched."""

    _errors = (Exception,)  # each protocol raises errors of its own

    def __init__(self, address: str, column: str | None = None) -> None:
        super().__init__((), column)
        self.address = address

    def entries(self, reader: int) -> Iterator[Entry]:
        """Yield each row of each table."""
        system, path = system_of(self.address)
        places = sorted(system.glob(path)) if any(sign in path for sign in "*?[") else [path]
        if not places:
            raise ConfigError(f"no file matches {self.address!r}: check the pattern")
        for place in places:
            for row in range(self._open(place).metadata.num_rows):
                yield Entry(f"{system.unstrip_protocol(place)}#{row}", reader, place, row)

    def _source(self, path: str) -> Any:
        system, _ = system_of(self.address)
        try:
            return system.open(path, "rb")
        except Exception as error:  # each protocol raises errors of its own
            raise ConfigError(f"{path!r} cannot be opened ({type(error).__name__}: {error})"[:300]) from error

    def _content(self, value: object, place: str, most: int) -> Content:
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str):
            return Unreadable("a path in a table at an address is not read: only its bytes are")
        return content_of(value, place, most)


def system_of(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it.

    Raises:
        ConfigError: the package for its protocol is not there.
    """
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{address!r} cannot be opened ({error}): install the package it names") from error
    return system, path
