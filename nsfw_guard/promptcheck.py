"""What a guard has beside pictures: prompts judged by its policy, and verdicts told to its listeners."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from nsfw_guard.policy import Policy
from nsfw_guard.tally import Listener, Tally
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
        """The verdicts, told to the listeners; ERROR where one of them fails.

        `pictures`: they are of pictures, which are counted; of prompts only those that were refused are told.
        """
        heard = verdicts if pictures else [verdict for verdict in verdicts if verdict.flagged]
        for listener in self.listeners if heard else ():
            if not pictures and listener is self.tally:
                continue
            try:
                listener(tuple(heard))
            except Exception as error:  # what cannot be told must not leave
                log.exception("a listener failed: what it was told of is held back")
                verdicts = [self._error(error)] * len(verdicts)
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
