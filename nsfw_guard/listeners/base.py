"""Calls listeners with verdicts, in order, and corrects them where one of them fails."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from nsfw_guard.verdict import Outcome, Verdict

log = logging.getLogger(__name__)

WANTS = ("embeddings", "digests")


class Listener(Protocol):
    """A callable that receives the verdicts of each call, such as an `Audit`, an index, or a function of your own.

    It is called a second time for the same call, with ERROR verdicts only, when a listener failed. A listener that
    needs more than verdicts sets `wants_embeddings = True` or `wants_digests = True` (the hashes of the model's
    inputs); these are computed only on request.

    Example:
        >>> def report(verdicts):
        ...     print([verdict.outcome.name for verdict in verdicts])
    """

    def __call__(self, verdicts: Sequence[Verdict], /) -> None:
        """Process the verdicts. An exception turns all of them into ERROR."""


def wanted_by(listeners: Sequence[Listener]) -> Mapping[str, bool]:
    """Return the data that at least one listener wants besides verdicts, by name."""
    return {what: any(getattr(one, f"wants_{what}", False) for one in listeners) for what in WANTS}


def notify(listeners: Sequence[Listener], verdicts: list[Verdict], *, only_flagged: bool = False) -> list[Verdict]:
    """Call listeners in order and return the verdicts that hold: unchanged, or ERROR where a listener fails.

    When one fails, it and those before it are called again with the ERROR verdicts as a correction; those after it
    receive only the ERROR verdicts.

    Args:
        listeners: the listeners in the order of their calls.
        verdicts: the verdicts of one call.
        only_flagged: pass on flagged verdicts only, as for prompts.
    """
    notified: list[Listener] = []
    for listener in listeners:
        heard = tuple(verdict for verdict in verdicts if verdict.flagged or not only_flagged)
        if not heard:
            continue
        notified.append(listener)
        try:
            listener(heard)
        except Exception as error:  # an image that could not be recorded must not be released
            log.exception("a listener failed: the images of this call are held back")
            if any(verdict.outcome is not Outcome.ERROR for verdict in verdicts):
                verdicts = [_held_back(verdict, error) for verdict in verdicts]
                _correct(notified, verdicts)
    return verdicts


def _held_back(verdict: Verdict, error: Exception) -> Verdict:
    """An ERROR verdict with the same scores and flags, so that `fail_open` does not release a flagged image."""
    if verdict.outcome is Outcome.ERROR:
        return verdict
    why = f"{type(error).__name__}: {error} (a listener failed: held back, although judged {verdict.outcome.name})"
    return replace(verdict, outcome=Outcome.ERROR, reason=why)


def _correct(listeners: Sequence[Listener], verdicts: Sequence[Verdict]) -> None:
    """Call listeners that received other verdicts again with the final ones. A second failure is only logged."""
    for listener in listeners:
        try:
            listener(tuple(verdicts))
        except Exception:
            log.exception("a listener could not be corrected: it may record a held-back image as released")
