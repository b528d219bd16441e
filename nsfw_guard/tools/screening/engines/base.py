"""What an engine is, and the one that judges in this process."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Protocol

from nsfw_guard.tools.screening.chunks import ChunkScorer
from nsfw_guard.tools.screening.rows import Row
from nsfw_guard.tools.screening.scorer import ScanSettings
from nsfw_guard.tools.screening.sources.entries import Entry

Chunk = tuple[int, list[Entry]]  # its index in the plan, and its entries
Judged = tuple[int, list[Row]]


class Engine(Protocol):
    """Judges chunks; the scan reads the plan, and writes and checks the parts. Rank 0 of 1 unless it says otherwise."""

    @property
    def rank(self) -> int:
        """Which of the processes of this scan this one is. Rank r gets the chunks with index % world == r."""
        ...

    @property
    def world(self) -> int:
        """How many processes run this scan side by side."""
        ...

    def settings(self, settings: ScanSettings) -> ScanSettings:
        """Return the settings that this process judges with; only the device may differ from those of the scan."""
        ...

    def notice(self) -> str | None:
        """Return what its user must know before it starts; None where there is nothing."""
        ...

    def judge(self, scorer: ChunkScorer, chunks: Iterator[Chunk]) -> Generator[Judged, None, None]:
        """Yield the rows of each chunk once, in any order."""
        ...


class Local:
    """Judges in this process, chunk by chunk, with threads.

    Example:
        ```python
        scan = Scan(["photos"], Path("scanned"), settings=ScanSettings(model="demo-shapes"), engine=Local())
        ```
    """

    rank = 0
    world = 1

    def settings(self, settings: ScanSettings) -> ScanSettings:
        """Return the settings as they are."""
        return settings

    def notice(self) -> str | None:
        """Return nothing: it opens no port."""
        return None

    def judge(self, scorer: ChunkScorer, chunks: Iterator[Chunk]) -> Generator[Judged, None, None]:
        """Yield the rows of each chunk, in order."""
        for index, entries in chunks:
            yield index, scorer(entries)
