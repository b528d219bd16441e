"""The meaning of a model's classes: as given by the caller, or by their usual names."""

from __future__ import annotations

from collections.abc import Mapping

from nsfw_guard.backends.spec import Label
from nsfw_guard.errors import ConfigError

HARMLESS_LABELS = {"sfw", "safe", "normal", "neutral", "other"}
KNOWN_LABELS: Mapping[str, Label] = {
    "nsfw": Label("sexual"),
    "unsafe": Label("sexual"),
    "porn": Label("sexual"),
    "sexual": Label("sexual"),
    "explicit": Label("sexual"),
}


def label_map(order: tuple[str, ...], given: Mapping[str, str | Label | None] | None) -> dict[str, Label | None]:
    """Return the meaning of each class: as given, else by its usual name. An unknown class is refused."""
    given = given or {}
    strange = [name for name in order if name not in given and name.lower() not in {*KNOWN_LABELS, *HARMLESS_LABELS}]
    unknown = [name for name in given if name not in order]
    if strange or unknown:
        raise ConfigError(
            f"the model's labels are {', '.join(order)}: map {'each of them' if strange else 'only these'} to a "
            f"category or to None, such as labels={{{(strange or order)[0]!r}: 'sexual'}}"
        )
    mapping: dict[str, Label | None] = {}
    for name in order:
        to = given[name] if name in given else KNOWN_LABELS.get(name.lower())
        mapping[name] = Label(to) if isinstance(to, str) else to
    return mapping
