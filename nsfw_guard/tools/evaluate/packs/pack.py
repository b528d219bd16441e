"""A further measurement as a section of the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Pack:
    """A section: its title, what it means, a table of texts, and the same rows as JSON-ready values.

    Args:
        title: above the section.
        meaning: what was measured, in a sentence or two.
        header, rows: the table.
        content: the rows for machines, in the same order.
        notes: what was left out, or is wrong.
        broken: whether it shows what must not be, so that the command fails.
    """

    title: str
    meaning: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    content: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()
    broken: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"rows": [dict(row) for row in self.content], "notes": list(self.notes)}
