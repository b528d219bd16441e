"""Scores of images that were seen before, by what is in them."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nsfw_guard.backends.base import Backend, checked_scores
from nsfw_guard.backends.spec import ScoreSpec
from nsfw_guard.errors import ConfigError
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.scores import Scores


class Cached:
    """A backend that remembers its last `size` answers by the SHA-256 of the 8-bit pixels of the whole image.

    Worth it where the same image comes again (a service, a grid beside its images). The pixels are copied to the
    host for it, so it costs more than it saves where images on an accelerator are always new. Only answers that are
    numbers are kept: what could not be judged is judged again.

    Example:
        ```python
        guard = Guard(Cached(load_model("demo-shapes"), size=1000))
        ```
    """

    def __init__(self, backend: Backend, *, size: int = 4096) -> None:
        if size < 1:
            raise ConfigError(f"size {size} remembers nothing: give a number above 0")
        if _has_bank(backend):
            raise ConfigError("a cache around a bank would keep what earlier examples said: put the bank around it")
        self.backend = backend
        self.size = size
        self.hits = self.misses = 0
        self._kept: OrderedDict[str, Scores] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def spec(self) -> ScoreSpec:
        """The model's record."""
        return self.backend.spec

    def score(self, stacks: Sequence[Frames], *, embeddings: bool = False, digests: bool = False) -> list[Scores]:
        """Return the scores of each frame, asked for once for each image that is new."""
        frames = [frame for stack in stacks for frame in stack.split()]
        keys = [_key(frame) for frame in frames]
        known = {key: kept for key in set(keys) if (kept := self._recall(key, embeddings, digests)) is not None}
        new = {key: frame for key, frame in zip(keys, frames, strict=True) if key not in known}
        fresh = checked_scores(self.backend, list(new.values()), len(new), embeddings=embeddings, digests=digests)
        for key, scores in zip(new, fresh, strict=True):
            known[key] = scores
            self._keep(key, scores)
        with self._lock:
            self.misses, self.hits = self.misses + len(new), self.hits + len(keys) - len(new)
        return [known[key] for key in keys]

    def state(self) -> Mapping[str, str]:
        """Return the model's state, and how much is remembered."""
        return {**self.backend.state(), "cache": f"{self.size} images"}

    def _recall(self, key: str, embeddings: bool, digests: bool) -> Scores | None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or (embeddings and kept.embedding is None) or (digests and not kept.digest):
                return None
            self._kept.move_to_end(key)
        return kept if embeddings else replace(kept, embedding=None)

    def _keep(self, key: str, scores: Scores) -> None:
        if scores.fault or not scores.finite:
            return
        with self._lock:
            self._kept[key] = scores
            self._kept.move_to_end(key)
            while len(self._kept) > self.size:
                self._kept.popitem(last=False)


def _has_bank(backend: object) -> bool:
    """Whether it compares with examples, or a backend in it does."""
    inner = [getattr(backend, name) for name in ("backend", "first", "second") if hasattr(backend, name)]
    return hasattr(backend, "bank") or any(map(_has_bank, [*inner, *getattr(backend, "members", ())]))


def _key(frame: Frames) -> str:
    """What is in a frame: its 8-bit levels and shape. One that is no image has a key of its own kind."""
    levels, extremes = frame.quantise()
    fault = "" if extremes is None else frame.fault(*extremes[0].tolist())
    shape = "x".join(map(str, levels.shape))
    pixels = levels.contiguous().cpu().numpy().tobytes()
    return hashlib.sha256(f"{shape} {fault} ".encode() + pixels).hexdigest()
