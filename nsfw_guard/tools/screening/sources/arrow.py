"""Images in Arrow files, and in the folders of `Dataset.save_to_disk`: streams, of which one batch of rows is held."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nsfw_guard.errors import ConfigError, MissingExtraError
from nsfw_guard.jsonfile import read_json
from nsfw_guard.tools.screening.sources.containers import DAMAGED, IMAGE_COLUMNS, NO_IMAGE, column_of, content_of
from nsfw_guard.tools.screening.sources.entries import UNREADABLE, Content, Entry, Unreadable

STATE, SPLITS = "state.json", "dataset_dict.json"
_END = b"\xff\xff\xff\xff" + bytes(4)  # of a stream, since Arrow 0.15
_MAGIC = b"ARROW1"  # of a file with a table of contents, as Feather writes it


class Streams:
    """Images in Arrow files: bytes, paths, or the structs of Hugging Face datasets that hold one or the other."""

    def __init__(self, paths: Sequence[str], column: str | None = None) -> None:
        self.paths, self.column = paths, column

    def entries(self, reader: int) -> Iterator[Entry]:
        """Yield each row of each file, and an entry that cannot be read where a file is damaged.

        Raises:
            ConfigError: a file has no column of images.
        """
        for path in self.paths:
            row, whole = 0, False
            try:
                with _opened(path) as (source, batches):
                    self._position(batches.schema, path)
                    for batch in _batches_of(batches):
                        for at in range(row, row + batch.num_rows):
                            yield Entry(f"{path}#{at}", reader, path, at)
                        row += batch.num_rows
                    whole = _has_end(source, batches)
            except ConfigError:
                raise
            except (OSError, ValueError, NotImplementedError):
                whole = False
            if not whole:
                yield Entry(f"{path}#{row}", reader, path, row, DAMAGED)

    def read(self, entries: Sequence[Entry], most: int) -> Iterator[Content]:
        """Yield the bytes of each row; one batch of rows is held at a time."""
        place, held = "", range(0)
        values: Any = None
        for entry in entries:
            if entry.length == DAMAGED:
                is_there = os.path.exists(entry.place)
                yield Unreadable(
                    "the Arrow file is cut or damaged: what follows in it was not judged"
                    if is_there
                    else f"{UNREADABLE}: there is no such file"
                )
                continue
            try:
                if entry.place != place or entry.offset not in held:
                    values, held = self._batch_with(entry)
                    place = entry.place
                yield content_of(values[entry.offset - held.start].as_py(), place, most)
            except NO_IMAGE as error:
                place = ""
                yield Unreadable(f"{UNREADABLE} ({type(error).__name__})")

    def _batch_with(self, entry: Entry) -> tuple[Any, range]:
        """The images of the batch that holds a row, checked, and all rows of this batch."""
        with _opened(entry.place) as (_, batches):
            at, first = self._position(batches.schema, entry.place), 0
            for batch in _batches_of(batches):
                if entry.offset < first + batch.num_rows:
                    values = batch.column(at)
                    values.validate(full=True)  # offsets that lead out of the file would be followed
                    return values, range(first, first + batch.num_rows)
                first += batch.num_rows
        raise IndexError(entry.offset)

    def _position(self, schema: Any, path: str) -> int:
        """Where the column of images is."""
        column = column_of(schema.names, self.column, IMAGE_COLUMNS, path)
        at: int = schema.get_field_index(column)
        if at < 0:
            raise ConfigError(f"{path!r} has two columns {column!r}: name another one with --column, or write it again")
        return at


@contextmanager
def _opened(path: str) -> Iterator[tuple[Any, Any]]:
    """A file that is mapped, so that what is passed over is not read, and what reads its batches."""
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingExtraError("pyarrow", "scan") from None
    with pa.memory_map(path) as source:
        is_file = source.read(len(_MAGIC)) == _MAGIC
        source.seek(0)
        yield source, pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)


def _batches_of(batches: Any) -> Iterator[Any]:
    count = getattr(batches, "num_record_batches", None)
    if count is None:
        yield from batches
    else:
        yield from map(batches.get_batch, range(count))


def _has_end(source: Any, batches: Any) -> bool:
    """Whether what was read has an end: without one, a stream that was cut between two batches looks whole."""
    if hasattr(batches, "num_record_batches"):
        return True  # its table of contents is at its end
    end = source.tell()
    source.seek(max(0, end - 8))
    return bytes(source.read(8)) == _END


def is_saved(folder: Path) -> bool:
    """Return whether a folder was written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    for name, key in ((STATE, "_data_files"), (SPLITS, "splits")):
        if (folder / name).is_file():
            try:
                return key in read_json(folder / name)
            except ConfigError:
                return False
    return False


def files_of(folder: Path) -> list[str]:
    """Return the Arrow files of a saved dataset, or of all its splits, in the order of their rows.

    Raises:
        ConfigError: it lists files elsewhere, or its rows are in an order of their own.
    """
    if (folder / SPLITS).is_file():
        splits = _names(read_json(folder / SPLITS).get("splits"), folder / SPLITS)
        return [file for split in splits for file in files_of(folder / split)]
    state = read_json(folder / STATE)
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise ConfigError(
            f"the dataset in {str(folder)!r} has its rows in an order of its own: save the result of its "
            "flatten_indices()"
        )
    listed = state.get("_data_files")
    if isinstance(listed, list):  # what has no name is refused with the names
        listed = [one.get("filename") if isinstance(one, dict) else None for one in listed]
    return [str(folder / name) for name in _names(listed, folder / STATE)]


def _names(names: object, file: Path) -> list[str]:
    """Names of files in the same folder: a downloaded dataset must not name others."""
    if not isinstance(names, list) or not names:
        raise ConfigError(f"{str(file)!r} lists nothing: save the dataset again")
    for name in names:
        if not isinstance(name, str) or name in {"", ".", ".."} or set(name) & set("/\\:\0"):
            raise ConfigError(f"{str(file)!r} names {name!r}, expected a name in its folder: save the dataset again")
    return names
