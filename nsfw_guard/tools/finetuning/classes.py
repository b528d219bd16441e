"""The classes of the model that is taught: those of the model that it begins with, and those of the images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nsfw_guard.backends.files.inside import MAX_NAME_CHARS
from nsfw_guard.backends.files.labels import HARMLESS_LABELS, KNOWN_LABELS
from nsfw_guard.backends.spec import Label
from nsfw_guard.errors import ConfigError
from nsfw_guard.scores import Severity
from nsfw_guard.tools.teaching.labelled import HARMLESS


@dataclass(frozen=True)
class Classes:
    """What a model tells apart.

    Args:
        meanings: what each class means, by name, in the order of the last layer.
        rows: for each class the row of the last layer that it begins with; None for a new one.
        numbers: what each label of the images counts as.
    """

    meanings: Mapping[str, Label | None]
    rows: tuple[int | None, ...]
    numbers: Mapping[str, int]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(self.meanings)

    def without_images(self, counts: Mapping[int, int]) -> list[str]:
        """Return the names of classes that no image shows."""
        return [name for at, name in enumerate(self.names) if not counts.get(at)]


def classes_of(
    labels: Iterable[str],
    before: Mapping[str, Label | None],
    meanings: Mapping[str, Label | None],
    *,
    fresh: bool = False,
) -> Classes:
    """Return the classes for labelled images.

    A label that the model has already is that class. "safe" and the like are its one harmless class, if it has one.
    Any other label is a new class.

    Args:
        labels: of the images.
        before: the classes of the model that it begins with.
        meanings: what a label means, where its name does not say it.
        fresh: only the labels of the images become classes.

    Raises:
        ConfigError: a label means nothing yet, or there would be nothing to tell apart.
    """
    kept = {} if fresh else dict(before)
    harmless = [name for name, meaning in kept.items() if meaning is None]
    numbers, names = dict[str, str](), dict(kept)
    for label in sorted(set(labels)):
        _check_name(label, "label")
        if label not in kept and label.lower() in HARMLESS and label not in meanings and len(harmless) == 1:
            numbers[label] = harmless[0]
            continue
        numbers[label] = label
        if label not in names:
            names[label] = _meaning(label, before, meanings)
    if unknown := sorted(set(meanings) - set(names)):
        raise ConfigError(f"no image is labelled {unknown[0]!r}: the labels are {', '.join(sorted(numbers))}")
    meant = {name: meanings.get(name, meaning) for name, meaning in names.items()}
    if len(meant) < 2 or not any(meant.values()):
        raise ConfigError(
            f"the classes would be {', '.join(meant)}: a model needs at least two, one of them with a category"
        )
    order = list(meant)
    rows = tuple(list(before).index(name) if name in kept else None for name in order)
    return Classes(meant, rows, {label: order.index(name) for label, name in numbers.items()})


def _check_name(name: str, what: str) -> None:
    """Refuse a name that no configuration and no terminal could hold."""
    if not name.strip() or not name.isprintable() or len(name) > MAX_NAME_CHARS:
        raise ConfigError(
            f"the {what} {name[:60]!a} must be 1 to {MAX_NAME_CHARS} letters that can be printed, got {len(name)}: "
            "rename it"
        )


def _meaning(label: str, before: Mapping[str, Label | None], meanings: Mapping[str, Label | None]) -> Label | None:
    if label in meanings or label in before:
        return meanings.get(label, before.get(label))
    if label.lower() in HARMLESS | HARMLESS_LABELS:
        return None
    if label.lower() in KNOWN_LABELS:
        return KNOWN_LABELS[label.lower()]
    raise ConfigError(
        f"the label {label!r} means nothing yet: say which category it is, such as {label}=violence or "
        f"{label}=violence:low, or {label}= where it is harmless"
    )


def meaning_of(text: str) -> tuple[str, Label | None]:
    """Return a label and what it means, from "LABEL=CATEGORY", "LABEL=CATEGORY:LEVEL" or "LABEL=".

    Raises:
        ConfigError: it is written in another way.
    """
    label, sign, meaning = text.rpartition("=")  # a label may hold "=", a category may not
    category, colon, level = meaning.partition(":")
    if not sign or not label or (colon and not category):
        raise ConfigError(f"{text!r} must be LABEL=CATEGORY, LABEL=CATEGORY:LEVEL, or LABEL= where it is harmless")
    if not category:
        return label, None
    _check_name(category, "category")
    try:
        return label, Label(category, Severity.of(level)) if colon else Label(category)
    except ValueError as error:
        raise ConfigError(f"{text!r}: {error}") from None


def meanings_of(texts: Iterable[str]) -> dict[str, Label | None]:
    """Return what labels mean, each given once, as `meaning_of` reads them.

    Raises:
        ConfigError: a label is given twice.
    """
    meanings: dict[str, Label | None] = {}
    for label, meaning in map(meaning_of, texts):
        if label in meanings:
            raise ConfigError(f"the label {label!r} is given two meanings: give one")
        meanings[label] = meaning
    return meanings
