"""The state of one guarded call: what was judged during the call, and how its output is acted on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from nsfw_guard.actions import Flag, Raise
from nsfw_guard.errors import BlockedError, ConfigError, UnknownNameError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.quantise import ValueRange
from nsfw_guard.pipelines.guarded import layouts
from nsfw_guard.pipelines.guarded.identity import identity
from nsfw_guard.verdict import Outcome, Verdict, worst

Clips = Literal["whole", "frames"]
ExitRange = Literal["unit", "signed", "hdr"]  # of returned tensors; "hdr" has no upper end
_RUN: ContextVar[GuardedCall | None] = ContextVar("nsfw_guard_run", default=None)


@dataclass(frozen=True, kw_only=True)
class Cover:
    """The part of a clip that is acted on: all of it, or flagged frames and `margin` neighbours of each."""

    clips: Clips = "whole"
    margin: int = 8

    def __post_init__(self) -> None:
        if self.clips not in get_args(Clips):
            raise UnknownNameError("way to cover clips", self.clips, get_args(Clips))
        if self.margin < 0:
            raise ConfigError(f"margin must be 0 or more (0 covers only the flagged frames), got {self.margin}")

    def spread(self, verdicts: Sequence[Verdict], *, clip: bool, again: bool = False) -> list[Verdict]:
        """Return the deciding verdict for each frame of one entry: the worst of all, or of its neighbours in a clip.

        `again`: the verdicts were already spread during the call, so neighbours must not count as flagged frames.
        """
        if len(verdicts) > 1 and not (clip and self.clips == "frames"):
            return [worst(verdicts)] * len(verdicts)
        if len(verdicts) < 2 or again:
            return list(verdicts)
        reach = range(len(verdicts))
        return [worst(verdicts[max(0, i - self.margin) : i + self.margin + 1]) for i in reach]


@dataclass(frozen=True)
class Judged:
    """An image made during the call, kept alive so that its address is not used again."""

    output: Any
    verdicts: Mapping[tuple[Any, ...], Verdict]


@dataclass
class GuardedCall:
    """The state of one guarded call."""

    guard: Guard
    cover: Cover
    device: torch.device | None = None
    owner: object = None
    judged: list[Judged] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    clip: bool = False
    showing: bool = False  # within a callback, whose images are previews and not part of the output
    given: frozenset[Any] = frozenset()  # the arguments, which may be returned if unchanged

    def guard_batch(self, images: Tensor, value_range: ValueRange) -> tuple[Tensor, list[Verdict]]:
        """Judge images during the call, and act on flagged ones. Shape: (N, C, H, W)."""
        verdicts = self._check(images, value_range, clip=self.clip)
        if self.clip:
            verdicts = self.cover.spread(self._settled(verdicts), clip=True)
            self._raise(verdicts)
        return self.guard.apply(images, verdicts, value_range=value_range), verdicts

    def remember(self, output: Any, verdicts: Sequence[Verdict]) -> None:
        """Store judged images with their verdicts, to recognise them in the output."""
        if self.showing:
            return
        outputs = layouts.frames(output)
        if len(outputs) == len(verdicts):
            pairs = zip(outputs, verdicts, strict=True)
            self.judged.append(Judged(output, {identity(frame): verdict for frame, verdict in pairs}))
        else:
            self.judged.append(Judged(output, {("unclaimed", i): verdict for i, verdict in enumerate(verdicts)}))

    def apart(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a callback: its own images are judged and acted on, but do not affect the verdicts of the output."""

        @functools.wraps(callback)
        def shown(*args: Any, **kwargs: Any) -> Any:
            before, self.showing = self.showing, True
            try:
                return callback(*args, **kwargs)
            finally:
                self.showing = before

        return shown

    @contextmanager
    def clips(self) -> Iterator[list[Judged]]:
        """Judge images within the context as one clip; yields what was judged, to be registered again."""
        before, self.clip, mark = self.clip, True, len(self.judged)
        judged: list[Judged] = []
        try:
            yield judged
        finally:
            self.clip = before
            judged += self.judged[mark:]
            del self.judged[mark:]

    def finish(self, value: Any, *, clips: bool, value_range: ExitRange = "unit", main: bool = True) -> Any:
        """Judge the parts of an output that are not yet judged, and act on it. Keeps one verdict per main entry."""
        groups = [group for group in layouts.split_entries(value, clips=clips) if group]
        flat = [frame for group in groups for frame in group]
        if not flat:
            return value
        known = [self._known(frame) for frame in flat]
        verdicts = iter(self._carry_flags(self._judge_unknown(flat, known, value_range, clips=clips)))
        decided: list[Verdict] = []
        for group in groups:
            of_group = [next(verdicts) for _ in group]
            if clips and None in known:  # else the rule was applied during the call
                of_group = self._settled(of_group)
            decided += self.cover.spread(of_group, clip=clips, again=None not in known)
            if main:
                self.verdicts.append(worst(of_group))
        changed = [verdict is not before for verdict, before in zip(decided, known, strict=True)]
        self._raise([verdict for verdict, new in zip(decided, changed, strict=True) if new])
        acts = zip(flat, decided, changed, strict=True)
        safe = layouts.replace_frames(
            value, iter([self._acted(f, v, value_range) if new else None for f, v, new in acts])
        )
        self.remember(safe, decided)  # the output of an inner pipeline is an intermediate image of the outer one
        return safe

    @property
    def flags(self) -> list[bool]:
        """One bool per returned entry."""
        return [verdict.flagged for verdict in self.verdicts]

    @property
    def flagged(self) -> bool:
        """True when anything in this call was flagged, during the call or in its output."""
        on_the_way = [v for j in self.judged for v in j.verdicts.values()]
        return any(v.flagged for v in (*self.verdicts, *on_the_way))

    def _check(self, images: Any, value_range: ValueRange, *, clip: bool = False) -> list[Verdict]:
        verdicts = self.guard.check(images, value_range=value_range)
        if not (clip and self.guard.policy.clips.relaxes):  # else its neighbours decide whether a frame counts
            self._raise(verdicts)
        return verdicts

    def _settled(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """The verdicts on the frames of a clip that count under the policy's rule for clips."""
        return self.guard.policy.clips.settle(verdicts)

    def _raise(self, verdicts: Sequence[Verdict]) -> None:
        """Raise one error for a whole batch, if the action is `raise`, before acting on any of it."""
        if isinstance(self.guard.action, Raise):
            goes = [self.guard.fail_open and v.outcome is Outcome.ERROR and not v.flags for v in verdicts]
            held = [v for v, let_go in zip(verdicts, goes, strict=True) if v.flagged and not let_go]
            if held:
                raise BlockedError(*held)

    def _known(self, frame: Any) -> Verdict | None:
        key = identity(frame)
        return next((j.verdicts[key] for j in reversed(self.judged) if key in j.verdicts), None)

    def _judge_unknown(
        self, flat: Sequence[Any], known: Sequence[Verdict | None], ends: ExitRange, *, clips: bool
    ) -> list[Verdict]:
        """A verdict for every frame: all unknown ones are judged at once."""
        unknown = [frame for frame, verdict in zip(flat, known, strict=True) if verdict is None]
        if not unknown:
            return [verdict for verdict in known if verdict is not None]
        stack = layouts.stack(unknown, self.device)
        if ends == "hdr":
            stack = _clipped(stack)
        fresh = iter(self._check(stack, _range(ends, unknown), clip=clips))
        return [next(fresh) if verdict is None else verdict for verdict in known]

    def _carry_flags(self, verdicts: list[Verdict]) -> list[Verdict]:
        """Apply flags of intermediate images that are not returned themselves, since the output was made from them.

        Examples are a pasted overlay, a grid, a second stage. Pairwise where the counts are equal, else to all.
        """
        leaving = {id(v) for v in verdicts}
        lost = [v for j in self.judged for v in j.verdicts.values() if id(v) not in leaving]
        if not any(self._held(v) for v in lost):
            return verdicts
        if len(lost) == len(verdicts):
            return [worst(pair) if self._held(pair[0]) else pair[1] for pair in zip(lost, verdicts, strict=True)]
        bad = worst([v for v in lost if self._held(v)])
        return [worst([bad, verdict]) for verdict in verdicts]

    def _held(self, verdict: Verdict) -> bool:
        return verdict.flagged or (verdict.outcome is Outcome.REVIEW and not isinstance(self.guard.on_review, Flag))

    def _acted(self, frame: Any, verdict: Verdict, ends: ExitRange) -> Any:
        """The frame after the action, in its own layout, or None where it is released."""
        turned = layouts.channels_for_guard(frame)
        if ends == "hdr":
            turned = _clipped(turned)
        (new,) = self.guard.apply([turned], [verdict], value_range=_range(ends, [frame]))
        return None if new is turned else layouts.restore_layout(new, frame)


def _range(ends: ExitRange, frames: Sequence[Any]) -> ValueRange:
    """The range of returned frames: only tensors may be in [-1, 1]."""
    return "signed" if ends == "signed" and isinstance(frames[0], Tensor) else "unit"


def _clipped(linear: Any) -> Any:
    """Linear light as an 8-bit file would show it; infinite values are kept, as a fault."""
    if isinstance(linear, Tensor):
        return torch.where(linear.isinf(), torch.nan, linear).clamp(0, 1)
    if isinstance(linear, np.ndarray):
        return np.clip(np.where(np.isinf(linear), np.nan, linear), 0, 1)
    return linear


def current() -> GuardedCall | None:
    """Return the guarded call of this context."""
    return _RUN.get()


@contextmanager
def running(run: GuardedCall) -> Iterator[GuardedCall]:
    """Make a run the current one of this context."""
    token = _RUN.set(run)
    try:
        yield run
    finally:
        _RUN.reset(token)
