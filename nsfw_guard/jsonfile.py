"""The reader of untrusted JSON files: limits are checked before parsing. Standard library only."""

from __future__ import annotations

import json
import math
import stat
from pathlib import Path
from typing import Any, NoReturn

from nsfw_guard.errors import ConfigError, NsfwGuardError

MAX_JSON_BYTES = 4 << 20  # the largest configuration of a published model that we read has 1.2 MB
MAX_JSON_DEPTH = 32  # levels; published configurations have six


def read_json(path: Path, *, error: type[NsfwGuardError] = ConfigError, most: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        error: the file is not a JSON object within the limits.
    """
    where = f"{path.name} in {path.parent.name!r}"
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe may wait, reading a device may never end
            raise error(f"{where} is not a regular file: put a copy of the file there")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as cause:
        raise error(f"{where} cannot be read ({cause.strerror}): fetch or write it again") from cause
    if len(data) > most:
        raise error(f"{where} is larger than {most >> 20} MB, the most that is read: fetch or write it again")
    return parse_json(data, where, error=error)


def parse_json(data: bytes, where: str, *, error: type[NsfwGuardError] = ConfigError) -> dict[str, Any]:
    """Return the JSON object in these bytes: UTF-8, no NaN, no infinity, limited depth.

    Raises:
        error: the bytes hold anything else.
    """
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_no_number, parse_float=_finite)
        if isinstance(value, dict) and _deep(value):
            raise ValueError(f"nested more than {MAX_JSON_DEPTH} levels deep")
    except (ValueError, RecursionError) as cause:
        why = str(cause)[:160] or type(cause).__name__
        raise error(f"{where} is not usable JSON ({why}): fetch or write it again") from cause
    if not isinstance(value, dict):
        raise error(f"{where} is not usable JSON (expected an object in braces): fetch or write it again")
    return value


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _deep(value: object) -> bool:
    """Whether it has too many levels, without recursion."""
    level: list[object] = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [x for each in level if isinstance(each, (dict, list)) for x in _below(each)]
    return bool(level)


def _below(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value
