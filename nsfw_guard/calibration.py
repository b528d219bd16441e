"""Calibration of a model's scores to frequencies, with thresholds for the calibrated scores. Fitted elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nsfw_guard.errors import ConfigError
from nsfw_guard.jsonfile import read_json
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.scores import Scores, ViewScores

EDGE = 1e-9
NEVER = 1e-6  # the score of a category that is surely absent


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A map per category from a score p to sigmoid(slope * logit(p) + shift).

    Args:
        model: the model whose scores it was fitted on.
        maps: (slope, shift) per category; the slope is above 0, so that order is kept.
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
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        for category, (slope, shift) in self.maps.items():
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

    def moved(self, category: str, p: float) -> float:
        """Return the calibrated score for a score of this category."""
        return _moved(p, *self.maps[category]) if category in self.maps else p

    def _view(self, view: ViewScores) -> ViewScores:
        levels = {
            c: {s: _moved(p, *self.maps[c]) for s, p in ls.items()} if c in self.maps else ls
            for c, ls in view.levels.items()
        }
        return replace(view, levels=levels)

    def save(self, path: str | Path) -> None:
        """Write the calibration as JSON."""
        content = {
            "model": self.model,
            "maps": {c: list(m) for c, m in self.maps.items()},
            "thresholds": {name: vars(threshold) for name, threshold in self.thresholds.items()},
            "source": self.source,
        }
        Path(path).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a file that `save` wrote."""
        name = Path(path).name
        try:
            content = read_json(Path(path))
        except ConfigError as error:
            raise ConfigError(f"{name} is not a calibration file ({error}): write one with Calibration.save") from error
        try:
            maps = {c: (float(slope), float(shift)) for c, (slope, shift) in content.pop("maps").items()}
            thresholds = {
                n: Threshold(**threshold) for n, threshold in content.pop("thresholds", content.pop("cuts", {})).items()
            }
            return cls(maps=maps, thresholds=thresholds, **content)
        except ConfigError:
            raise
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ConfigError(f"{name} is not a calibration file ({error}): write one with Calibration.save") from error


def _moved(p: float, slope: float, shift: float) -> float:
    if not 0.0 <= p <= 1.0:
        return p
    inside = min(max(p, EDGE), 1 - EDGE)
    logit = slope * math.log(inside / (1 - inside)) + shift
    # The exponent is never above 0: otherwise a steep map would overflow.
    small = math.exp(-abs(logit))
    return 1 / (1 + small) if logit >= 0 else small / (1 + small)
