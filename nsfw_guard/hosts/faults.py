"""What goes wrong in a host, said once a job: a guard that fails is asked at every hook, preview and frame."""

from __future__ import annotations

import logging
import threading

log = logging.getLogger("nsfw_guard.hosts")


def in_words(error: BaseException) -> str:
    """Return an error as a line."""
    return f"{type(error).__name__}: {error}"


class Faults:
    """Says a fault with its trace when it comes up first in this process, and then in one line a job.

    Example:
        >>> faults = Faults()
        >>> faults.say("a hook failed", ValueError("no model"))  # with the trace
        >>> faults.say("a hook failed", ValueError("no model"))  # nothing: the job is the same
    """

    def __init__(self) -> None:
        self._known: set[tuple[str, type[BaseException]]] = set()
        self._of_job: set[tuple[str, type[BaseException]]] = set()
        self._lock = threading.Lock()

    def begin_job(self) -> None:
        """Begin another job: what goes wrong in it is said again."""
        with self._lock:
            self._of_job.clear()

    def say(self, text: str, error: BaseException) -> None:
        """Says what failed, where that was not said in this job."""
        kind = (text, type(error))
        with self._lock:
            if kind in self._of_job:
                return
            is_new = kind not in self._known
            self._known.add(kind)
            self._of_job.add(kind)
        log.error("NSFW guard: %s (%s)", text, in_words(error), exc_info=error if is_new else None)
