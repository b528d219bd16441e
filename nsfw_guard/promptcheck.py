"""How a guard judges prompts: by the policy's words and patterns, before anything is drawn."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from nsfw_guard.policy import Policy
from nsfw_guard.tally import Listener, Tally
from nsfw_guard.verdict import Outcome, Verdict

log = logging.getLogger(__name__)


class PromptCheck:
    """Judges prompts. A verdict never holds the prompt's text, and neither does the log."""

    policy: Policy
    listeners: tuple[Listener, ...]
    tally: Tally
    _signature: dict[str, Any]

    def check_prompts(self, prompts: str | Sequence[str]) -> list[Verdict]:
        """One verdict a prompt: ALLOW, BLOCK where a rule of the policy matches, ERROR for what is no text.

        Listeners are told of what is not allowed; the tally is not, since it counts pictures.
        """
        given = list(prompts) if isinstance(prompts, (list, tuple)) else [prompts]
        verdicts = [self._of_prompt(prompt) for prompt in given]
        held = tuple(verdict for verdict in verdicts if verdict.outcome is not Outcome.ALLOW)
        for listener in self.listeners if held else ():
            try:
                if listener is not self.tally:
                    listener(held)
            except Exception:  # what cannot be told must not be drawn
                log.exception("a listener failed: these prompts are held back")
                return [self._prompt_verdict(Outcome.ERROR, "a listener failed")] * len(given)
        return verdicts

    def _of_prompt(self, prompt: object) -> Verdict:
        if not isinstance(prompt, str):
            return self._prompt_verdict(Outcome.ERROR, f"a prompt is a text, not {type(prompt).__name__}")
        if self.policy.prompts is None:
            return self._prompt_verdict(Outcome.ALLOW, "the policy has no prompt rules")
        try:
            rule = self.policy.prompts.find(prompt)
        except Exception as error:  # noqa: BLE001 - any fault at all: nothing was searched, so nothing is released
            # its name alone: the message of an error may hold the prompt
            log.error("could not search a prompt: %s", type(error).__name__)
            return self._prompt_verdict(Outcome.ERROR, f"could not be searched ({type(error).__name__})")
        if rule:
            return self._prompt_verdict(Outcome.BLOCK, f"matches {rule}")
        return Verdict(Outcome.ALLOW, "no prompt rule matches", category="prompt", **self._signature)

    def _prompt_verdict(self, outcome: Outcome, reason: str) -> Verdict:
        flags = () if outcome is Outcome.ALLOW else ("prompt",)
        return Verdict(outcome, f"prompt: {reason}", category="prompt", flags=flags, **self._signature)
