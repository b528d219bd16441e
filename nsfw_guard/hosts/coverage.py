"""Every way by which an image leaves a host, how it is closed, and what of that is really in place."""

from __future__ import annotations

import enum
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


class ExitState(enum.Enum):
    """Whether images that leave by an exit are judged."""

    CLOSED = "closed"
    OPEN = "open"
    UNCOVERABLE = "cannot be closed"


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
        """Note that a hook or a wrap is in place."""
        with self._lock:
            self._found[hook] = ""

    def missing(self, hook: str, why: str) -> None:
        """Note that a hook or a wrap could not be put in place on this version of the host."""
        with self._lock:
            self._found.setdefault(hook, why or "not there")

    def rows(self) -> list[dict[str, str]]:
        """Return each exit in words: "closed", "open: why" or "cannot be closed"."""
        return [
            {"host": one.host, "way": one.way, "state": f"{state.value}{': ' * bool(why)}{why}", "how": one.how}
            for one, state, why in self._states()
        ]

    @property
    def open(self) -> list[str]:
        """The ways that should be closed and are not."""
        return [one.way for one, state, _ in self._states() if state is ExitState.OPEN]

    def _states(self) -> list[tuple[Exit, ExitState, str]]:
        with self._lock:
            hooks = dict(self._found)
        return [(one, *_state(one, hooks)) for one in self.exits]


def _state(one: Exit, hooks: Mapping[str, str]) -> tuple[ExitState, str]:
    """The state of an exit, and what is missing where it is open.

    Args:
        hooks: why each hook could not be put in place; empty for one that is.
    """
    if not one.coverable:
        return ExitState.UNCOVERABLE, ""
    absent = [f"{hook} ({hooks.get(hook, 'not installed')})" for hook in one.hooks if hooks.get(hook, "x")]
    return (ExitState.OPEN, ", ".join(absent)) if absent else (ExitState.CLOSED, "")
