"""Screens files and folders with a guard: one verdict per file, and copies of released files in another folder."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.decode import decode
from nsfw_guard.imaging.files.container import without_embedded
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.verdict import Verdict

SUFFIXES = {
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".mpo",
    ".webp",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".avif",
    ".apng",
}
STDIN = "-"
STARTS = {
    b"\x89PNG": ".png",
    b"\xff\xd8": ".jpg",
    b"GIF8": ".gif",
    b"RIFF": ".webp",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}
# Image formats that are not supported: such files are reported as not judged.
UNREAD = (
    b"II+\0", b"MM\0+", b"\xff\x0a", b"\0\0\0\x0cJXL ", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"\0\0\1\0", b"8BPS",
    b"DDS ", b"icns", b"qoif", b"\x76\x2f\x31\x01", b"#?RADIANCE", b"P1\n", b"P2\n", b"P3\n", b"P4\n", b"P5\n", b"P6\n",
    b"FORM", b"gimp xcf", b"\x59\xa6\x6a\x95",
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A file to judge, and its name in the output folder."""

    path: str
    keep_as: Path


@dataclass(frozen=True)
class Screened:
    """A file, its verdict, and the path of its copy, if there is one."""

    path: str
    verdict: Verdict
    written: str = ""


@dataclass(frozen=True)
class Skipped:
    """A path in a folder that is not judged, and the reason."""

    path: str
    why: str


@dataclass(frozen=True)
class Listing:
    """The files to judge, and those skipped."""

    sources: tuple[Source, ...]
    skipped: tuple[Skipped, ...] = ()


def find(paths: Sequence[str]) -> Listing:
    """Find the files named, and all images under the folders named; "-" is standard input.

    In a folder a file is an image by its suffix or by its first bytes. Links to folders are not followed.

    Raises:
        ConfigError: a path does not exist, or a folder contains no image.
    """
    sources: list[Source] = []
    skipped: list[Skipped] = []
    for name in paths:
        if not name:
            raise ConfigError("the path is empty: pass a file, a folder, or . for the current folder")
        path = Path(name)
        if name == STDIN:
            sources.append(Source(STDIN, Path("stdin")))
        elif path.is_dir():
            below = _below(path)
            if not below.sources:
                beside = f", only {len(below.skipped)} other files" if below.skipped else ""
                raise ConfigError(
                    f"no image found under {name!r}{beside}: pass another folder, or the files themselves"
                )
            sources.extend(below.sources)
            skipped.extend(below.skipped)
        elif path.exists():
            sources.append(Source(name, Path(path.name)))
        else:
            raise ConfigError(f"the file or folder {name!r} does not exist: check the path")
    return Listing(tuple(sources), tuple(skipped))


def _below(folder: Path) -> Listing:
    """Everything in a folder and the folders in it, each file as a source or as skipped."""
    sources: list[Source] = []
    skipped: list[Skipped] = []
    for path in sorted(_walk(folder, skipped)):
        if path.is_dir():
            if path.is_symlink():
                skipped.append(Skipped(str(path), "a link to a folder"))
        elif path.is_file() and (path.suffix.lower() in SUFFIXES or looks_like_an_image(path)):
            sources.append(Source(str(path), path.relative_to(folder)))
        else:
            skipped.append(Skipped(str(path), _why_skipped(path)))
    return Listing(tuple(sources), tuple(skipped))


def _walk(folder: Path, skipped: list[Skipped]) -> Iterator[Path]:
    """Everything below a folder; a folder that cannot be listed is recorded as skipped."""

    def refused(error: OSError) -> None:
        skipped.append(Skipped(str(error.filename), "a folder that cannot be listed"))

    for home, folders, files in os.walk(folder, onerror=refused):
        yield from (Path(home, name) for name in (*folders, *files))


def looks_like_an_image(path: Path) -> bool:
    """Return whether the first bytes of a file are those of an image; true where they cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:  # left to the decoder, which reports why the file cannot be read
        return True
    return start.startswith((*STARTS, *UNREAD)) or start[4:8] == b"ftyp"


def _why_skipped(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return "a broken link"
    return "not an image by its name or its first bytes" if path.is_file() else "not a regular file"


def screen(guard: Guard, sources: Sequence[Source], *, out: Path | None = None, batch: int = 16) -> Iterator[Screened]:
    """Judge files in batches. With `out`, write a copy of every allowed file and a covered PNG of every other one.

    Thumbnails and previews in the metadata of copies are blanked; their main image stays bit for bit.
    """
    # The judged files are never overwritten, wherever `out` is.
    taken = {Path(source.path).resolve() for source in sources}
    for start in range(0, len(sources), batch):
        part = sources[start : start + batch]
        data = [_read(source, guard) for source in part]
        verdicts = guard.check(data)
        safe = guard.apply(data, verdicts) if out is not None else data
        for source, verdict, kept in zip(part, verdicts, safe, strict=True):
            clean = _without_thumbnails(kept, guard) if out is not None and isinstance(kept, bytes) else kept
            written = "" if out is None else _write(out, source.keep_as, clean, taken)
            yield Screened(source.path, verdict, written)


def _read(source: Source, guard: Guard) -> bytes | str:
    """The bytes of a file, read once, so that the same bytes are judged and copied; the decoder reports faults."""
    most = (guard.limits or Limits()).bytes
    if source.path == STDIN:
        data = sys.stdin.buffer.read(most + 1)
        return data if len(data) <= most else b""
    if not Path(source.path).is_file():  # reading a pipe may wait for ever
        return source.path
    try:
        with Path(source.path).open("rb") as file:
            data = file.read(most + 1)
    except OSError:
        return source.path
    # An incomplete file must never be copied as if it were complete.
    return data if len(data) <= most else source.path


def _without_thumbnails(data: bytes, guard: Guard) -> bytes:
    """The file without its embedded images; unchanged where removing them would change the main image."""
    limits = guard.limits or Limits()
    try:
        clean = without_embedded(data, limits)
        if clean == data:
            return data
        seen = [frame.tobytes() for frame in decode(data, limits=limits).frames]
        left = [frame.tobytes() for frame in decode(clean, limits=limits).frames]
    except Exception:  # noqa: BLE001 - a broken file, released although it could not be judged: that was asked for aloud
        return data
    return clean if left and left[0] == seen[0] and set(left) <= set(seen) else data


def _write(out: Path, name: Path, kept: bytes | str | Image.Image, taken: set[Path]) -> str:
    covered = isinstance(kept, Image.Image)
    if isinstance(kept, bytes) and not name.suffix:
        name = name.with_suffix(next((suffix for start, suffix in STARTS.items() if kept.startswith(start)), ""))
    target = out / (name.with_suffix(".png") if covered else name)
    count = 1
    while target.resolve() in taken:
        count += 1
        target = target.with_name(f"{name.stem}-{count}{target.suffix}")
    taken.add(target.resolve())
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(kept, str):  # released by fail_open, but the file could not be read: there is nothing to copy
        return ""
    if not target.parent.resolve().is_relative_to(out.resolve()):
        raise ConfigError(f"{target.parent.name!r} in the folder for copies is a link to a place outside it: remove it")
    # Written as a new file: an existing one, perhaps a link, is replaced and never written through.
    fresh = target.with_name(f".{target.name[:80]}.{uuid.uuid4().hex[:8]}.new")
    try:
        with fresh.open("xb") as file:
            if isinstance(kept, bytes):
                file.write(kept)
            else:
                kept.save(file, format="PNG")
        fresh.replace(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return str(target)
