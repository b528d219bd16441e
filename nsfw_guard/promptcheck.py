"""What a guard has beside pictures: prompts judged by its policy, and verdicts told to its listeners."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nsfw_guard.listeners.counter import Listener, Tally
from nsfw_guard.policy.policy import Policy
from nsfw_guard.verdict import Outcome, Verdict

log = logging.getLogger(__name__)

PROMPT = "prompt"  # the category of what is said of a prompt


class PromptCheck:
    """Judges prompts, and tells verdicts."""

    policy: Policy
    tally: Tally
    listeners: tuple[Listener, ...]
    _signature: dict[str, Any]

    def check_prompts(self, prompts: str | Sequence[str]) -> list[Verdict]:
        """One verdict a prompt. What was refused is told to the listeners, never the prompt itself."""
        texts = list(prompts) if isinstance(prompts, (list, tuple)) else [prompts]
        return self.tell([self._of_prompt(text) for text in texts], pictures=False)

    def tell(self, verdicts: list[Verdict], *, pictures: bool = True) -> list[Verdict]:
        """The verdicts that count: as they came, or ERROR where a listener fails; the counter counts these alone.

        Listeners are told in turn. When one fails, what it and those before it heard is no longer true: they hear the
        ERROR verdicts as a correction, and those after it hear nothing else.

        `pictures`: they are of pictures, which are counted; of prompts only those that were refused are told.
        """
        asked: list[Listener] = []
        for listener in self.listeners:
            heard = tuple(verdict for verdict in verdicts if pictures or verdict.flagged)
            if listener is self.tally or not heard:
                continue
            asked.append(listener)
            try:
                listener(heard)
            except Exception as error:  # what cannot be told must not leave
                log.exception("a listener failed: what it was told of is held back")
                if any(verdict.outcome is not Outcome.ERROR for verdict in verdicts):
                    verdicts = [_held_back(verdict, error) for verdict in verdicts]
                    _correct(asked, verdicts)
        if pictures:
            self.tally(verdicts)
        return verdicts

    def _of_prompt(self, text: object) -> Verdict:
        if not isinstance(text, str):
            return self._error(f"a prompt is a text, not {type(text).__name__}")
        try:
            found = self.policy.prompts.find(text) if self.policy.prompts else ""
        except Exception as error:  # noqa: BLE001 - any fault at all: nothing was searched, so nothing is let through
            return self._error(f"a prompt could not be searched: {type(error).__name__}")  # its message may hold it
        if found:
            return Verdict(Outcome.BLOCK, f"prompt: {found}", category=PROMPT, flags=(PROMPT,), **self._signature)
        return Verdict(Outcome.ALLOW, "prompt: no rule of the policy matches", category=PROMPT, **self._signature)

    def _error(self, why: str | Exception) -> Verdict:
        reason = why if isinstance(why, str) else f"{type(why).__name__}: {why}"
        return Verdict(Outcome.ERROR, reason, **self._signature)


def _held_back(verdict: Verdict, error: Exception) -> Verdict:
    """ERROR, with the scores and flags that there were: what was flagged is not let go by `fail_open` either."""
    if verdict.outcome is Outcome.ERROR:
        return verdict
    why = f"{type(error).__name__}: {error} (a listener failed: held back, whatever was judged: {verdict.outcome.name})"
    return replace(verdict, outcome=Outcome.ERROR, reason=why)


def _correct(listeners: Sequence[Listener], verdicts: Sequence[Verdict]) -> None:
    """Tells what really leaves to listeners that heard something else. One that fails again has nothing more to say."""
    for listener in listeners:
        try:
            listener(tuple(verdicts))
        except Exception:
            log.exception("a listener could not be corrected: it may say that a picture left which was held back")
