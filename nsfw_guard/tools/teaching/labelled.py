"""Images whose content is known: folders by label, or lists of paths and labels."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nsfw_guard.errors import ConfigError, MissingExtraError, suggest
from nsfw_guard.scores import Severity
from nsfw_guard.tools.screen import find

HARMLESS = frozenset({"safe", "sfw", "normal", "neutral", "harmless", "other", "negative"})
LISTS = frozenset({".csv", ".jsonl", ".parquet"})
LEVEL = ":"  # between a category and a severity, in what a label means


@dataclass(frozen=True)
class LabelledImage:
    """A file, and the categories that are in it; none where it is harmless.

    Args:
        path: the file.
        categories: what is in it.
        severities: by category, how severe it is, where its label says so.
        facts: the further columns of its row in a list, and under "" the folder or list that it is from.
    """

    path: str
    categories: frozenset[str]
    severities: Mapping[str, Severity] = field(default_factory=dict, hash=False)
    facts: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass
class _Known:
    """What the rows of one path say together."""

    meanings: set[str] = field(default_factory=set)
    facts: dict[str, str] = field(default_factory=dict)


def read_labelled(
    sources: Sequence[str],
    categories: Sequence[str],
    labels: Mapping[str, str],
    *,
    levels: Mapping[str, Sequence[Severity]] | None = None,
) -> list[LabelledImage]:
    """Return the images of folders and lists with their labels.

    Args:
        sources: folders with a folder for each label, or lists: .csv, .jsonl or .parquet with the columns `path` and
            `label`.
        categories: those of the model.
        labels: what a label means: a category, or "" for harmless; labels that are a category's name, or a word such as
            "safe", need no entry.
        levels: the severities of each category, where a label may also mean one, as "violence:high".

    Raises:
        ConfigError: a label is unknown, a path is not there, or an image has two labels that exclude each other.
    """
    graded = [f"{name}{LEVEL}{level.name.lower()}" for name, all_of in (levels or {}).items() for level in all_of]
    known = [*categories, *(name for name in graded if name.partition(LEVEL)[0] in categories)]
    meanings = {**dict.fromkeys(HARMLESS, ""), **{name: name for name in known}, **labels}
    if wrong := sorted(set(labels.values()) - set(known) - {""}):
        raise ConfigError(f"the model does not score {wrong[0]!r}: {suggest(wrong[0], known)}")
    images: dict[str, _Known] = {}
    for path, label, facts in labels_in(sources):
        if label not in meanings:
            raise ConfigError(
                f"the label {label!r} of {path} means nothing yet: write --label {label}=CATEGORY with one of "
                f"{', '.join(categories)}, or --label {label}= where it is harmless"
            )
        image = images.setdefault(path, _Known())
        image.meanings.add(meanings[label])
        image.facts.update(facts)
    return [_image(path, known.meanings, known.facts) for path, known in images.items()]


def words_of(image: LabelledImage) -> str:
    """Return what an image is labelled as, in words.

    Example:
        ```python
        words_of(LabelledImage("a.png", frozenset()))  # "harmless"
        ```
    """
    names = (
        f"{name} {image.severities[name].name.lower()}" if name in image.severities else name
        for name in sorted(image.categories)
    )
    return " + ".join(names) or "harmless"


def _image(path: str, meant: set[str], facts: Mapping[str, str]) -> LabelledImage:
    """The image, whose labels must not exclude each other."""
    if "" in meant and len(meant) > 1:
        raise ConfigError(f"{path} is labelled as harmless and as {max(meant)}: correct its label")
    severities: dict[str, Severity] = {}
    for category, _, name in (one.partition(LEVEL) for one in sorted(meant) if LEVEL in one):
        level = Severity.of(name)
        if severities.setdefault(category, level) is not level:
            words = " and ".join(sorted(one for one in meant if one.startswith(f"{category}{LEVEL}")))
            raise ConfigError(f"{path} is labelled as {words}: correct its label")
    return LabelledImage(path, frozenset(one.partition(LEVEL)[0] for one in meant - {""}), severities, facts)


def labels_in(sources: Sequence[str]) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """Yield each path with its label, and the other columns of its list; the column "" is the source.

    Raises:
        ConfigError: there is none, or a source cannot be read.
    """
    empty = True
    for source in sources:
        rows = _of_list(Path(source)) if Path(source).suffix.lower() in LISTS else _of_folder(source)
        for path, label, facts in rows:
            empty = False
            yield path, label, {**facts, "": source}
    if empty:
        raise ConfigError("the sources hold no labelled image: give folders by label, or a list")


def paths_in(source: str) -> Iterator[str]:
    """Yield the column `path` of a list, whatever else is in it.

    Raises:
        ConfigError: the list cannot be read, or a row has no path.
    """
    for number, row in enumerate(_read(Path(source)), 1):
        if not isinstance(row, dict) or not isinstance(row.get("path"), str):
            raise ConfigError(f"row {number} of {Path(source).name} has no text 'path': add it")
        yield str(Path(source).parent / row["path"])


def _of_folder(source: str) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """Every image with the name of the folder that it is in, directly below the source."""
    for one in find([source]).sources:
        if len(one.keep_as.parts) < 2:
            raise ConfigError(f"{one.path} is in no folder that names a label: put it into {source}/LABEL/")
        yield one.path, one.keep_as.parts[0], {}


def _of_list(path: Path) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """Every row of a list: path, label, and the other columns as texts."""
    for number, row in enumerate(_read(path), 1):
        if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("path", "label")):
            columns = ", ".join(map(str, row)) if isinstance(row, dict) else "no columns"
            raise ConfigError(f"row {number} of {path.name} has no texts 'path' and 'label', but {columns}: add both")
        facts = {str(name): "" if fact is None else str(fact) for name, fact in row.items() if name}
        yield str(path.parent / facts.pop("path")), facts.pop("label"), facts


def _read(path: Path) -> Iterator[Any]:
    """The rows of a list; one error for all that may be wrong with a file."""
    try:
        yield from _rows(path)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path.name} cannot be read: {error}") from error


def _rows(path: Path) -> Iterator[Any]:
    if path.suffix.lower() == ".parquet":
        try:
            from pyarrow import parquet
        except ImportError:
            raise MissingExtraError("pyarrow", "scan") from None
        yield from parquet.read_table(path).to_pylist()
        return
    with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets begin with a mark
        yield from csv.DictReader(file) if path.suffix.lower() == ".csv" else map(json.loads, file)
