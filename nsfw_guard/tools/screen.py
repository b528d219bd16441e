"""Files and folders through a guard, one verdict a file, and what may be kept of them in another folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.decode import Limits
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
    b"II*": ".tif",
    b"MM": ".tif",
}


@dataclass(frozen=True)
class Source:
    """A file to look at, and what it will be called in the output folder."""

    path: str
    keep_as: Path


@dataclass(frozen=True)
class Screened:
    """A file, its verdict, and where it was written, if it was."""

    path: str
    verdict: Verdict
    written: str = ""


def find(paths: Sequence[str]) -> list[Source]:
    """The files named, and all pictures under the folders named; "-" is standard input.

    Raises:
        ConfigError: a path does not exist, or a folder holds no picture.
    """
    found: list[Source] = []
    for name in paths:
        path = Path(name)
        if name == STDIN:
            found.append(Source(STDIN, Path("stdin")))
        elif path.is_dir():
            below = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not below:
                raise ConfigError(f"there is no picture under {name!r}: name another folder, or the files themselves")
            found.extend(Source(str(p), p.relative_to(path)) for p in below)
        elif path.exists():
            found.append(Source(name, Path(path.name)))
        else:
            raise ConfigError(f"there is no file or folder {name!r}: check the path")
    return found


def screen(guard: Guard, sources: Sequence[Source], *, out: Path | None = None, batch: int = 16) -> Iterator[Screened]:
    """Judges files in batches; with `out` writes every allowed file as it is, and every other one covered, as PNG."""
    # What is judged is never written over, wherever `out` lies.
    taken = {Path(source.path).resolve() for source in sources}
    for start in range(0, len(sources), batch):
        part = sources[start : start + batch]
        data = [_read(source, guard) for source in part]
        verdicts = guard.check(data)
        safe = guard.apply(data, verdicts) if out is not None else data
        for source, verdict, kept in zip(part, verdicts, safe, strict=True):
            written = "" if out is None else _write(out, source.keep_as, kept, taken)
            yield Screened(source.path, verdict, written)


def _read(source: Source, guard: Guard) -> bytes | str:
    """The bytes of a file, read once, so that what is judged is what is written; a fault is left to the decoder."""
    most = (guard.limits or Limits()).bytes
    if source.path == STDIN:
        data = sys.stdin.buffer.read(most + 1)
        return data if len(data) <= most else b""
    if not Path(source.path).is_file():  # a pipe would be waited for
        return source.path
    try:
        with Path(source.path).open("rb") as file:
            data = file.read(most + 1)
    except OSError:
        return source.path
    # Half a file must never be written as if it were the whole.
    return data if len(data) <= most else source.path


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
    if isinstance(kept, Image.Image):
        kept.save(target, format="PNG")
    elif isinstance(kept, bytes):
        target.write_bytes(kept)
    else:  # released although it could not even be read: there is nothing to write
        return ""
    return str(target)
