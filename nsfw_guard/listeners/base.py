"""Who is told of verdicts, and how: in turn, with a correction where one of them fails."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from nsfw_guard.verdict import Outcome, Verdict

log = logging.getLogger(__name__)

WANTS = ("embeddings", "digests")


class Listener(Protocol):
    """A callable that is handed the verdicts of each call, such as an `Audit`, an index, or a function of your own.

    It is called a second time for the same call, with ERROR verdicts only, when a listener failed. A listener that
    needs more than verdicts says so: `wants_embeddings = True` or `wants_digests = True` (the hashes of what the model
    was shown), which are computed for nobody else.

    Example:
        >>> def report(verdicts):
        ...     print([verdict.outcome.name for verdict in verdicts])
    """

    def __call__(self, verdicts: Sequence[Verdict], /) -> None:
        """Take note of the verdicts. What raises turns all of them into ERROR."""


def wanted_by(listeners: Sequence[Listener]) -> Mapping[str, bool]:
    """Return what at least one of these listeners wants besides verdicts, by name."""
    return {what: any(getattr(one, f"wants_{what}", False) for one in listeners) for what in WANTS}


def notify(listeners: Sequence[Listener], verdicts: list[Verdict], *, only_flagged: bool = False) -> list[Verdict]:
    """Tell listeners in turn and return the verdicts that count: as they came, or ERROR where a listener fails.

    When one fails, what it and those before it heard is no longer true: they hear the ERROR verdicts as a correction,
    and those after it hear nothing else.

    Args:
        listeners: in the order in which they are told.
        verdicts: of one call.
        only_flagged: of prompts only those that were refused are told.
    """
    notified: list[Listener] = []
    for listener in listeners:
        heard = tuple(verdict for verdict in verdicts if verdict.flagged or not only_flagged)
        if not heard:
            continue
        notified.append(listener)
        try:
            listener(heard)
        except Exception as error:  # what nobody could take note of must not leave
            log.exception("a listener failed: what it was told of is held back")
            if any(verdict.outcome is not Outcome.ERROR for verdict in verdicts):
                verdicts = [_held_back(verdict, error) for verdict in verdicts]
                _correct(notified, verdicts)
    return verdicts


def _held_back(verdict: Verdict, error: Exception) -> Verdict:
    """ERROR, with the scores and flags that there were: what was flagged is not let go by `fail_open` either."""
    if verdict.outcome is Outcome.ERROR:
        return verdict
    why = f"{type(error).__name__}: {error} (a listener failed: held back, whatever was judged: {verdict.outcome.name})"
    return replace(verdict, outcome=Outcome.ERROR, reason=why)


def _correct(listeners: Sequence[Listener], verdicts: Sequence[Verdict]) -> None:
    """Tell what really leaves to listeners that heard something else. One that fails again has nothing more to say."""
    for listener in listeners:
        try:
            listener(tuple(verdicts))
        except Exception:
            log.exception("a listener could not be corrected: it may say that a picture left which was held back")
