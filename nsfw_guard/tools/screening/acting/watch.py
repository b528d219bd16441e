"""Guards a folder that another program writes to: each image is judged when it is complete, and acted on."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.tools.screen import looks_like_an_image
from nsfw_guard.tools.screening.acting.covers import generated_mark, save_cover
from nsfw_guard.tools.screening.sources.containers import read_file
from nsfw_guard.tools.screening.sources.entries import JUDGED_SUFFIXES, Unreadable
from nsfw_guard.verdict import Verdict

Mode = Literal["censor", "move", "log"]
SETTLED = 1.0  # seconds without a change, after which a file counts as complete
BATCH = 16


@dataclass(frozen=True)
class Identity:
    """What changes when a file is written to, or replaced."""

    inode: int
    size: int
    modified: int
    changed: int  # unlike the time before, no program can set it back

    @classmethod
    def of(cls, path: str) -> Identity | None:
        """Return the identity of a regular file; None where there is none."""
        try:
            status = os.stat(path, follow_symlinks=False)
        except OSError:
            return None
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True)
class Watched:
    """A file that was judged, and what was done with it."""

    path: str
    verdict: Verdict
    done: Literal["released", "censored", "moved", "logged", "changed meanwhile", "failed"]
    original: str = ""
    why_failed: str = ""


class Watch:
    """A folder under guard.

    Args:
        guard: what judges. Its action covers images with the mode "censor".
        folder: the folder, with all folders below it.
        mode: for images that are not released: "censor" puts a covered one in their place, "move" takes them away,
            both keep the original in `quarantine`; "log" leaves them.
        quarantine: a folder elsewhere, on which the watched program has no view.
        settled: seconds without a change, after which a file counts as complete.

    Example:
        ```python
        watch = Watch(guard, Path("outputs"), mode="censor", quarantine=Path("quarantine"))
        for one in watch.step():
            print(one.path, one.done)
        ```
    """

    def __init__(
        self,
        guard: Guard,
        folder: Path,
        *,
        mode: Mode,
        quarantine: Path | None = None,
        settled: float = SETTLED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if mode not in get_args(Mode):
            raise UnknownNameError("mode", mode, get_args(Mode))
        if not folder.is_dir():
            raise ConfigError(f"{str(folder)!r} is not a folder: name the one to guard")
        if (mode != "log") != (quarantine is not None):
            raise ConfigError(f"mode {mode!r} {'needs a' if mode != 'log' else 'takes no'} quarantine")
        if quarantine is not None:
            quarantine.mkdir(parents=True, exist_ok=True)
            if quarantine.resolve().is_relative_to(folder.resolve()):
                raise ConfigError(f"the quarantine {str(quarantine)!r} is in the watched folder: name one elsewhere")
        self.guard, self.folder, self.mode, self.quarantine = guard, folder, mode, quarantine
        self.settled, self.clock = settled, clock
        self._since: dict[str, tuple[Identity, float]] = {}
        self._judged: dict[str, Identity] = {}

    @property
    def waiting(self) -> int:
        """How many files are not yet judged as they are now."""
        return sum(self._judged.get(path) != identity for path, (identity, _) in self._since.items())

    def step(self) -> Iterator[Watched]:
        """Look at the folder once; judge what is complete and was not judged as it is now."""
        if not self.folder.is_dir():
            raise ConfigError(f"the watched folder {str(self.folder)!r} is gone: bring it back, and start again")
        now, seen = self.clock(), {}
        for path in self._files():
            identity = Identity.of(path)
            if identity is None:
                continue
            before = self._since.get(path)
            seen[path] = before if before is not None and before[0] == identity else (identity, now)
        self._since = seen
        self._judged = {path: identity for path, identity in self._judged.items() if path in seen}
        due = [
            path for path, (identity, since) in seen.items()
            if self._judged.get(path) != identity and now - since >= self.settled
        ]  # fmt: skip
        for start in range(0, len(due), BATCH):
            yield from self._judge(due[start : start + BATCH])

    def _files(self) -> Iterator[str]:
        """Every image in the folder; links are not followed."""
        for home, folders, names in os.walk(self.folder):
            folders.sort()
            for name in sorted(names):
                path = Path(home, name)
                if path.is_symlink() or not path.is_file():
                    continue
                # A video file cannot be judged here: it is put away like every file that cannot.
                if path.suffix.lower() in JUDGED_SUFFIXES or looks_like_an_image(path):
                    yield str(path)

    def _judge(self, paths: Sequence[str]) -> Iterator[Watched]:
        most = (self.guard.limits or Limits()).bytes
        before = [self._since[path][0] for path in paths]
        contents: list[Any] = [read_file(path, most) for path in paths]
        # A path that cannot be read is judged too: its verdict says why.
        data = [path if isinstance(one, Unreadable) else one for path, one in zip(paths, contents, strict=True)]
        safe, verdicts = self.guard(data)
        for path, identity, original, kept, verdict in zip(paths, before, data, safe, verdicts, strict=True):
            released = kept is original
            yield self._act(path, identity, original, None if released else kept, verdict)

    def _act(self, path: str, identity: Identity, data: Any, cover: Any, verdict: Verdict) -> Watched:
        if Identity.of(path) != identity:  # written to since: it is judged again when it has settled
            return Watched(path, verdict, "changed meanwhile")
        if cover is not None and self.mode != "log" and self.quarantine is not None:
            try:
                return self._put_away(path, identity, cover, verdict, self._keep(path, self.quarantine))
            except OSError as error:  # tried again when it has settled again; the other images are guarded meanwhile
                self._since[path] = (identity, self.clock())
                return Watched(path, verdict, "failed", why_failed=f"{type(error).__name__}: {error}")
        self._judged[path] = identity
        return Watched(path, verdict, "released" if cover is None else "logged")

    def _put_away(self, path: str, identity: Identity, cover: Any, verdict: Verdict, original: str) -> Watched:
        """Cover or remove a file whose original is kept; a cover that cannot be written is no reason to leave it."""
        part = Path(path).with_name(f".{uuid.uuid4().hex}.new")
        try:
            covered = self.mode == "censor" and save_cover(
                cover, part, Path(path).suffix.lower(), mark=generated_mark(Path(original).read_bytes())
            )
            if Identity.of(path) != identity:  # keeping and covering took their time
                return Watched(path, verdict, "changed meanwhile", original)
            if not covered:
                os.unlink(path)
                self._since.pop(path, None)
                return Watched(path, verdict, "moved", original)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        placed = Identity.of(path)
        if placed is not None:  # the cover is ours: it is not judged again
            self._judged[path], self._since[path] = placed, (placed, self.clock())
        return Watched(path, verdict, "censored", original)

    def _keep(self, path: str, quarantine: Path) -> str:
        """Copy an original into the quarantine, whole before it has its name there."""
        inside = Path(path).relative_to(self.folder)
        short = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]
        # Shorter than a system allows, since a name may be as long as that already.
        stem = os.fsencode(inside.stem)[:150].decode("utf-8", "ignore")
        target = quarantine / inside.with_name(f"{stem}.{short}{inside.suffix[:20]}")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{uuid.uuid4().hex}.new")
        try:
            shutil.copy2(path, part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return str(target)
