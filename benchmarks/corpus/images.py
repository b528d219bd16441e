"""Images for `benchmarks.corpus`: which files are taken, what they show, and which of them are the same."""

from __future__ import annotations

import hashlib
import io
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path, PurePosixPath

from PIL import Image

from benchmarks.corpus.rules import Rule, Source

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
MOST_PIXELS = 20_000_000  # a few clip arts have 170 million, which takes seconds to decode and tells nothing more
SHORTEST = 32  # pixels of the shorter side: a smaller image is a mark, not something to judge
PREFERRED = 1920 * 1080  # pixels: of several sizes of one image, the nearest to this is kept
GRID = 16  # a fingerprint has 16 x 16 bits
ALIKE = 6  # bits by which the fingerprints of two sizes of one image may differ

# Words of a path that make an image doubtful: it is left out whatever the rules say. Most such images are harmless,
# but a corpus of harmless images must hold none of which one could think otherwise.
DOUBTFUL = """
adam adult alcohol ammunition anatomy angel art-nouveau bath bather bathing bathroom beach beer belly bikini
blood bloody body bomb bone boob bra breast bust butt cadaver cannon cherub cigar cigarette condom corpse corset
cupid dagger dead death devil drug erotic eve execution fetish gore grenade gun hang heroin hitler intimate jail
kill kiss kissing knife lena lenna lingerie lover marijuana massage mermaid missile murder muscle naked nazi
nipple nude nudity nymph panties panty pantyhose penis pin-up pinup pistol poison pregnancy pregnant prostitute
rape reproduction revolver rifle satan sex sexual sexy shirtless shower skeleton skull smoking stocking strip
stripper suicide sumo swastika swim swimmer swimming swimsuit sword tank tattoo thong tobacco topless torso
torture underpants underwear venus vitruvian weapon whip wine wrestler wrestling
"""
_DOUBTFUL = re.compile(rf"(?<![a-z])(?:{'|'.join(DOUBTFUL.split())})(?:s|es)?(?![a-z])")
_SIZE = re.compile(r"(\d{3,5})x(\d{3,5})")


@dataclass(frozen=True)
class Chosen:
    """A file of a package that a rule takes."""

    path: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """An image that was read, waiting to be compared with the others."""

    package: str
    path: str
    tags: tuple[str, ...]
    sha256: str
    width: int
    height: int
    fingerprint: int
    staged: Path


class UnusableImageError(Exception):
    """Says why a file is not taken: `small`, `large` or `unreadable`."""


def choose(source: Source, paths: Iterable[str]) -> list[Chosen]:
    """Returns the files that the rules of a source take, sampled where a rule says so, in the order of their paths."""
    matched: dict[Rule, list[str]] = defaultdict(list)
    for path in sorted(path for path in paths if path.lower().endswith(SUFFIXES)):
        rule = first_rule(source.rules, path)
        if rule is not None and rule.tags and not doubtful(path):
            matched[rule].append(path)
    taken = [
        Chosen(path, rule.tags)
        for rule, group in matched.items()
        for path in sample(nearest_sizes(group), rule.at_most or len(group))
    ]
    return sorted(taken, key=lambda chosen: chosen.path)


def first_rule(rules: Iterable[Rule], path: str) -> Rule | None:
    """Returns the first rule with a pattern that matches the path in small letters."""
    lower = f"/{path.lower()}"
    return next((rule for rule in rules if any(fnmatchcase(lower, f"*/{pattern}") for pattern in rule.patterns)), None)


def doubtful(path: str) -> bool:
    """Tells whether a word of the path makes the image doubtful."""
    return _DOUBTFUL.search(path.lower().replace("_", " ")) is not None


def nearest_sizes(paths: list[str]) -> list[str]:
    """Keeps one of the files of a folder whose names differ in nothing but a size, such as 1920x1080 and 5120x2880."""
    groups: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        folder, _, name = path.rpartition("/")
        sizeless = _SIZE.sub("", name).rpartition(".")[0] if _SIZE.search(name) else name
        groups[f"{folder}/{sizeless}"].append(path)
    return [min(group, key=lambda path: (named_distance(path), path)) for group in groups.values()]


