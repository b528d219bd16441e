"""Stores the verdicts of the last call, separately for each thread and task."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType

from nsfw_guard.errors import ConfigError
from nsfw_guard.verdict import Verdict

_NUMBERS = itertools.count()
_LAST: ContextVar[Mapping[int, tuple[Verdict, ...]]] = ContextVar("nsfw_guard_last", default=MappingProxyType({}))


class LastVerdicts:
    """The verdicts of one owner's last call, per context."""

    def __init__(self) -> None:
        self._number = next(_NUMBERS)

    def put(self, verdicts: Sequence[Verdict]) -> None:
        """Store verdicts in this context."""
        _LAST.set(MappingProxyType({**_LAST.get(), self._number: tuple(verdicts)}))

    def get(self) -> tuple[Verdict, ...]:
        """Return the verdicts of the last call in this context."""
        kept = _LAST.get().get(self._number)
        if kept is None:
            raise ConfigError(
                "there was no guarded call in this thread or task: read out.verdicts of the call's own output"
            )
        return kept
