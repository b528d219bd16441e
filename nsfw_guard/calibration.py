"""Calibration of a model's scores to frequencies, with thresholds for the calibrated scores. Fitted elsewhere."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.jsonfile import read_json
from nsfw_guard.policy.rules import VIEW_KINDS, Threshold
from nsfw_guard.scores import Scores, ViewScores

EDGE = 1e-9
NEVER = 1e-6  # the score of a category that is surely absent


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A map per category from a score p to sigmoid(slope * logit(p) + shift).

    Args:
        model: the model whose scores it was fitted on.
        maps: (slope, shift) per category; the slope is above 0, so that order is kept.
        views: by kind of view, maps that hold there in place of these.
        curves: by category, points (mapped score, frequency) that the mapped score then goes through, straight in
            the log odds of the first between two points.
        revision: of the model; empty where any is accepted.
        thresholds: thresholds for the calibrated scores, by name; they replace the record's.
        source: a description of the data it was fitted on.

    Example:
        ```python
        calibration = Calibration(model="demo-shapes", maps={"red-disc": (1.2, -0.3)})
        calibration.save("calibration.json")
        guard = Guard.from_pretrained("demo-shapes", calibration="calibration.json")
        ```
    """

    model: str
    maps: Mapping[str, tuple[float, float]]
    views: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    curves: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    revision: str = ""
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        for kind, maps in self.views.items():
            if kind not in VIEW_KINDS:
                raise UnknownNameError("kind of view", kind, VIEW_KINDS)
            if left := set(maps) - set(self.maps):
                raise ConfigError(f"the calibration of {kind} views maps {min(left)!r}, and `maps` does not: add it")
        for category, points in self.curves.items():
            _check_curve(category, points, self.maps)
        for category, (slope, shift) in self.every_map():
            if not (math.isfinite(slope) and math.isfinite(shift) and slope > 0):
                raise ConfigError(
                    f"calibration of {category!r}: the slope {slope} must be above 0 and the shift finite: fit it again"
                )
            if not _moved(NEVER, slope, shift) < _moved(1 - NEVER, slope, shift):
                raise ConfigError(
                    f"calibration of {category!r}: slope {slope} and shift {shift} map every score to the same number: "
                    "fit it again"
                )

    def apply(self, scores: Scores) -> Scores:
        """Return the calibrated scores. A score that is not a probability is kept, so that it is still noticed.

        Details stay what the model returned.
        """
        return replace(scores, views=tuple(self._view(view) for view in scores.views))

    def moved(self, category: str, p: float, *, kind: str = "") -> float:
        """Return the calibrated score for a score of this category, in this kind of view."""
        maps = self.views.get(kind, self.maps)
        chosen = maps.get(category, self.maps.get(category))
        mapped = p if chosen is None else _moved(p, *chosen)
        return _on_curve(mapped, self.curves[category]) if category in self.curves else mapped

    def lowest(self, category: str, p: float) -> float:
        """Return the lowest that a score of this category becomes, over all kinds of view."""
        return min(self.moved(category, p, kind=kind) for kind in ("", *self.views))

    def every_map(self) -> Iterator[tuple[str, tuple[float, float]]]:
        """Yield every map with its category."""
        yield from self.maps.items()
        for maps in self.views.values():
            yield from maps.items()

    def _view(self, view: ViewScores) -> ViewScores:
        levels = {c: {s: self.moved(c, p, kind=view.view.kind) for s, p in ls.items()} for c, ls in view.levels.items()}
        return replace(view, levels=levels)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all that decides, independent of where it was fitted."""
        content = {**self.to_dict(), "source": ""}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "model": self.model,
            "revision": self.revision,
            "maps": {c: list(m) for c, m in self.maps.items()},
            "curves": {c: [list(point) for point in points] for c, points in self.curves.items()},
            "views": {kind: {c: list(m) for c, m in maps.items()} for kind, maps in self.views.items()},
            "thresholds": {name: vars(threshold) for name, threshold in self.thresholds.items()},
            "source": self.source,
        }

    def save(self, path: str | Path) -> None:
        """Write the calibration as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a file that `save` wrote."""
        name = Path(path).name
        try:
            content = read_json(Path(path))
        except ConfigError as error:
            raise ConfigError(f"{name} is not a calibration file ({error}): write one with Calibration.save") from error
        try:
            maps = _maps(content.pop("maps"))
            views = {str(kind): _maps(one) for kind, one in content.pop("views", {}).items()}
            thresholds = {
                n: Threshold(**threshold) for n, threshold in content.pop("thresholds", content.pop("cuts", {})).items()
            }
            curves = {
                str(c): tuple((float(x), float(y)) for x, y in one) for c, one in content.pop("curves", {}).items()
            }
            return cls(maps=maps, views=views, curves=curves, thresholds=thresholds, **content)
        except ConfigError:
            raise
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ConfigError(f"{name} is not a calibration file ({error}): write one with Calibration.save") from error


def _maps(content: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    return {str(category): (float(slope), float(shift)) for category, (slope, shift) in content.items()}


def _check_curve(category: str, points: Sequence[tuple[float, float]], maps: Mapping[str, Any]) -> None:
    pairs = list(itertools.pairwise(points))
    inside = all(0.0 <= number <= 1.0 for point in points for number in point)
    if not inside or not pairs or not all(a[0] < b[0] and a[1] < b[1] for a, b in pairs):
        raise ConfigError(
            f"the curve of {category!r} must be two or more points from 0 to 1 that rise in both numbers: fit it again"
        )
    if category not in maps:
        raise ConfigError(f"the curve of {category!r} has no map below it: add one, such as (1, 0)")


def _on_curve(p: float, points: Sequence[tuple[float, float]]) -> float:
    """The frequency for a mapped score; beyond both ends it goes on to 0 and to 1, so that order is kept."""
    if not 0.0 <= p <= 1.0:
        return p
    at = bisect.bisect_right(points, (p, 2.0))
    low = points[at - 1] if at else (0.0, 0.0)
    high = points[at] if at < len(points) else (1.0, 1.0)
    ends = _odds(low[0]), _odds(high[0])
    if not ends[0] < ends[1]:
        return low[1]
    share = (_odds(p) - ends[0]) / (ends[1] - ends[0])
    return low[1] + (high[1] - low[1]) * min(1.0, max(0.0, share))


def _odds(p: float) -> float:
    inside = min(max(p, EDGE), 1 - EDGE)
    return math.log(inside / (1 - inside))


def _moved(p: float, slope: float, shift: float) -> float:
    if not 0.0 <= p <= 1.0:
        return p
    inside = min(max(p, EDGE), 1 - EDGE)
    logit = slope * math.log(inside / (1 - inside)) + shift
    # The exponent is never above 0: otherwise a steep map would overflow.
    small = math.exp(-abs(logit))
    return 1 / (1 + small) if logit >= 0 else small / (1 + small)
