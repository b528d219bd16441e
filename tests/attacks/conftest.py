"""A saved guard to attack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nsfw_guard.backends.registry import load_model
from nsfw_guard.calibration import Calibration
from nsfw_guard.guard import Guard


@pytest.fixture(scope="session")
def saved(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved guard with everything in its folder: record, hash, known answers, policy, calibration."""
    folder = tmp_path_factory.mktemp("attacks") / "saved"
    backend: Any = load_model(tiny)
    backend.spec = replace(backend.spec, known_answers=backend.known_answers())
    Guard(backend).save_pretrained(folder)
    Calibration(model=backend.spec.name, maps={"sexual": (1.5, -0.5)}).save(folder / "calibration.json")
    return folder
