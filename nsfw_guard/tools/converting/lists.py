"""A JSON list that is written one value at a time."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any


class JsonList:
    """A file that holds a JSON list, perhaps within an object.

    Args:
        path: a new file.
        key: of the object that holds the list; the list alone by default.

    Example:
        ```python
        with JsonList(Path("tasks.json")) as tasks:
            tasks.add({"data": {"image": "https://example.org/a.png"}})
        ```
    """

    def __init__(self, path: Path, key: str = "") -> None:
        self.count = 0
        self._file = path.open("w", encoding="utf-8")
        self._end = "\n]}\n" if key else "\n]\n"
        self._file.write(f"{{{json.dumps(key)}: [" if key else "[")

    def add(self, value: Any) -> None:
        """Write a value.

        Raises:
            ValueError: it holds a number that is not finite, which is no JSON.
        """
        line = json.dumps(value, sort_keys=True, allow_nan=False)
        self._file.write((",\n" if self.count else "\n") + line)
        self.count += 1

    def __enter__(self) -> JsonList:
        """Return the list."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Close the list, and its file."""
        with self._file:
            self._file.write(self._end)
