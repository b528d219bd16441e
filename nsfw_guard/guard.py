"""Backend, policy, action, listeners: what goes wrong from pixels to verdict becomes ERROR here and nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nsfw_guard.actions import Action, Flag, covered
from nsfw_guard.backends.base import Backend, ask
from nsfw_guard.backends.wrappers.wrap import TimeLimited
from nsfw_guard.errors import ImageError
from nsfw_guard.guardfile import Pretrained
from nsfw_guard.imaging.frames import Batch, count_of, first_frame, in_groups, put_back
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.imaging.quantise import ValueRange
from nsfw_guard.listeners.counter import Listener, Tally
from nsfw_guard.policy.policy import Policy
from nsfw_guard.promptcheck import PromptCheck
from nsfw_guard.verdict import Outcome, Verdict, released, worst

log = logging.getLogger(__name__)


class Guard(Pretrained, PromptCheck):
    """Judges pictures and acts on them. `Guard.from_pretrained` builds one from a model's name.

    Args:
        backend, policy: what scores, and what decides: a preset's name, a TOML file, a mapping or a Policy.
        action, on_review: for blocked pictures and for those under review: "block", "blur", "pixelate", "replace",
            "raise", or "flag", which only marks them.
        listeners: told of every verdict (an `Audit`, an index ...); one that fails makes its pictures ERROR.
        fail_open: let pictures go that could not be judged. Logged on every use.
        limits, time_limit, requested: how large a file may be; seconds the model may take; what was asked for.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        policy: Policy | str | Path | Mapping[str, Any] = "default",
        action: Action | str = "block",
        on_review: Action | str = "flag",
        listeners: Sequence[Listener] = (),
        fail_open: bool = False,
        limits: Limits | None = None,
        time_limit: float | None = None,
        requested: Mapping[str, str] | None = None,
    ) -> None:
        self.spec = spec = backend.spec
        self.backend = backend if time_limit is None else TimeLimited(backend, time_limit)
        self.policy = Policy.load(policy).fit(spec.levels, spec.positives, spec.cuts, spec.band)
        self.action, self.on_review = Action.of(action), Action.of(on_review)
        self.tally, self.fail_open, self.limits = Tally(), fail_open, limits
        self.listeners: tuple[Listener, ...] = (*listeners, self.tally)
        self.wants = {w: any(getattr(x, f"wants_{w}", False) for x in listeners) for w in ("embeddings", "digests")}
        acts = {"action": self.action.name, "on_review": self.on_review.name, "fail_open": str(fail_open).lower()}
        decoder = {"decoder": "a process of its own"} if limits and limits.process else {}
        held = ", ".join(self.policy.reviews_only)
        blocks = {"blocks": f"not {held} (review rules only)"} if held else {}
        blocks = blocks if self.policy.blocks else {"blocks": "nothing (review rules only)"}
        self.state = {**self.backend.state(), **decoder, **blocks, **acts}
        self._signature: dict[str, Any] = {"state": self.state, "requested": {**acts, **(requested or {})}}
        self._signature |= {"policy": self.policy.name, "policy_hash": self.policy.hash}
        self._signature |= {"model": spec.name, "revision": spec.revision or spec.sha256}

    def check(self, images: Any, *, value_range: ValueRange = "unit") -> list[Verdict]:
        """One verdict a picture: tensor (B, 3, H, W) in [0, 1] or "signed" [-1, 1], PIL, NumPy, path, bytes, list."""
        return self.tell(self._judge(in_groups(images, value_range=value_range, limits=self.limits), count_of(images)))

    def apply(self, images: Any, verdicts: Sequence[Verdict], *, value_range: ValueRange = "unit") -> Any:
        """The same kind of thing back: allowed pictures bit for bit, the others acted on."""
        if len(verdicts) != count_of(images):
            raise ImageError(f"{len(verdicts)} verdicts for {count_of(images)} pictures: hand over those that match")
        covers = {}
        for i, verdict in enumerate(verdicts):
            if not self._released(verdict):
                action = self.on_review if verdict.outcome is Outcome.REVIEW else self.action
                frame = first_frame(images, i, value_range=value_range, limits=self.limits)
                covers[i] = covered(frame, verdict, action)
        return put_back(images, covers, value_range=value_range)

    def __call__(self, images: Any, *, value_range: ValueRange = "unit") -> tuple[Any, list[Verdict]]:
        """`check` and `apply` in one."""
        verdicts = self.check(images, value_range=value_range)
        return self.apply(images, verdicts, value_range=value_range), verdicts

    def _judge(self, groups: Iterator[Batch], count: int) -> list[Verdict]:
        judged: list[list[Verdict]] = [[] for _ in range(count)]
        faults: dict[int, str] = {}
        partial: dict[int, str] = {}
        try:
            for group in groups:
                scores = ask(self.backend, group.stacks, len(group.owners), **self.wants)
                for owner, of_frame in zip(group.owners, scores, strict=True):
                    judged[owner].append(self.policy.decide(of_frame))
                faults |= group.faults
                partial |= group.partial
        except Exception as error:  # any fault at all: nothing was judged, so nothing is released
            log.exception("could not judge %d images", count)
            return [self._error(error)] * count
        return [self._of_image(verdicts, faults.get(i), partial.get(i)) for i, verdicts in enumerate(judged)]

    def _of_image(self, verdicts: list[Verdict], fault: str | None, partial: str | None) -> Verdict:
        if fault is not None or not verdicts:
            return self._error(fault or "no frame of it was judged")
        flags = tuple(sorted({flag for verdict in verdicts for flag in verdict.flags}))
        decided = replace(worst(verdicts), flags=flags, **self._signature)
        if partial is not None and decided.outcome < Outcome.REVIEW:
            return replace(decided, outcome=Outcome.REVIEW, reason=f"only {partial} were looked at")
        return decided

    def _released(self, verdict: Verdict) -> bool:
        observe, mark_only = (isinstance(action, Flag) for action in (self.action, self.on_review))
        out = released(verdict, cover_review=not mark_only, observe=observe, fail_open=self.fail_open)
        if out and verdict.flagged:
            log.warning("released although flagged (%s): %r", verdict.outcome.name, verdict.reason)
        return out
