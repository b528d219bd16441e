"""Images whose content is known: folders by label, or lists of paths and labels."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nsfw_guard.errors import ConfigError, suggest
from nsfw_guard.tools.screen import find

HARMLESS = frozenset({"safe", "sfw", "normal", "neutral", "harmless", "other", "negative"})
LISTS = frozenset({".csv", ".jsonl"})


@dataclass(frozen=True)
class LabelledImage:
    """A file, and the categories that are in it; none where it is harmless."""

    path: str
    categories: frozenset[str]


def read_labelled(sources: Sequence[str], categories: Sequence[str], labels: Mapping[str, str]) -> list[LabelledImage]:
    """Return the images of folders and lists with their labels.

    Args:
        sources: folders with a folder for each label, or lists: .csv or .jsonl with the columns `path` and `label`.
        categories: those of the model.
        labels: what a label means: a category, or "" for harmless; labels that are a category's name, or a word such as
            "safe", need no entry.

    Raises:
        ConfigError: a label is unknown, a path is not there, or an image has two labels that exclude each other.
    """
    meanings = {**dict.fromkeys(HARMLESS, ""), **{name: name for name in categories}, **labels}
    if wrong := sorted(set(labels.values()) - set(categories) - {""}):
        raise ConfigError(f"the model does not score {wrong[0]!r}: {suggest(wrong[0], categories)}")
    images: dict[str, set[str]] = {}
    for path, label in labels_in(sources):
        if label not in meanings:
            raise ConfigError(
                f"the label {label!r} of {path} means nothing yet: write --label {label}=CATEGORY with one of "
                f"{', '.join(categories)}, or --label {label}= where it is harmless"
            )
        images.setdefault(path, set()).add(meanings[label])
    for path, meant in images.items():
        if "" in meant and len(meant) > 1:
            raise ConfigError(f"{path} is labelled as harmless and as {max(meant)}: correct its label")
    return [LabelledImage(path, frozenset(meant - {""})) for path, meant in images.items()]


def labels_in(sources: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each path with its label, from folders with a folder for each label, or from lists.

    Raises:
        ConfigError: there is none, or a source cannot be read.
    """
    empty = True
    for source in sources:
        for pair in _of_list(Path(source)) if Path(source).suffix.lower() in LISTS else _of_folder(source):
            empty = False
            yield pair
    if empty:
        raise ConfigError("the sources hold no labelled image: give folders by label, or a list")


def _of_folder(source: str) -> Iterator[tuple[str, str]]:
    """Every image with the name of the folder that it is in, directly below the source."""
    for one in find([source]).sources:
        if len(one.keep_as.parts) < 2:
            raise ConfigError(f"{one.path} is in no folder that names a label: put it into {source}/LABEL/")
        yield one.path, one.keep_as.parts[0]


def _of_list(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file) if path.suffix.lower() == ".csv" else map(json.loads, file)
            for number, row in enumerate(rows, 1):
                if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("path", "label")):
                    raise ConfigError(f"row {number} of {path.name} has no texts 'path' and 'label': add both")
                yield str(path.parent / row["path"]), row["label"]
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path.name} cannot be read: {error}") from error
