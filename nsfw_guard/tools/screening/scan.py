"""A scan: every image of its sources judged once, in parts, which a later run goes on with after any end."""

from __future__ import annotations

import itertools
import json
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nsfw_guard.errors import ConfigError
from nsfw_guard.imaging.clips.clip import CLIP_LIMITS
from nsfw_guard.tools.lock import locked
from nsfw_guard.tools.screening.entries import Content, Entry, Reader, Unreadable
from nsfw_guard.tools.screening.parts import Format, Parts, sync_folder
from nsfw_guard.tools.screening.plan import Plan, read_plan, write_plan
from nsfw_guard.tools.screening.rows import Row
from nsfw_guard.tools.screening.scorer import ScanSettings, Scorer

RUN = "run.json"
SCHEMA = 2  # of run.json and of the rows
CHUNK = 256  # images of a part


@dataclass(frozen=True)
class ScanProgress:
    """A part that is done: its rows, or none where an earlier run has written it."""

    index: int
    count: int
    total: int
    rows: tuple[Row, ...] = ()


class Scan:
    """Images of some sources, judged into a folder.

    Args:
        sources: what `readers_of` takes.
        out: the folder of the output. A scan that was begun there goes on; with other settings it is refused.
        settings: how images are judged.
        kind: the format of the parts.
        column: the column of tables and lists that holds the images.
        workers: threads; while one waits for the model, the others read and decode.

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
    ) -> None:
        if settings.batch_size < 1 or (workers is not None and workers < 1):
            raise ConfigError(f"batch_size={settings.batch_size} and workers={workers} must be 1 or more")
        self.sources, self.out, self.settings, self.kind, self.column = tuple(sources), out, settings, kind, column
        self.workers = workers or min(4, os.cpu_count() or 1)
        self.scorer = Scorer(settings)

    def run(self) -> Iterator[ScanProgress]:
        """Judge what is left, and yield each part when it is written.

        Raises:
            ConfigError: another scan runs in the folder, it holds a scan with other settings, or the disk is full.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        with locked(self.out):
            parts = Parts(self.out, self.kind, self.scorer.width)
            parts.clear_unfinished()
            plan, readers = self._plan()
            for index, entries in enumerate(plan.chunks(CHUNK)):
                rows: tuple[Row, ...] = ()
                if parts.done(index):
                    parts.check(index, entries)
                else:
                    rows = tuple(self._judge(entries, readers))
                    parts.write(index, rows)
                yield ScanProgress(index, len(entries), plan.count, rows)

    def _plan(self) -> tuple[Plan, list[Reader]]:
        """The plan of the run that was begun here, or a new one."""
        from nsfw_guard.tools.screening.readers import readers_of

        readers = readers_of(self.sources, column=self.column)
        described = self._describe()
        path = self.out / RUN
        if not path.exists():
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
        guard = self.scorer.guard
        return {
            "schema": SCHEMA,
            # Relative sources are those of the folder that the command runs in.
            "directory": os.getcwd(),
            "sources": list(self.sources),
            "column": self.column,
            "format": self.kind,
            "chunk": CHUNK,
            "settings": asdict(self.settings),
            "model": guard.spec.name,
            "revision": guard.spec.version,
            "policy_hash": guard.policy.hash,
            "state": dict(guard.state),
        }

    def _read(self, path: Path) -> Mapping[str, Any]:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{str(path)!r} is not JSON: begin again with another --out") from error
        return content if isinstance(content, dict) else {}

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        part = path.with_suffix(".new")
        with part.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(self.out)

    def _judge(self, entries: Sequence[Entry], readers: Sequence[Reader]) -> Iterator[Row]:
        """The rows of a chunk, in order: some batches ahead are read and judged by threads."""
        batches = _batches(entries, self.settings.batch_size)
        waiting: deque[Future[list[Row]]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            for batch in itertools.chain(batches, itertools.repeat(None)):
                if batch is not None:
                    waiting.append(pool.submit(self._of_batch, batch, readers))
                elif not waiting:
                    return
                if len(waiting) > self.workers or batch is None:
                    yield from waiting.popleft().result()

    def _of_batch(self, batch: Sequence[Entry], readers: Sequence[Reader]) -> list[Row]:
        most = CLIP_LIMITS.bytes if batch[0].is_clip else self.settings.limits.bytes
        contents: list[Content] = []
        for reader, group in itertools.groupby(batch, key=lambda entry: entry.reader):
            part = list(group)
            read = list(readers[reader].read(part, most))
            # A reader that yields too few or too many would put one image's verdict on another.
            contents += read if len(read) == len(part) else [Unreadable("its source cannot be read")] * len(part)
        return self.scorer([entry.key for entry in batch], contents)


def _batches(entries: Sequence[Entry], size: int) -> Iterator[list[Entry]]:
    """Entries in batches; a video file is a batch of its own, since it may be hundreds of megabytes."""
    batch: list[Entry] = []
    for entry in entries:
        if batch and (entry.is_clip or batch[0].is_clip or len(batch) == size):
            yield batch
            batch = []
        batch.append(entry)
    if batch:
        yield batch
