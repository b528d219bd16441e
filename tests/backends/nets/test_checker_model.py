"""The stock checker, vectorised: its flags to the last one, and the scores that it throws away."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nsfw_guard import load_model
from nsfw_guard.backends import loaders, registry
from nsfw_guard.backends.base import Options
from nsfw_guard.backends.nets.checker_model import CheckerNet
from nsfw_guard.errors import WeightsUnfitError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.verdict import Outcome
from tests.backends.folders import edit_weights
from tests.backends.make_models import make, stock
from tests.images import smooth

pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
SPEC = registry.spec("stable-diffusion")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("checker") / "safety_checker"
    make(SPEC, target)
    return target


@pytest.fixture(scope="module")
def net(folder) -> CheckerNet:
    return load_model(folder, views="center")._nets[torch.device("cpu")]


def told_by_stock(model, embeddings: torch.Tensor) -> tuple[list[bool], torch.Tensor]:
    """The stock checker's flags and its own margins, concepts first, for given embeddings."""
    from diffusers.pipelines.stable_diffusion.safety_checker import cosine_distance

    model.vision_model.forward = lambda values: (None, values)
    model.visual_projection = torch.nn.Identity()
    flags = model(embeddings, [np.ones((1, 1, 3)) for _ in embeddings])[1]
    care = cosine_distance(embeddings, model.special_care_embeds).float().detach().numpy()
    concepts = cosine_distance(embeddings, model.concept_embeds).float().detach().numpy()
    rows = []
    for i in range(len(embeddings)):
        adjustment, special = 0.0, []
        for j in range(care.shape[1]):
            special.append(round(care[i][j] - model.special_care_embeds_weights[j].item() + adjustment, 3))
            adjustment = 0.01 if special[-1] > 0 else adjustment
        rows.append([round(concepts[i][j] - model.concept_embeds_weights[j].item() + adjustment, 3) for j in range(17)])
        rows[-1] += special
    return flags, torch.tensor(np.array(rows, dtype=np.float64))


@torch.inference_mode()
def test_flags_and_margins_are_the_stock_checkers_on_random_embeddings(folder, net) -> None:
    model, _ = stock(folder)
    embeddings = torch.randn(400, 16)
    flags, margins = told_by_stock(model, embeddings)
    numbers = net._margins(embeddings)
    assert (net.to_probabilities(numbers)[:, 0] >= 0.5).tolist() == flags
    assert 50 < sum(flags) < 350
    assert torch.allclose(net.extra_scores(numbers).double(), margins, atol=1e-7)


@torch.inference_mode()
@pytest.mark.parametrize("offset", [-0.0006, -0.0005, -0.0004, 0.0, 0.0004, 0.0005, 0.0006, 0.001, -0.0095, -0.0105])
def test_flags_are_equal_where_an_image_sits_at_a_threshold(folder, offset) -> None:
    """One threshold is moved to within a rounding of each image's own cosine, with and without a special-care hit."""
    model, _ = stock(folder)
    embeddings = torch.randn(40, 16)
    tensors = {name: getattr(model, name).clone() for name in ("concept_embeds", "special_care_embeds",
               "concept_embeds_weights", "special_care_embeds_weights")}  # fmt: skip
    cosines = torch.nn.functional.normalize(embeddings) @ torch.nn.functional.normalize(tensors["concept_embeds"]).t()
    vision = load_model(folder, views="center")._nets[torch.device("cpu")].vision
    seen = []
    for i, embedding in enumerate(embeddings):
        tensors["concept_embeds_weights"] = torch.full((17,), 2.0)
        tensors["concept_embeds_weights"][i % 17] = cosines[i, i % 17] - offset
        tensors["special_care_embeds_weights"] = torch.tensor([-2.0 if i % 2 else 2.0, 2.0, 2.0])
        for name, value in tensors.items():
            getattr(model, name).data = value
        flags, _ = told_by_stock(model, embedding[None])
        net = CheckerNet(vision, tensors)
        assert (net.to_probabilities(net._margins(embedding[None]))[0, 0] >= 0.5).item() == flags[0], i
        seen.append(flags[0])
    assert offset != 0.001 or all(seen)
    assert offset != -0.0105 or not any(seen[::2])


def test_images_get_the_stock_flags_and_stay_as_they_were(folder) -> None:
    model, processor = stock(folder)
    pixels = (smooth(24, 100, 140) * 255).round().to(torch.uint8)
    pixels[12:] = (torch.rand(12, 3, 100, 140) * 255).to(torch.uint8)
    before = pixels.clone()
    verdicts = Guard(load_model(folder, views="center"), policy={"rules": {"sexual": {"block": 0.5}}}).check(pixels)
    arrays = [p.permute(1, 2, 0).numpy() for p in pixels]
    values = processor(arrays, return_tensors="pt", input_data_format="channels_last").pixel_values
    flags = model(values, [np.ones((1, 1, 3)) for _ in arrays])[1]
    assert [v.outcome is Outcome.BLOCK for v in verdicts] == flags
    assert torch.equal(pixels, before)


def test_every_concept_score_stands_in_the_verdict(folder) -> None:
    (verdict,) = Guard(load_model(folder)).check(smooth(1, 64, 64))
    details = verdict.to_dict()["scores"][0]["details"]
    assert sorted(details) == sorted([f"concept {i}" for i in range(17)] + [f"special care {i}" for i in range(3)])
    assert verdict.score == pytest.approx(
        0.5 + (max(v for k, v in details.items() if k[0] == "c") - 0.0005) / 4, abs=1e-6
    )


def test_special_care_concepts_alone_flag_nothing(folder, net) -> None:
    tensors = {name: net.own[name].data.clone() for name in net.own}
    tensors["concept_embeds_weights"].fill_(2.0)
    tensors["special_care_embeds_weights"].fill_(-2.0)
    alone = CheckerNet(net.vision, tensors)
    numbers = alone._margins(torch.randn(3, 16))
    assert bool((alone.extra_scores(numbers)[:, 17:] > 0).all())
    assert bool((alone.to_probabilities(numbers) < 0.5).all())


def test_a_nan_embedding_is_no_probability(net) -> None:
    assert bool(net.to_probabilities(net._margins(torch.full((1, 16), float("nan")))).isnan().all())


def test_weights_without_concepts_are_no_checker(folder, tmp_path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    edit_weights(copy, lambda tensors: tensors.pop("concept_embeds"))
    with pytest.raises(WeightsUnfitError, match="lack concept_embeds"):
        load_model(copy)


def test_files_of_newer_releases_load_too(folder, tmp_path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    tensors = load_file(copy / "model.safetensors")
    new = {k.replace("vision_model.vision_model.", "vision_model."): v for k, v in tensors.items()}
    new.pop("vision_model.embeddings.position_ids")
    save_file(new, copy / "model.safetensors", metadata={"format": "pt"})
    image = [Frames(smooth(1, 64, 64))]
    assert list(load_model(copy).score(image)[0].numbers()) == list(load_model(folder).score(image)[0].numbers())


def test_a_saved_guard_of_it_is_refused_in_plain_words(folder, tmp_path) -> None:
    from nsfw_guard.errors import ConfigError

    backend = loaders.load_files(make(SPEC, tmp_path / "made"), tmp_path / "made", Options())
    with pytest.raises(ConfigError, match="cannot be saved: use the folder"):
        Guard(backend).save_pretrained(tmp_path / "saved")
