"""What every model in the registry must do; a new record gets these for free."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nsfw_guard import load, names
from nsfw_guard.backends import registry
from nsfw_guard.backends.catalog import DEMO
from nsfw_guard.errors import WeightsMissingError, WeightsUnfitError
from nsfw_guard.guard import Guard
from nsfw_guard.images import Frames
from nsfw_guard.verdict import Outcome
from tests.conftest import smooth

HERE = [name for name in names() if not (registry.spec(name).repo or registry.spec(name).extra)]
ELSEWHERE = [name for name in names() if registry.spec(name).repo]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_without_weights_and_network_the_cure_is_named(name):
    with pytest.raises(WeightsMissingError, match=f"nsfw-guard fetch {name}"):
        load(name)


@pytest.mark.parametrize("name", HERE)
def test_it_answers_as_recorded(name):
    assert load(name).state()["self_test"] == "passed"
    assert load(name, dtype="bfloat16").state()["self_test"] == "passed"


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("count", [1, 3, 17])
def test_a_batch_is_its_pictures_one_by_one(name, count):
    backend, pixels = load(name), smooth(count, 90, 200)
    together = backend.score([Frames(pixels)], embeddings=True)
    for frame, scores in zip(pixels, together, strict=True):
        (alone,) = backend.score([Frames(frame[None])], embeddings=True)
        assert list(scores.numbers()) == pytest.approx(list(alone.numbers()), abs=1e-5)
        assert torch.allclose(scores.embedding, alone.embedding, atol=1e-4)


@pytest.mark.parametrize("name", HERE)
def test_tensor_array_picture_and_file_get_the_same_verdict(name, tmp_path):
    array = (smooth(1, 90, 130)[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    Image.fromarray(array).save(tmp_path / "one.png")
    unit = torch.from_numpy(array).permute(2, 0, 1).float() / 255
    verdicts = Guard.from_pretrained(name).check([unit, array, Image.fromarray(array), tmp_path / "one.png"])
    assert len({tuple(v.scores.numbers()) for v in verdicts}) == 1


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_one_bad_pixel_is_an_error(name, bad):
    pixels = smooth(2, 64, 64)
    pixels[1, 0, 5, 5] = bad
    outcomes = [v.outcome for v in Guard.from_pretrained(name).check(pixels)]
    assert outcomes[1] is Outcome.ERROR
    assert outcomes[0] is not Outcome.ERROR


@pytest.mark.parametrize("name", HERE)
def test_severities_only_rise(name):
    for scores in load(name).score([Frames(smooth(5, 64, 64))]):
        for view in scores.views:
            for levels in view.levels.values():
                ordered = [levels[level] for level in sorted(levels)]
                assert ordered == sorted(ordered, reverse=True)


@pytest.mark.parametrize("name", HERE)
def test_weights_that_were_touched_are_refused(name, tmp_path):
    folder = Path(shutil.copytree(DEMO / name, tmp_path / name))
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(WeightsUnfitError, match="recorded SHA-256"):
        load(folder)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("policy", ["default", "strict", "lenient"])
def test_every_preset_fits(name, policy):
    assert Guard.from_pretrained(name, policy=policy).policy.rules
