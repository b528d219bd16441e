"""Changes of a saved folder that attack whoever loads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Mutate = Callable[[Path], object]


def edited(name: str, change: Callable[[dict[str, Any]], object]) -> Mutate:
    """A change of a JSON file, object to object."""

    def mutate(folder: Path) -> None:
        payload = json.loads((folder / name).read_text())
        change(payload)
        (folder / name).write_text(json.dumps(payload))

    return mutate


def threshold(**changes: object) -> Mutate:
    return edited("nsfw_guard.json", lambda payload: payload["thresholds"]["default"].update(changes))


def guard(**changes: object) -> Mutate:
    return edited("guard.json", lambda payload: payload.update(changes))


def moved(slope: float, shift: float) -> Mutate:
    return edited("calibration.json", lambda payload: payload.update(maps={"sexual": [slope, shift]}))
