"""Writes covered copies of the images and clips that a scan has flagged. Originals are only read."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsfw_guard.actions import Flag
from nsfw_guard.errors import ConfigError, DecodeError, ImageError, MissingExtraError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.clips.censor import censor_clip
from nsfw_guard.imaging.clips.clip import CLIP_LIMITS, ClipFrame
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.tools.clips import JudgedClip, check_clip
from nsfw_guard.tools.screening.acting.covers import FORMATS, generated_mark, save_cover
from nsfw_guard.tools.screening.acting.placing import CHANGED, COVERS, NO_ROOM, Placed, path_inside
from nsfw_guard.tools.screening.plan import read_plan
from nsfw_guard.tools.screening.results import known_outcome, pairs_of
from nsfw_guard.tools.screening.sources.entries import Content, Entry, Reader
from nsfw_guard.verdict import Outcome, Verdict

COVERED = frozenset({"block", "error"})
AROUND = 0.5  # seconds before and after a flagged frame that are covered too: neighbours show nearly the same
_CLIP_SUFFIXES = {".m4v": ".mp4"}


def censor(out: Path, into: Path, guard: Guard, readers: Sequence[Reader]) -> Iterator[Placed]:
    """Write a covered copy of every image and clip that a scan has blocked or could not judge, and yield each one.

    Done again after any end, it goes on. A clip is covered where frames are flagged, half a second around them, and
    keeps its sound; one that cannot be read has no copy.

    Args:
        out: the output of a finished scan.
        into: a new folder, or one that an earlier run for the same scan has begun.
        guard: whose action covers.
        readers: of the scan's sources.

    Raises:
        ConfigError: the scan is not finished, the folder holds something else, or the guard releases what is flagged.
    """
    if guard.fail_open or isinstance(guard.action, Flag):
        raise ConfigError(
            f"the guard has the action {guard.action.name!r} and fail_open={guard.fail_open}, so that it releases what "
            "it should cover: pass one that covers, without fail_open"
        )
    _begin(out, into)
    taken: set[bytes] = set()
    for entry, row in pairs_of(out, ["outcome", "sha256"]):
        if known_outcome(row) not in COVERED:
            continue
        target = into / _free(_named(path_inside(entry), clip=entry.is_clip), entry, taken)
        try:
            why = _placed(entry, row["sha256"], target, into, guard, readers)
        except (MissingExtraError, OSError, ValueError) as error:  # a name that no file can have, or that is a folder
            if isinstance(error, OSError) and error.errno in NO_ROOM:  # the next one would not fit either
                raise
            why = f"{type(error).__name__}: {error}"
        yield Placed(entry.key, row["outcome"], "" if why else str(target), why)


def _placed(entry: Entry, sha256: str, target: Path, into: Path, guard: Guard, readers: Sequence[Reader]) -> str:
    """See that an image has its copy; why it has none, or an empty text."""
    if not target.parent.resolve().is_relative_to(into.resolve()) or target.is_symlink():
        return "its place is a link, behind which is no cover: name a new folder"
    if target.is_file():  # it appears only when it is whole
        return ""
    most = CLIP_LIMITS.bytes if entry.is_clip else (guard.limits or Limits()).bytes
    (content,) = readers[entry.reader].read([entry], most)
    return _copy(content, sha256, target, guard, clip=entry.is_clip)


def _begin(out: Path, into: Path) -> None:
    """Make the folder of the copies, or see that it is this scan's."""
    into.mkdir(parents=True, exist_ok=True)
    wanted = {"plan_sha256": read_plan(out).sha256}
    mark = into / COVERS
    if mark.exists() and json.loads(mark.read_text(encoding="utf-8")) == wanted:
        return
    if any(into.iterdir()):
        raise ConfigError(f"{str(into)!r} holds other files, which could be taken for covers: name a new folder")
    mark.write_text(json.dumps(wanted), encoding="utf-8")


def _free(path: Path, entry: Entry, taken: set[bytes]) -> Path:
    """The path, or another one where an earlier image has it: a.tiff and a.tiff.png, a.m4v and a.mp4.

    So that it is the same in each run, only names count, on every system as where a.png and A.png are one file.
    """
    name = hashlib.blake2b(str(path).casefold().encode("utf-8", "surrogatepass"), digest_size=16).digest()
    if name in taken:
        path = path.with_name(f"{path.stem}-{hashlib.sha256(entry.to_line().encode()).hexdigest()[:16]}{path.suffix}")
    taken.add(name)
    return path


def _named(path: Path, *, clip: bool) -> Path:
    suffix = path.suffix.lower()
    if clip:
        return path.with_suffix(_CLIP_SUFFIXES.get(suffix, suffix))
    return path if suffix in FORMATS else path.with_name(f"{path.name}.png")


def _copy(content: Content, sha256: str, target: Path, guard: Guard, *, clip: bool) -> str:
    """Write one copy; why there is none, or an empty text."""
    if not isinstance(content, bytes):
        return content.reason
    if hashlib.sha256(content).hexdigest() != sha256:
        return CHANGED
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{uuid.uuid4().hex}{target.suffix}")
    try:
        if clip:
            _of_clip(content, part, guard)
        elif not save_cover(_of_image(content, guard), part, target.suffix.lower(), mark=generated_mark(content)):
            return "the copy could not be written"
        part.replace(target)
    except (DecodeError, ImageError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        part.unlink(missing_ok=True)
    return ""


def _of_image(content: bytes, guard: Guard) -> Any:
    safe, _ = guard([content])
    # What the scan has flagged is covered, even if the model is in two minds about it.
    return guard.apply([content], [_flagged("as the scan has judged")])[0] if safe[0] is content else safe[0]


def _of_clip(content: bytes, target: Path, guard: Guard) -> None:
    limits = replace(CLIP_LIMITS, process=(guard.limits or Limits()).process)
    judged = check_clip(guard, content, limits=limits)
    if judged.verdict.outcome is Outcome.ERROR and not judged.frames:
        raise DecodeError(judged.verdict.reason)
    covered = _covered_frames(judged)

    def cover(frame: ClipFrame) -> NDArray[np.uint8] | None:
        if frame.index not in covered:
            return None
        verdict = judged.frames[frame.index]
        verdict = verdict if verdict.flagged else _flagged("next to a flagged frame")
        pixels: NDArray[np.uint8] = guard.apply([frame.pixels], [verdict])[0]
        return pixels

    censor_clip(content, target, cover, limits=limits, comment=generated_mark(content))


def _covered_frames(judged: JudgedClip) -> frozenset[int]:
    """The frames that are flagged or near one that is; all of them where none is, and yet the clip is."""
    times = [judged.seconds[index] for index in judged.flagged]
    if not times:
        return frozenset(judged.frames)
    near = np.array(sorted(times))
    return frozenset(index for index, at in judged.seconds.items() if bool((np.abs(near - at) <= AROUND).any()))


def _flagged(why: str) -> Verdict:
    return Verdict(Outcome.BLOCK, why)
