"""Every way by which a picture leaves a host, how it is closed, and what of that is really in place."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Exit:
    """One way out of one host.

    Args:
        host, way: where, and what leaves by it.
        hooks: what closes it, by the names that an adapter reports; none where nothing can.
        how: in words; for one that cannot be closed, why.
    """

    host: str
    way: str
    hooks: tuple[str, ...]
    how: str

    @property
    def coverable(self) -> bool:
        """Whether anything closes it."""
        return bool(self.hooks)


class Coverage:
    """What an adapter installed on the host that it runs in."""

    def __init__(self, exits: Iterable[Exit]) -> None:
        self.exits = tuple(exits)
        self._found: dict[str, str] = {}
        self._lock = threading.Lock()

    def installed(self, hook: str) -> None:
        """A hook or a wrap is in place."""
        with self._lock:
            self._found[hook] = ""

    def missing(self, hook: str, why: str) -> None:
        """A hook or a wrap could not be put in place on this version of the host."""
        with self._lock:
            self._found.setdefault(hook, why or "not there")

    def rows(self) -> list[dict[str, str]]:
        """Each exit with its state: "closed", "open: why" or "cannot be closed"."""
        with self._lock:
            states = dict(self._found)
        return [{"host": one.host, "way": one.way, "state": _state(one, states), "how": one.how} for one in self.exits]

    @property
    def open(self) -> list[str]:
        """The ways that should be closed and are not."""
        return [row["way"] for row in self.rows() if row["state"].startswith("open")]


def _state(one: Exit, states: dict[str, str]) -> str:
    if not one.coverable:
        return "cannot be closed"
    absent = [f"{hook} ({states.get(hook, 'not installed')})" for hook in one.hooks if states.get(hook, "x")]
    return f"open: {', '.join(absent)}" if absent else "closed"
