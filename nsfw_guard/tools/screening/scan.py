"""A scan: every image of its sources judged once, in parts, which a later run goes on with after any end."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nsfw_guard.backends.files.cache import put
from nsfw_guard.errors import ConfigError
from nsfw_guard.tools import lock
from nsfw_guard.tools.screening.chunks import ChunkScorer
from nsfw_guard.tools.screening.engines.base import Chunk, Engine, Local
from nsfw_guard.tools.screening.parts import Format, Parts, sync_folder
from nsfw_guard.tools.screening.plan import Plan, read_plan, write_plan
from nsfw_guard.tools.screening.rows import Row
from nsfw_guard.tools.screening.scorer import ScanSettings, Scorer, rules_of
from nsfw_guard.tools.screening.sources.entries import Reader

RUN = "run.json"
SCHEMA = 2  # of run.json and of the rows
CHUNK = 256  # images of a part
_PAUSE = 0.1  # seconds between two looks for the part of another rank


@dataclass(frozen=True)
class ScanProgress:
    """A part that is done: its rows, or none where an earlier run or another process of this one has written it.

    Args:
        index: of the part.
        count: its images.
        total: all images of the scan.
        rows: of the part.
        elsewhere: whether another process of this run has written it.
    """

    index: int
    count: int
    total: int
    rows: tuple[Row, ...] = ()
    elsewhere: bool = False


class Scan:
    """Images of some sources, judged into a folder.

    Args:
        sources: what `readers_of` takes.
        out: the folder of the output. A scan that was begun there goes on; with other settings it is refused.
        settings: how images are judged.
        kind: the format of the parts.
        column: the column of tables and lists that holds the images.
        workers: threads; while one waits for the model, the others read and decode.
        engine: who judges; by default this process. The output is the same, and another engine may go on with it.

    Example:
        ```python
        scan = Scan(["photos"], Path("scanned"), settings=ScanSettings(model="demo-shapes"), kind="jsonl")
        for progress in scan.run():
            print(progress.count, "images in part", progress.index)
        ```
    """

    def __init__(
        self,
        sources: Sequence[str],
        out: Path,
        *,
        settings: ScanSettings,
        kind: Format = "parquet",
        column: str | None = None,
        workers: int | None = None,
        engine: Engine | None = None,
    ) -> None:
        if settings.batch_size < 1 or (workers is not None and workers < 1):
            raise ConfigError(f"batch_size={settings.batch_size} and workers={workers} must be 1 or more")
        self.sources, self.out, self.settings, self.kind, self.column = tuple(sources), out, settings, kind, column
        self.workers = workers or min(4, os.cpu_count() or 1)
        self.engine = engine or Local()
        self._seen: set[int] = set()  # of the other ranks
        self.scorer = Scorer(self.engine.settings(settings))

    def run(self) -> Iterator[ScanProgress]:
        """Judge what is left, and yield each part when it is written.

        Where several processes share the scan, each yields its parts, and rank 0 those of the others after them.

        Raises:
            ConfigError: another scan runs in the folder, it holds a scan with other settings, or the disk is full.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        parts = Parts(self.out, self.kind, self.scorer.width)
        with self._held(parts) as let_in:
            if self.engine.rank == 0:
                parts.clear_unfinished()
            plan, readers = self._plan()
            others = self._of_others(plan.count)
            there = {index for index in others if parts.done(index)}
            let_in()
            yield from self._judged(plan, parts, readers)
            for index in others:
                self._wait_for(index, parts)
                count = min(CHUNK, plan.count - index * CHUNK)
                yield ScanProgress(index, count, plan.count, elsewhere=index not in there)

    @contextmanager
    def _held(self, parts: Parts) -> Iterator[Callable[[], None]]:
        """The lock of the folder, and what lets the other ranks in."""
        if self.engine.world > 1 and self.engine.rank == 0:
            with lock.leading(self.out) as let_in:
                yield let_in
        elif self.engine.world > 1:
            with lock.following(self.out, self.engine.rank, needless=lambda: self._is_done(parts)):
                yield _nothing
        else:
            with lock.locked(self.out):
                yield _nothing

    def _judged(self, plan: Plan, parts: Parts, readers: Sequence[Reader]) -> Iterator[ScanProgress]:
        """Have the chunks of this rank judged that are left, and write their parts."""
        earlier: deque[ScanProgress] = deque()
        left: dict[int, int] = {}

        def chunks() -> Iterator[Chunk]:
            for index, entries in enumerate(plan.chunks(CHUNK)):
                if index % self.engine.world != self.engine.rank:
                    continue
                if parts.done(index):
                    parts.check(index, entries)
                    earlier.append(ScanProgress(index, len(entries), plan.count))
                else:
                    left[index] = len(entries)
                    yield index, entries

        with closing(self.engine.judge(ChunkScorer(self.scorer, readers, workers=self.workers), chunks())) as judged:
            for index, rows in judged:
                if left.pop(index, None) != len(rows):
                    raise ConfigError(f"the engine gave {len(rows)} rows for chunk {index}, which is not what was left")
                parts.write(index, rows)
                self._look_for(range(1, 0 if self.engine.rank else self.engine.world))
                while earlier:
                    yield earlier.popleft()
                yield ScanProgress(index, len(rows), plan.count, tuple(rows))
        if left:
            raise ConfigError(f"the engine has ended without {len(left)} chunks: run the same command again")
        yield from earlier

    def _of_others(self, images: int) -> list[int]:
        """The parts that rank 0 waits for."""
        if self.engine.rank:
            return []
        return [index for index in range(-(-images // CHUNK)) if index % self.engine.world]

    def _wait_for(self, index: int, parts: Parts) -> None:
        """Wait until another rank has written a part, as long as it lives."""
        rank, deadline = index % self.engine.world, time.monotonic() + lock.SECONDS_TO_START
        while not parts.done(index):
            self._look_for({rank})
            late = rank in self._seen or time.monotonic() > deadline
            if late and not lock.is_held(self.out, rank) and not parts.done(index):
                raise ConfigError(
                    f"rank {rank} has ended without part {index}: run the same command again, which goes on from here"
                )
            time.sleep(_PAUSE)

    def _look_for(self, ranks: Iterable[int]) -> None:
        """Note which ranks are there: one that was may not go without its parts."""
        self._seen |= {rank for rank in ranks if rank not in self._seen and lock.is_held(self.out, rank)}

    def _is_done(self, parts: Parts) -> bool:
        """Whether every part of this rank is there."""
        try:
            images = int(self._read(self.out / RUN)["images"])
        except (OSError, ConfigError, KeyError, TypeError, ValueError):
            return False
        return all(parts.done(i) for i in range(self.engine.rank, -(-images // CHUNK), self.engine.world))

    def _plan(self) -> tuple[Plan, list[Reader]]:
        """The plan of the run that was begun here, or a new one."""
        from nsfw_guard.tools.screening.sources.readers import readers_of

        readers = readers_of(self.sources, column=self.column)
        described = self._describe()
        path = self.out / RUN
        if not path.exists():
            if self.engine.rank:
                raise ConfigError(f"{str(self.out)!r} holds no {RUN}: start all ranks with the same --out")
            if any(self.out.glob("part-*")):  # they would pass for parts of this scan
                raise ConfigError(f"{str(self.out)!r} holds parts of an earlier scan, but no {RUN}: pass another --out")
            plan = write_plan(self.out, readers)
            self._write(path, {**described, "images": plan.count, "plan_sha256": plan.sha256})
            return plan, readers
        begun = self._read(path)
        for name, value in described.items():
            if begun.get(name) != value:
                raise ConfigError(
                    f"{str(self.out)!r} holds a scan with {name} = {begun.get(name)!r}, and this one has {value!r}: "
                    "pass another --out, or the same settings"
                )
        plan = read_plan(self.out)
        if plan.sha256 != begun.get("plan_sha256"):
            raise ConfigError(f"{plan.path.name} in {str(self.out)!r} was changed: begin again with another --out")
        return plan, readers

    def _describe(self) -> dict[str, Any]:
        """What must be the same when a scan goes on."""
        rules = rules_of(self.scorer.guard)
        return {
            "schema": SCHEMA,
            # Relative sources are those of the folder that the command runs in.
            "directory": os.getcwd(),
            "sources": list(self.sources),
            "column": self.column,
            "format": self.kind,
            "chunk": CHUNK,
            "settings": asdict(self.settings),
            **rules,
            "state": self._state(rules["state"]),
        }

    def _state(self, state: Mapping[str, str]) -> dict[str, str]:
        """The effective settings; the number of a rank's GPU is no difference."""
        chosen = self.scorer.settings.device
        if chosen == self.settings.device:
            return dict(state)
        return {name: "cuda" if value == chosen else value for name, value in state.items()}

    def _read(self, path: Path) -> Mapping[str, Any]:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{str(path)!r} is not JSON: begin again with another --out") from error
        return content if isinstance(content, dict) else {}

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        put(path, json.dumps(content, indent=1, sort_keys=True).encode())
        sync_folder(self.out)


def _nothing() -> None:
    """There is nobody to let in."""
