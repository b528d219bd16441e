"""Judges a video file: its frames by the guard, the clip by the policy's rule for clips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nsfw_guard.errors import DecodeError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.clips.clip import CLIP_LIMITS, Clip, ClipFrame, ClipSampling
from nsfw_guard.imaging.frames import GROUP_PIXELS
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.policy.clips import decide_clip
from nsfw_guard.verdict import Verdict, worst

GROUP_FRAMES = 64
CLIP_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".webm", ".mkv"})


@dataclass(frozen=True)
class JudgedClip:
    """The verdict on a clip, and those on the frames that were looked at, by index, with their times in seconds."""

    verdict: Verdict
    frames: dict[int, Verdict]
    seconds: dict[int, float] = field(default_factory=dict)

    @property
    def flagged(self) -> tuple[int, ...]:
        """The frames that were blocked or could not be judged, whatever became of the clip."""
        return tuple(index for index, verdict in self.frames.items() if verdict.flagged)

    @property
    def stretches(self) -> tuple[tuple[float, float], ...]:
        """The times from the first to the last frame of each run of flagged frames, in seconds."""
        runs: list[list[float]] = []
        before = False
        for index, verdict in self.frames.items():
            at = self.seconds.get(index, 0.0)
            if verdict.flagged and before:
                runs[-1][1] = at
            elif verdict.flagged:
                runs.append([at, at])
            before = verdict.flagged
        return tuple((start, end) for start, end in runs)


def check_clip(
    guard: Guard, source: Any, *, limits: Limits = CLIP_LIMITS, every: ClipSampling | None = None
) -> JudgedClip:
    """Judge a video file: a path, bytes, or a file object.

    Listeners get the verdict of every frame, and an ERROR for a clip that cannot be read whole.

    Args:
        guard: the guard; its policy says how the frames decide on the clip.
        source: the clip.
        limits: the limits beyond which it is an ERROR.
        every: which frames are looked at; with fewer than all, the outcome is at least REVIEW.

    Example:
        ```python
        judged = check_clip(guard, "clip.mp4")
        print(judged.verdict.outcome.name, judged.flagged)
        ```
    """
    frames: dict[int, Verdict] = {}
    seconds: dict[int, float] = {}
    try:
        clip = Clip.open(source, limits=limits, every=every)
        for group in _groups(clip):
            verdicts = guard.check([frame.pixels for frame in group])
            for frame, verdict in zip(group, verdicts, strict=True):
                before = frames.get(frame.index)
                frames[frame.index] = verdict if before is None else worst([before, verdict])
                seconds[frame.index] = frame.seconds
    except DecodeError as error:
        (verdict,) = guard.notify([Verdict.error(f"the clip cannot be judged: {error}")])
        return JudgedClip(verdict, frames, seconds)
    decided = decide_clip(guard.policy.clips, list(frames.values()), partial=clip.partial)
    return JudgedClip(decided, frames, seconds)


def _groups(clip: Clip) -> Iterator[list[ClipFrame]]:
    """The frames in groups of limited size."""
    group: list[ClipFrame] = []
    pixels = 0
    for frame in clip:
        size = frame.pixels.size // 3
        if group and (pixels + size > GROUP_PIXELS or len(group) == GROUP_FRAMES):
            yield group
            group, pixels = [], 0
        group.append(frame)
        pixels += size
    if group:
        yield group