def named_distance(path: str) -> float:
    """Returns how far the size that a path names is from the preferred one."""
    named = _SIZE.search(PurePosixPath(path).name)
    return distance(int(named[1]), int(named[2])) if named else 0.0


def distance(width: int, height: int) -> float:
    """Returns how far a size is from the preferred one: 1 for half or double the pixels; upright ones come last."""
    return abs(math.log2(width * height / PREFERRED)) + (0.5 if height > width else 0.0)


def sample(paths: list[str], count: int) -> list[str]:
    """Returns that many paths, evenly over their folders, those with the smallest hash of the path first."""
    folders: dict[str, list[str]] = defaultdict(list)
    for path in sorted(paths, key=lambda path: hashlib.sha256(path.encode()).hexdigest()):
        folders[path.rpartition("/")[0]].append(path)
    turns = [
        (turn, folder, path) for folder, group in folders.items() for turn, path in enumerate(group)
    ]  # the first of every folder, then the second of every folder, and so on
    return sorted(path for _, _, path in sorted(turns)[:count])


def inspect(package: str, chosen: Chosen, content: bytes, staged: Path) -> Candidate:
    """Decodes an image, and keeps its bytes as published in the staged file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content))
            width, height = image.size
            if min(width, height) < SHORTEST:
                raise UnusableImageError("small")
            if width * height > MOST_PIXELS:
                raise UnusableImageError("large")
            bits = fingerprint(image)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UnusableImageError("unreadable") from error
    staged.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return Candidate(package, chosen.path, chosen.tags, digest, width, height, bits, staged)


def fingerprint(image: Image.Image) -> int:
    """Returns a difference hash of 16 x 16 bits: nearly the same for every size of one image."""
    image.draft("RGB", (4 * GRID, 4 * GRID))  # a JPEG is decoded small
    colours = image.convert("RGBA")
    ground = Image.new("RGBA", colours.size, "white")
    grey = Image.alpha_composite(ground, colours).convert("L").resize((GRID + 1, GRID), Image.Resampling.BOX)
    levels = grey.tobytes()
    rows = [levels[at : at + GRID + 1] for at in range(0, len(levels), GRID + 1)]
    return int("".join(str(int(left > right)) for row in rows for left, right in pairwise(row)), 2)


def without_duplicates(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Keeps one of each group of candidates with the same bytes, or with one shape and nearly the same fingerprint."""
    kept: list[Candidate] = []
    files: set[str] = set()
    shapes: dict[int, list[int]] = defaultdict(list)
    for candidate in sorted(candidates, key=lambda each: (distance(each.width, each.height), each.package, each.path)):
        alike = shapes[round(8 * math.log2(candidate.width / candidate.height))]
        if candidate.sha256 in files or any((other ^ candidate.fingerprint).bit_count() <= ALIKE for other in alike):
            continue
        files.add(candidate.sha256)
        alike.append(candidate.fingerprint)
        kept.append(candidate)
    return sorted(kept, key=lambda each: (each.package, each.path))


def file_names(kept: Iterable[Candidate]) -> Mapping[str, Candidate]:
    """Returns a path in the corpus for each image: its tags, its package, and a name that is sane and unique."""
    placed: dict[str, Candidate] = {}
    used: set[str] = set()
    for candidate in kept:
        folder = f"{'+'.join(candidate.tags)}/{sane(candidate.package)}"
        name = PurePosixPath(sane(PurePosixPath(candidate.path).name))
        if f"{folder}/{name}".lower() in used:
            name = PurePosixPath(f"{name.stem}-{hashlib.sha256(candidate.path.encode()).hexdigest()[:12]}{name.suffix}")
        used.add(f"{folder}/{name}".lower())
        placed[f"{folder}/{name}"] = candidate
    return placed


def sane(name: str) -> str:
    """Returns a name that every file system takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name.removeprefix("@").replace("/", "-")).lstrip(".-_") or "image"
