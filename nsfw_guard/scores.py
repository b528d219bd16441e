"""What a model says of a picture: frozen numbers, per view, category and severity. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")
LEAST = 1 / 32  # of a side: a region that is narrower is widened to this, around its centre
TINY = 1 / 256  # of a side: about a pixel of what a model is shown, so nothing was seen there


class Fixed(dict[K, V]):
    """An immutable dict, which can be copied and pickled: what a verdict rests on must not change under it."""

    def _refuse(self, *_: object, **__: object) -> Any:
        raise TypeError("this cannot be changed: make a new one")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[Fixed[K, V]], tuple[dict[K, V]]]:
        return type(self), (dict(self),)


class Severity(IntEnum):
    """How bad: LOW < MEDIUM < HIGH. A model that grades nothing has one level.

    Example:
        ```python
        Severity.of("medium") is Severity.MEDIUM
        ```
    """

    LOW = 1
    MEDIUM = 2
    HIGH = 3

    @classmethod
    def of(cls, value: Severity | int | str) -> Severity:
        """Return the level that is meant by a name, a number or a level."""
        try:
            if isinstance(value, bool):
                raise ValueError
            return cls[value.upper()] if isinstance(value, str) else cls(value)
        except (KeyError, ValueError):
            raise ValueError(f"severity must be low, medium or high, not {value!r}") from None


Levels = Mapping[str, Mapping[Severity, float]]


@dataclass(frozen=True)
class Region:
    """A box in fractions of the picture, clamped to it when built.

    Example:
        ```python
        region = Region(0.1, 0.2, 0.5, 0.9, category="face", score=0.7)
        ```
    """

    left: float
    top: float
    right: float
    bottom: float
    category: str = ""
    score: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "score", plain(self.score))
        for name in ("left", "top", "right", "bottom"):
            value = plain(getattr(self, name))
            # A box that cannot be placed covers everything: min and max would let NaN through.
            edge = 0.0 if name in {"left", "top"} else 1.0
            object.__setattr__(self, name, min(max(value, 0.0), 1.0) if math.isfinite(value) else edge)
        if not (self.left < self.right and self.top < self.bottom):
            raise ValueError(f"an empty box ({self.left}, {self.top}, {self.right}, {self.bottom}) covers nothing")

    @property
    def tiny(self) -> bool:
        """Whether it is too small to be the place of anything."""
        return not (self.right - self.left >= TINY and self.bottom - self.top >= TINY)

    def pixels(self, height: int, width: int, *, margin: float = 0.0) -> tuple[int, int, int, int]:
        """Return the box in whole pixels (top, left, bottom, right), rounded outwards, `margin` of its sides added
        around.
        """
        left, right = _span(self.left, self.right, width, margin)
        top, bottom = _span(self.top, self.bottom, height, margin)
        return top, left, bottom, right


@dataclass(frozen=True)
class View:
    """What of the picture one look saw: its kind, and its box in fractions (left, top, right, bottom)."""

    kind: str
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class ViewScores:
    """P(severity >= level) per category, as one view gave them, and what the model told besides, by name."""

    view: View
    levels: Levels
    details: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        levels = {c: Fixed({level: plain(p) for level, p in levels.items()}) for c, levels in self.levels.items()}
        object.__setattr__(self, "levels", Fixed(levels))
        object.__setattr__(self, "details", Fixed({name: plain(value) for name, value in self.details.items()}))


@dataclass(frozen=True)
class Scores:
    """What a model said of one frame: numbers per view, regions and an embedding where it has them.

    The first view is the model authors' own; the embedding is that view's. `digest` is the SHA-256 of the
    8-bit pixels that the model was shown, `blank` says that they are one flat colour, and `fault` says why there
    are no numbers.
    """

    views: tuple[ViewScores, ...]
    regions: tuple[Region, ...] = ()
    embedding: Any = field(default=None, compare=False, repr=False)
    digest: str = ""
    blank: bool = False
    fault: str = ""

    def __post_init__(self) -> None:
        for name, kind in (("views", ViewScores), ("regions", Region)):
            # A tuple of its own: a list that somebody still holds could change, a generator can be read only once.
            entries = tuple(getattr(self, name))
            if not all(isinstance(entry, kind) for entry in entries):
                raise TypeError(f"{name} are {kind.__name__} objects, not {[type(e).__name__ for e in entries]}")
            object.__setattr__(self, name, entries)
        for name in ("digest", "fault"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(
                    f"{name} is a text, not {type(getattr(self, name)).__name__}: give str, or leave it out"
                )

    @classmethod
    def single(cls, levels: Levels, *, kind: str = "full", **rest: Any) -> Scores:
        """Scores of one view."""
        return cls((ViewScores(View(kind), levels),), **rest)

    def numbers(self) -> Iterator[float]:
        """Return every probability in it."""
        for view in self.views:
            for levels in view.levels.values():
                yield from levels.values()

    @property
    def finite(self) -> bool:
        """True only when there is a number and every number is a probability."""
        numbers = list(self.numbers())
        return bool(numbers) and all(0.0 <= n <= 1.0 for n in numbers)

    def to_list(self) -> list[dict[str, Any]]:
        """Return the numbers of each view, JSON-ready."""
        return [_view_dict(view) for view in self.views]

    @property
    def worst(self) -> dict[str, dict[Severity, float]]:
        """Per category and level the highest number over the views."""
        worst: dict[str, dict[Severity, float]] = {}
        for view in self.views:
            for category, levels in view.levels.items():
                into = worst.setdefault(category, {})
                for level, p in levels.items():
                    # A NaN wins and stays, so that it is seen: it is neither at most nor at least a number.
                    if level not in into or (not p <= into[level] and not math.isnan(into[level])):
                        into[level] = p
        return worst


def _span(low: float, high: float, length: int, margin: float) -> tuple[int, int]:
    """From which pixel to which a region reaches along one side, `LEAST` of it at least."""
    around = max((high - low) * margin, (LEAST - (high - low)) / 2)
    return max(0, math.floor((low - around) * length)), min(length, math.ceil((high + around) * length))


def _view_dict(view: ViewScores) -> dict[str, Any]:
    levels = {c: {s.name.lower(): number(p) for s, p in ls.items()} for c, ls in view.levels.items()}
    content = {"view": view.view.kind, "box": list(view.view.box), "levels": levels}
    return {**content, "details": {n: number(v) for n, v in view.details.items()}} if view.details else content


def number(value: float | None) -> float | str | None:
    """Return a number for JSON, which has no NaN: one is written as its name, and nobody reads a missing number as
    safe.
    """
    return value if value is None or math.isfinite(value) else str(value)


def plain(value: Any) -> float:
    """Return a number as a plain float, whatever type it came in: comparisons of another type may say what they like.

    Raises:
        TypeError: it is a truth value (False would read as 0.0, the safest score there is), a text, or no number.
    """
    if type(value) is float:
        return value
    if "bool" in str(getattr(value, "dtype", type(value).__name__)) or not hasattr(value, "__float__"):
        raise TypeError(f"a score is a number from 0 to 1, not {type(value).__name__}: give a float")
    # The base type's own conversion: a subclass may have another one.
    return float.__float__(value) if isinstance(value, float) else float(value)
