"""LAION's head on CLIP: Keras' arithmetic, and a plain word where the head is not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from nsfw_guard.backends import loaders, registry
from nsfw_guard.backends.base import Options
from nsfw_guard.errors import WeightsMissingError, WeightsUnfitError
from nsfw_guard.imaging.frames import Frames
from tests.backends.folders import edit_weights
from tests.backends.make_models import make
from tests.images import smooth

pytest.importorskip("transformers")
SPEC = registry.spec("laion")


@pytest.fixture(scope="module")
def laion(tmp_path_factory):
    folder = tmp_path_factory.mktemp("laion") / "clip"
    return make(SPEC, folder), folder


@pytest.fixture
def copy(laion, tmp_path) -> Path:
    return Path(shutil.copytree(laion[1], tmp_path / "copy"))


def test_the_embedding_has_length_one_as_the_head_takes_it(laion) -> None:
    spec, folder = laion
    (scores,) = loaders.load_files(spec, folder, Options()).score([Frames(smooth(1, 64, 64))], embeddings=True)
    assert scores.embedding.norm() == pytest.approx(1.0, abs=1e-6)


def test_a_feature_that_never_varied_is_divided_by_keras_smallest_number(laion, copy) -> None:
    spec, _ = laion
    edit_weights(
        copy, lambda h: (h["variance"].__setitem__(0, 0.0), h["layers.0.weight"][:, 0].zero_()), "head.safetensors"
    )
    backend = loaders.load_files(spec, copy, Options())
    net = backend._nets[torch.device("cpu")]
    assert net.deviation[0].item() == pytest.approx(1e-7)
    assert backend.score([Frames(smooth(1, 64, 64))])[0].finite


def test_without_the_head_the_error_names_its_source(laion, copy) -> None:
    (copy / "head.safetensors").unlink()
    with pytest.raises(WeightsMissingError, match=r"convert it once to head\.safetensors"):
        loaders.load_files(laion[0], copy, Options())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.pop("mean"), "does not fit CLIP"),
        (lambda h: h.pop("layers.0.weight"), "one number"),
        (lambda h: h.update(mean=torch.zeros(3)), "does not fit CLIP of width 16"),
        (lambda h: h.update({"layers.1.bias": torch.zeros(3)}), "bias is"),
        (lambda h: h.update({"layers.0.weight": torch.zeros(8, 5)}), "do not fit layer 0"),
        (lambda h: h.pop("layers.2.bias"), "do not fit layer 2 of head.safetensors .missing bias"),
        (lambda h: h.pop("layers.3.weight"), "one number"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(laion, copy, change, message) -> None:
    edit_weights(copy, change, "head.safetensors")
    with pytest.raises(WeightsUnfitError, match=message):
        loaders.load_files(laion[0], copy, Options())
