"""A model's scores for an image, immutable, by view, category and severity. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")
LEAST = 1 / 32  # of a side: a narrower region is widened to this, around its centre
TINY = 1 / 256  # of a side: about one pixel of the model's input, too small to show anything


class Fixed(dict[K, V]):
    """An immutable dict that can be copied and pickled, so that the data of a verdict cannot change."""

    def _refuse(self, *_: object, **__: object) -> Any:
        raise TypeError("this mapping is immutable: build a new one instead of changing it")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[Fixed[K, V]], tuple[dict[K, V]]]:
        return type(self), (dict(self),)


class Severity(IntEnum):
    """Severity of a category: LOW < MEDIUM < HIGH. A model that does not grade has one level.

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
        """Return the level for a name, a number or a level."""
        try:
            if isinstance(value, bool):
                raise ValueError
            return cls[value.upper()] if isinstance(value, str) else cls(value)
        except (KeyError, ValueError):
            raise ValueError(f"severity must be low, medium or high, not {value!r}") from None


Levels = Mapping[str, Mapping[Severity, float]]


@dataclass(frozen=True)
class Region:
    """A box in fractions of the image, clamped to [0, 1].

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
            box = f"({self.left}, {self.top}, {self.right}, {self.bottom})"
            raise ValueError(f"an empty box {box} covers nothing: left must be below right, and top below bottom")

    @property
    def tiny(self) -> bool:
        """True when the region is too small to show anything."""
        return not (self.right - self.left >= TINY and self.bottom - self.top >= TINY)

    def pixels(self, height: int, width: int, *, margin: float = 0.0) -> tuple[int, int, int, int]:
        """Return the box in pixels (top, left, bottom, right), rounded outwards and widened by `margin` a side."""
        left, right = _span(self.left, self.right, width, margin)
        top, bottom = _span(self.top, self.bottom, height, margin)
        return top, left, bottom, right


@dataclass(frozen=True)
class View:
    """One part of an image that the model was shown: its kind, and its box in fractions (left, top, right, bottom)."""

    kind: str
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class ViewScores:
    """P(severity >= level) per category for one view, and further values of the model by name."""

    view: View
    levels: Levels
    details: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        levels = {c: Fixed({level: plain(p) for level, p in levels.items()}) for c, levels in self.levels.items()}
        object.__setattr__(self, "levels", Fixed(levels))
        object.__setattr__(self, "details", Fixed({name: plain(value) for name, value in self.details.items()}))


@dataclass(frozen=True)
class Scores:
    """A model's answer for one frame: scores per view, and regions and an embedding where the model has them.

    The first view is the model authors' own; the embedding is that view's. `digest` is the SHA-256 of the
    8-bit pixels that the model was shown, `pdq` a hash of the frame that similar ones have too, where a wrapper made
    one, `blank` is true when the pixels are one flat colour, `note` is added to the reason of the verdict, and `fault`
    says why there are no scores.
    """

    views: tuple[ViewScores, ...]
    regions: tuple[Region, ...] = ()
    embedding: Any = field(default=None, compare=False, repr=False)
    digest: str = ""
    pdq: str = ""
    blank: bool = False
    note: str = ""
    fault: str = ""

    def __post_init__(self) -> None:
        for name, kind in (("views", ViewScores), ("regions", Region)):
            # Copied to a tuple: the caller could still change a list, and a generator can be read only once.
            entries = tuple(getattr(self, name))
            if not all(isinstance(entry, kind) for entry in entries):
                given = [type(entry).__name__ for entry in entries]
                raise TypeError(f"{name} must contain only {kind.__name__} objects, got {given}")
            object.__setattr__(self, name, entries)
        for name in ("digest", "pdq", "note", "fault"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(
                    f"{name} must be a str, got {type(getattr(self, name)).__name__}: pass a str or omit it"
                )

    @classmethod
    def single(cls, levels: Levels, *, kind: str = "full", **rest: Any) -> Scores:
        """Make the scores of one view."""
        return cls((ViewScores(View(kind), levels),), **rest)

    def numbers(self) -> Iterator[float]:
        """Yield every score of every view, category and level."""
        for view in self.views:
            for levels in view.levels.values():
                yield from levels.values()

    @property
    def finite(self) -> bool:
        """True when there is at least one score and every score is a probability."""
        numbers = list(self.numbers())
        return bool(numbers) and all(0.0 <= n <= 1.0 for n in numbers)

    def to_list(self) -> list[dict[str, Any]]:
        """Return the scores of each view as JSON-ready values."""
        return [_view_dict(view) for view in self.views]

    @property
    def worst(self) -> dict[str, dict[Severity, float]]:
        """The highest score over the views, per category and level."""
        worst: dict[str, dict[Severity, float]] = {}
        for view in self.views:
            for category, levels in view.levels.items():
                into = worst.setdefault(category, {})
                for level, p in levels.items():
                    # A NaN always wins, so that it is noticed: every comparison with it is false.
                    if level not in into or (not p <= into[level] and not math.isnan(into[level])):
                        into[level] = p
        return worst


def _span(low: float, high: float, length: int, margin: float) -> tuple[int, int]:
    """First and last pixel of a region along one side, at least `LEAST` of the side apart."""
    around = max((high - low) * margin, (LEAST - (high - low)) / 2)
    return max(0, math.floor((low - around) * length)), min(length, math.ceil((high + around) * length))


def _view_dict(view: ViewScores) -> dict[str, Any]:
    levels = {c: {s.name.lower(): number(p) for s, p in ls.items()} for c, ls in view.levels.items()}
    content = {"view": view.view.kind, "box": list(view.view.box), "levels": levels}
    return {**content, "details": {n: number(v) for n, v in view.details.items()}} if view.details else content


def number(value: float | None) -> float | str | None:
    """Return a number for JSON. NaN and infinity become their names: a missing number could be read as safe."""
    return value if value is None or math.isfinite(value) else str(value)


def plain(value: Any) -> float:
    """Return a number as a plain float: other types may define comparisons of their own.

    Raises:
        TypeError: it is a bool (False would be read as 0.0, the safest score), a text, or not a number.
    """
    if type(value) is float:
        return value
    if "bool" in str(getattr(value, "dtype", type(value).__name__)) or not hasattr(value, "__float__"):
        raise TypeError(f"a score must be a number from 0 to 1, got {type(value).__name__}: return a float")
    # The conversion of float itself: a subclass may override it.
    return float.__float__(value) if isinstance(value, float) else float(value)
