"""What every engine runs: a function from the entries of a chunk to its rows, which can be sent to another process."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from nsfw_guard.imaging.clips.clip import CLIP_LIMITS
from nsfw_guard.tools.screening.rows import Row
from nsfw_guard.tools.screening.scorer import Scorer
from nsfw_guard.tools.screening.sources.entries import Content, Entry, Reader, Unreadable


class ChunkScorer:
    """A function from the entries of a chunk to its rows, in order.

    Sent to another process, it reads the images there, and its scorer loads the model there, once.

    Args:
        scorer: judges each batch.
        readers: the sources, by the index that is in each entry.
        workers: threads; while one waits for the model, the others read and decode.

    Example:
        ```python
        scorer = Scorer(ScanSettings(model="demo-shapes"))
        judge = ChunkScorer(scorer, [Folder("photos")], workers=2)
        rows = judge([Entry("photos/a.png", 0, "photos/a.png")])
        ```
    """

    def __init__(self, scorer: Scorer, readers: Sequence[Reader], *, workers: int = 1) -> None:
        self.scorer, self.readers, self.workers = scorer, readers, workers

    def __call__(self, entries: Sequence[Entry]) -> list[Row]:
        """Return a row for each entry: some batches ahead are read and judged by threads."""
        batches = batches_of(entries, self.scorer.settings.batch_size)
        waiting: deque[Future[list[Row]]] = deque()
        rows: list[Row] = []
        with ThreadPoolExecutor(self.workers) as pool:
            for batch in itertools.chain(batches, itertools.repeat(None)):
                if batch is not None:
                    waiting.append(pool.submit(self._of_batch, batch))
                elif not waiting:
                    break
                if len(waiting) > self.workers or batch is None:
                    rows += waiting.popleft().result()
        return rows

    def _of_batch(self, batch: Sequence[Entry]) -> list[Row]:
        most = CLIP_LIMITS.bytes if batch[0].is_clip else self.scorer.settings.limits.bytes
        contents: list[Content] = []
        for reader, group in itertools.groupby(batch, key=lambda entry: entry.reader):
            part = list(group)
            read = list(self.readers[reader].read(part, most))
            # A reader that yields too few or too many would put one image's verdict on another.
            contents += read if len(read) == len(part) else [Unreadable("its source cannot be read")] * len(part)
        return self.scorer([entry.key for entry in batch], contents)


def batches_of(entries: Sequence[Entry], size: int) -> Iterator[list[Entry]]:
    """Yield entries in batches; a video file is a batch of its own, since it may be hundreds of megabytes."""
    batch: list[Entry] = []
    for entry in entries:
        if batch and (entry.is_clip or batch[0].is_clip or len(batch) == size):
            yield batch
            batch = []
        batch.append(entry)
    if batch:
        yield batch
