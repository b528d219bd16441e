"""Files for scans: images that the fake model calls red to a chosen degree."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from PIL import Image

from nsfw_guard.backends.registry import register_model, unregister_model
from nsfw_guard.backends.spec import ScoreSpec
from nsfw_guard.testing import FakeBackend, red_model

COLUMNS = {"allow": 0, "review": 3, "block": 8}  # of 8, that are red
RED = "scan-red"


class Wide(FakeBackend):
    """The fake model, which says how many numbers its embeddings have."""

    width = 3

    def __init__(self, spec: ScoreSpec) -> None:
        super().__init__()
        self.spec = spec


@pytest.fixture(scope="module", autouse=True)
def red() -> Iterator[None]:
    """The fake model, by a name."""
    register_model(red_model(RED), lambda spec, options: Wide(spec))
    yield
    unregister_model(RED)


def encoded(outcome: str, blue: int = 200) -> bytes:
    """The bytes of a PNG with this outcome; another blue makes another file."""
    image = Image.new("RGB", (16, 16), (0, 0, blue))
    image.paste((255, 0, 0), (0, 0, 2 * COLUMNS[outcome], 16))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def paint(path: Path, outcome: str = "allow", blue: int = 200) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"no image" if outcome == "error" else encoded(outcome, blue))
    return path


def shard(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
