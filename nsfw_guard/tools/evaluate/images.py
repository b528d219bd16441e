"""The images that are measured, and the slices that each one is in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.screen import STDIN, Skipped, find

MAX_CONTENT_SLICES = 40  # more names than this are albums or users, not kinds of content
ROOT = ""  # the slice of all images
ALL, ASPECT, SIZE = "all", "aspect ", "size "  # what a report calls that slice, and how its other own slices begin
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class ImageFile:
    """A file to measure with, and what its folder says is in it."""

    path: str
    content: tuple[str, ...] = ()


@dataclass(frozen=True)
class Collection:
    """The files to measure with, without copies; what was left out and why."""

    files: tuple[ImageFile, ...]
    copies: tuple[Skipped, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


def collect(folders: Sequence[str]) -> Collection:
    """Find the images in folders, each once.

    The folders directly below a given one name slices, split at "+": `photograph+people/a.jpg` is in the slices
    "photograph" and "people". A file with the same bytes as an earlier one is left out, since it would count twice.

    Raises:
        ConfigError: a path does not exist, is no folder or file of its own, or contains no image.

    Example:
        ```python
        collection = collect(["harmless"])
        print(len(collection.files), "images,", len(collection.copies), "copies")
        ```
    """
    if STDIN in folders:
        raise ConfigError("standard input cannot be measured with: pass a folder")
    listing = find(folders)
    files: list[ImageFile] = []
    copies: list[Skipped] = []
    first: dict[str, str] = {}
    for source in listing.sources:
        digest = digest_of(source.path)
        if digest and digest in first:
            copies.append(Skipped(source.path, f"the same file as {first[digest]}"))
            continue
        first[digest] = source.path
        content = source.keep_as.parts[0].split("+") if len(source.keep_as.parts) > 1 else []
        files.append(ImageFile(source.path, tuple(dict.fromkeys(name.strip() for name in content if name.strip()))))
    files, taken = _without_taken(files)
    names = {name for file in files for name in file.content}
    notes = tuple(
        f"the folder {name!r} names no slice, as the report has its own of such names: rename it" for name in taken
    )
    if len(names) > MAX_CONTENT_SLICES:
        files = [ImageFile(file.path) for file in files]
        notes += (f"{len(names)} folders are too many for slices (at most {MAX_CONTENT_SLICES}): they were left out",)
    return Collection(tuple(files), tuple(copies), listing.skipped, notes)


def _without_taken(files: Sequence[ImageFile]) -> tuple[list[ImageFile], list[str]]:
    """The files without the names of folders that would be mixed up with slices of the report itself; these names."""
    names = {name for file in files for name in file.content}
    taken = sorted(name for name in names if name == ALL or name.startswith((ASPECT, SIZE)))
    plain = [ImageFile(file.path, tuple(name for name in file.content if name not in taken)) for file in files]
    return plain, taken


def digest_of(path: str) -> str:
    """Return the SHA-256 of a file; empty where it cannot be read, which the decoder reports."""
    digest = hashlib.sha256()
    if not Path(path).is_file():
        return ""
    try:
        with Path(path).open("rb") as file:
            while part := file.read(_READ_BYTES):
                digest.update(part)
    except OSError:
        return ""
    return digest.hexdigest()


def slices_of(content: Sequence[str], width: int, height: int) -> tuple[str, ...]:
    """Return the slices of an image: all, its content, its aspect and its size.

    Example:
        ```python
        slices_of(["photograph"], 1920, 1080)  # ("", "photograph", "aspect wide", "size over 1024")
        ```
    """
    return ROOT, *content, f"{ASPECT}{_aspect(width, height)}", f"{SIZE}{_size(max(width, height))}"


def _aspect(width: int, height: int) -> str:
    """Square within 15%; "long" from 2:1, where the parts at both ends are far from the middle."""
    ratio = max(width, height) / min(width, height)
    if ratio <= 1.15:
        return "square"
    if ratio >= 2.0:
        return "long (2:1 or more)"
    return "wide" if width > height else "tall"


def _size(side: int) -> str:
    """By the longer side: below what models look at, about it, and well above."""
    if side <= 256:
        return "up to 256"
    return "257 to 1024" if side <= 1024 else "over 1024"
