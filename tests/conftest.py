"""What every test shares: no network, no warnings, a tiny real model."""

from __future__ import annotations

import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything reads it: no test may reach for a network
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()  # and none may find, or leave, anything in the user's own cache

from pathlib import Path

import pytest
import torch

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.decode import decode
from nsfw_guard.imaging.files.formats import pillow_is_old
from nsfw_guard.testing import tiny_model
from tests.images import smooth

if pillow_is_old():  # its one warning a process is spent here, not in whichever test comes first
    with pytest.warns(RuntimeWarning, match="13.0.0"), pytest.raises(DecodeError):
        decode(b"no image")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny ViT with random weights."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def image() -> torch.Tensor:
    """A batch of two smooth images. Shape: (2, 3, 40, 56) in [0, 1]."""
    return smooth(2, 40, 56)
