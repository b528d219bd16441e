"""Reads the output of a scan."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nsfw_guard.errors import ConfigError, MissingExtraError
from nsfw_guard.tools.screening.plan import read_plan
from nsfw_guard.tools.screening.rows import as_text
from nsfw_guard.tools.screening.sources.entries import Entry

_HELD = 1024  # entries of the plan that are held at a time
_TEXTS = {"outcome", "category", "reason", "status", "sha256", "pdq"}
OUTCOMES = ("allow", "review", "block", "error")


def part_paths(folder: Path) -> list[Path]:
    """Return the parts of a scan, in order.

    Raises:
        ConfigError: there are none.
    """
    parts = sorted(path for path in folder.glob("part-*") if path.suffix in {".parquet", ".jsonl", ".csv"})
    if not parts:
        raise ConfigError(f"{str(folder)!r} holds no part of a scan: pass the --out of one")
    return parts


def rows_of(folder: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a scan, one part at a time in memory.

    Args:
        folder: the output of the scan.
        columns: the columns that are wanted; all of them by default.

    Raises:
        ConfigError: there are none, or one is damaged.
    """
    for path in part_paths(folder):
        try:
            yield from rows_of_part(path, columns)
        except (ValueError, AttributeError, csv.Error) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{path.name} is damaged ({error}): delete it, and run the same scan again") from error


def rows_of_part(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a part."""
    if path.suffix == ".parquet":
        yield from _of_parquet(path, columns)
        return
    with path.open(encoding="utf-8", newline="") as file:
        csv.field_size_limit(sys.maxsize)
        rows = csv.DictReader(file) if path.suffix == ".csv" else map(json.loads, file)
        for row in rows:
            yield row if columns is None else {name: row.get(name) for name in columns}


def pairs_of(folder: Path, columns: Sequence[str]) -> Iterator[tuple[Entry, dict[str, Any]]]:
    """Yield each entry of the plan of a finished scan with these columns of its row.

    Raises:
        ConfigError: the scan is not finished, or a row is not what a scan writes.
    """
    rows = rows_of(folder, ["key", *columns])
    for chunk in read_plan(folder).chunks(_HELD):
        for entry in chunk:
            row = next(rows, None)
            if row is None or row["key"] != as_text(entry.key):
                raise ConfigError(f"the scan in {str(folder)!r} is not finished: run the same command again")
            _refuse_edited(row, entry)
            yield entry, row


def _refuse_edited(row: Mapping[str, Any], entry: Entry) -> None:
    """Refuse a row that no scan has written: its texts become parts of paths, keys of tables, and pages."""
    for name in _TEXTS & row.keys():
        if not isinstance(row[name], str) and (row[name] is not None or name == "outcome"):
            raise ConfigError(f"the row of {entry.key!a} holds the {name} {row[name]!a}, which is no text: scan again")


def known_outcome(row: Mapping[str, Any]) -> str:
    """Return the outcome of a row by which files are put somewhere.

    Raises:
        ConfigError: no scan writes it.
    """
    outcome = row["outcome"]
    if outcome not in OUTCOMES:
        raise ConfigError(f"the scan holds the outcome {outcome!a}, which no scan writes: scan again")
    return str(outcome)


def outcomes(folder: Path) -> dict[str, int]:
    """Return how many images had each outcome."""
    counts = Counter(row["outcome"] for row in rows_of(folder, ["outcome"]))
    return {name: counts[name] for name in OUTCOMES}


def _of_parquet(path: Path, columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "scan") from None
    names = None if columns is None else list(columns)
    rows: list[dict[str, Any]] = parquet.read_table(path, columns=names).to_pylist()
    yield from rows
