"""Which images a host was told a verdict on: its hooks see the same one several times, and covers come by again."""

from __future__ import annotations

import threading
from collections import OrderedDict

from nsfw_guard.verdict import Verdict

MAX_REMEMBERED = 2048


class Memory:
    """Verdicts by the hash of an image, the oldest forgotten first. Safe under threads."""

    def __init__(self) -> None:
        self._verdicts: OrderedDict[str, Verdict] = OrderedDict()
        self._lock = threading.Lock()

    def recall(self, key: str) -> Verdict | None:
        """Return the verdict under this hash, where it is known."""
        with self._lock:
            return self._verdicts.get(key)

    def remember(self, key: str, verdict: Verdict) -> None:
        """Keeps a verdict."""
        with self._lock:
            self._verdicts[key] = verdict
            self._verdicts.move_to_end(key)
            while len(self._verdicts) > MAX_REMEMBERED:
                self._verdicts.popitem(last=False)
