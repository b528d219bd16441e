"""The output of a scan, in parts that appear whole: a chunk of the plan is done when its part is there."""

from __future__ import annotations

import csv
import io
import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from nsfw_guard.errors import ConfigError, MissingExtraError, UnknownNameError
from nsfw_guard.tools.screening.results import rows_of_part
from nsfw_guard.tools.screening.rows import COLUMNS, Row, as_text, to_table
from nsfw_guard.tools.screening.sources.entries import Entry

Format = Literal["parquet", "jsonl", "csv"]
_NOT_IN_CSV = {"embedding"}  # hundreds of numbers


@dataclass(frozen=True)
class Parts:
    """The parts of a scan in a folder.

    Args:
        folder: of the scan.
        kind: the format of each part.
        width: the numbers of an embedding; 0 where the model has none.
    """

    folder: Path
    kind: Format
    width: int

    def __post_init__(self) -> None:
        if self.kind not in get_args(Format):
            raise UnknownNameError("format", self.kind, get_args(Format))
        if self.kind == "parquet":
            try:
                import pyarrow  # noqa: F401
            except ImportError:
                raise MissingExtraError("pyarrow", "scan") from None

    def path(self, index: int) -> Path:
        """Return the path of a part."""
        return self.folder / f"part-{index:06d}.{self.kind}"

    def done(self, index: int) -> bool:
        """Return whether a part was written."""
        return self.path(index).exists()

    def check(self, index: int, entries: Sequence[Entry]) -> None:
        """Refuse a part that an earlier run has written, and that no longer holds a row for each of its entries.

        Raises:
            ConfigError: it does not.
        """
        name = self.path(index).name
        try:
            keys = [row["key"] for row in rows_of_part(self.path(index), ["key"])]
        except (OSError, ValueError, csv.Error) as error:
            raise ConfigError(f"{name} is damaged: delete it, and run the same command again") from error
        if keys != [as_text(entry.key) for entry in entries]:
            raise ConfigError(
                f"{name} holds {len(keys)} rows, not {len(entries)} of these images: delete it, and run the same "
                "command again"
            )

    def write(self, index: int, rows: Sequence[Row]) -> None:
        """Write a part: on the disk before it gets its name, so that a part under its name is whole.

        Raises:
            ConfigError: the disk is full, or the folder cannot be written.
        """
        target = self.path(index)
        part = target.with_name(f"{target.stem}.{uuid.uuid4().hex}.new")  # no two processes ever write one file
        try:
            with part.open("wb") as file:
                file.write(self._encode(rows))
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
            sync_folder(self.folder)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise ConfigError(
                f"part {index} cannot be written ({error.strerror}): make room, and run the same command again, which "
                "goes on from here"
            ) from error

    def clear_unfinished(self) -> None:
        """Delete what a run that was ended has left half written."""
        for left in self.folder.glob("part-*.new"):
            left.unlink(missing_ok=True)

    def _encode(self, rows: Sequence[Row]) -> bytes:
        if self.kind == "jsonl":
            return "".join(json.dumps(row.to_dict(), sort_keys=True) + "\n" for row in rows).encode()
        if self.kind == "csv":
            text = io.StringIO(newline="")
            table = csv.DictWriter(text, [name for name in COLUMNS if name not in _NOT_IN_CSV], extrasaction="ignore")
            table.writeheader()
            table.writerows(
                {**row.to_dict(), "flags": ";".join(row.flags), "scores": row.scores, "clip": row.clip} for row in rows
            )
            return text.getvalue().encode()
        from pyarrow import BufferOutputStream, parquet

        sink = BufferOutputStream()
        parquet.write_table(to_table(rows, self.width), sink, compression="zstd")
        return bytes(sink.getvalue())


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
