"""A backend whose scores are calibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nsfw_guard.backends.base import Backend
from nsfw_guard.backends.spec import ScoreSpec
from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError, suggest
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.scores import Scores


class Calibrated:
    """A backend whose scores go through a calibration, with the calibration's thresholds where it has any.

    Example:
        ```python
        calibration = Calibration(model="demo-shapes", maps={"red-disc": (1.2, -0.3)})
        guard = Guard(Calibrated(load_model("demo-shapes"), calibration))
        ```
    """

    def __init__(self, backend: Backend, calibration: Calibration) -> None:
        if calibration.model != backend.spec.name:
            raise ConfigError(
                f"this calibration was fitted on {calibration.model!r}, not on {backend.spec.name!r}: fit one for it"
            )
        if calibration.revision and calibration.revision != backend.spec.version:
            raise ConfigError(
                f"this calibration was fitted on {backend.spec.name!r} at {calibration.revision!r}, not at "
                f"{backend.spec.version!r}: fit one for it"
            )
        for category in calibration.maps:
            if category not in backend.spec.levels:
                raise ConfigError(
                    f"this calibration maps {category!r}, which the model does not score: "
                    f"{suggest(category, backend.spec.levels)}"
                )
        left = sorted(set(backend.spec.levels) - set(calibration.maps))
        if calibration.thresholds and left:
            raise ConfigError(
                f"this calibration has thresholds but no map for {', '.join(left)}: fit that category too"
            )
        self.backend = backend
        self.calibration = calibration

    @property
    def spec(self) -> ScoreSpec:
        """The model's record, with the calibrated thresholds."""
        return replace(self.backend.spec, thresholds=dict(self.calibration.thresholds) or self.backend.spec.thresholds)

    def score(self, stacks: Sequence[Frames], *, embeddings: bool = False, digests: bool = False) -> list[Scores]:
        """Return the calibrated scores of each frame."""
        scores = self.backend.score(stacks, embeddings=embeddings, digests=digests)
        return [self.calibration.apply(s) for s in scores]

    def state(self) -> Mapping[str, str]:
        """Return the model's state, and that it is calibrated."""
        return {**self.backend.state(), "calibration": self.calibration.source or "applied"}
