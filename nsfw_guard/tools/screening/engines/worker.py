"""What runs in each actor of Ray."""

from __future__ import annotations

import json
import os
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nsfw_guard.errors import ConfigError, ScoringError
from nsfw_guard.tools.screening.chunks import ChunkScorer
from nsfw_guard.tools.screening.rows import Row
from nsfw_guard.tools.screening.scorer import Scorer, rules_of
from nsfw_guard.tools.screening.sources.entries import Entry
from nsfw_guard.version import __version__

TRIES = 5  # of a chunk whose worker died


class Tries:
    """Counts how often chunks were begun: Ray Data tries again for ever, also an image that ends every process."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, index: int) -> int:
        """Return how often this chunk was begun."""
        self._begun[index] += 1
        return self._begun[index]


@dataclass(frozen=True)
class Rows:
    """The rows of a chunk as one value of a column."""

    rows: list[Row]


def identity_of(scorer: Scorer) -> dict[str, Any]:
    """Return what must be the same on all machines of a scan."""
    return {"version": __version__, **rules_of(scorer.guard)}


class ChunkWorker:
    """Judges chunks of a column of entries; what fails is a text in the column `error`, and ends no job by itself.

    Args:
        scorer: judges the entries of a chunk.
        identity: of the scorer on the machine that began the scan.
        directory: where relative sources begin.
        threads: of torch.
        tries: the actor that counts.
    """

    def __init__(
        self, scorer: ChunkScorer, identity: Mapping[str, Any], directory: str, threads: int, tries: Any
    ) -> None:
        torch.set_num_threads(threads)
        self.scorer, self.identity, self.directory, self.tries = scorer, identity, directory, tries
        self._ready = False

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the rows of the chunk of a batch, and why there are none."""
        rows, error = np.empty(1, dtype=object), ""
        rows[0] = Rows([])
        try:
            self._prepare()
            self._begin(int(batch["index"][0]))
            lines = json.loads(zlib.decompress(batch["entries"][0]))
            rows[0] = Rows(self.scorer([Entry.from_line(line) for line in lines]))
        except Exception as problem:  # noqa: BLE001 - raised in a batch, it would end the whole job without a word of ours
            error = f"{type(problem).__name__}: {problem}"
        return {"index": np.asarray(batch["index"]), "rows": rows, "error": np.array([error])}

    def _begin(self, index: int) -> None:
        """Refuse a chunk at which worker after worker has died."""
        import ray

        if ray.get(self.tries.begin.remote(index)) > TRIES:
            raise ScoringError(
                f"{TRIES} workers were ended at it, by the system, its memory or an image: see the log of the "
                "system, and decode in processes of their own (--process)"
            )

    def _prepare(self) -> None:
        """Go where relative sources begin, and refuse to judge by other rules than the machine that began the scan."""
        if self._ready:
            return
        try:
            os.chdir(self.directory)  # the process is this actor's alone
        except OSError as error:
            raise ConfigError(
                f"{self.directory!r}, in which the scan was begun, is not on this node ({error.strerror}): begin it in "
                "a shared folder, or in / with absolute sources"
            ) from error
        here = identity_of(self.scorer.scorer)
        for name, value in self.identity.items():
            if here[name] != value:
                raise ConfigError(
                    f"this node has {name} = {here[name]!r}, and the scan was begun with {value!r}: install the "
                    "same on all nodes"
                )
        self._ready = True
