"""A judge of each family, made once a session."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nsfw_guard.backends.build import judge
from nsfw_guard.backends.judges.judge import Judge
from tests.backends import tiny_judges
from tests.backends.tiny_judges import NAMES, QUESTIONS


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each family."""
    home = tmp_path_factory.mktemp("judges")
    return {name: tiny_judges.write(home / name, name) for name in NAMES}


@pytest.fixture(scope="session")
def judges(folders: dict[str, Path]) -> dict[str, Judge]:
    """A judge of each family, which no test changes."""
    return {name: judge(folder, questions=QUESTIONS) for name, folder in folders.items()}


@pytest.fixture
def copy_of(folders: dict[str, Path], tmp_path: Path):
    """A folder to spoil."""

    def copied(name: str) -> Path:
        folder = folders[name] if name in folders else tiny_judges.write(tmp_path / "made", name)
        return Path(shutil.copytree(folder, tmp_path / name))

    return copied
