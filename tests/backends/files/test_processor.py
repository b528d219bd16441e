"""preprocessor_config.json as an InputSpec: what it says, what it leaves out, and what we refuse."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from nsfw_guard.backends.files.processor import CLIP, OPENAI_MEAN, VIT, input_of_processor, read_processor
from nsfw_guard.errors import ConfigError, WeightsMissingError, WeightsUnfitError
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.imaging.preprocess import Preprocess
from nsfw_guard.imaging.views import InputSpec
from tests.images import smooth

FALCONSAI = {
    "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5] * 3,
    "image_processor_type": "ViTImageProcessor", "image_std": [0.5] * 3, "resample": 2,
    "rescale_factor": 0.00392156862745098, "size": {"height": 224, "width": 224},
}  # fmt: skip


def test_a_vit_squashes_bilinearly() -> None:
    assert input_of_processor(FALCONSAI) == VIT


def test_omitted_settings_have_the_processors_defaults() -> None:
    assert input_of_processor({"image_processor_type": "ViTImageProcessor"}) == VIT
    assert input_of_processor({"feature_extractor_type": "ViTFeatureExtractor", "size": 224}) == VIT
    assert input_of_processor({"image_processor_type": "CLIPImageProcessor"}) == CLIP
    assert input_of_processor({"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224}) == CLIP


def test_a_shortest_edge_with_a_crop_keeps_its_edge() -> None:
    for edge in (225, 232, 248, 256, 257, 292):
        settings = {
            **FALCONSAI,
            "size": {"shortest_edge": edge},
            "do_center_crop": True,
            "crop_size": {"height": 224, "width": 224},
        }
        spec = input_of_processor(settings)
        assert (spec.size, spec.scale_size, spec.crop_mode) == (224, edge, "center")
        assert math.isclose(spec.crop_pct, 224 / edge, rel_tol=1e-3)


def test_without_normalising_bytes_become_unit_floats() -> None:
    spec = input_of_processor({**FALCONSAI, "do_normalize": False})
    assert (spec.mean, spec.std) == ((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_resize": False}, "must resize and rescale"),
        ({"do_rescale": False}, "must resize and rescale"),
        ({"rescale_factor": 1 / 127.5}, "must be 1/255"),
        ({"resample": 0}, "must be 2 "),
        ({"resample": None}, "must be 2 "),
        ({"size": {"height": 224, "width": 448}}, "does not give one square"),
        ({"size": {"shortest_edge": 224}}, "needs a centre crop"),
        ({"size": {"longest_edge": 224}}, "or a shortest_edge, got"),
        ({"size": None}, "or a shortest_edge, got"),
        ({"image_mean": [0.5]}, "no image_mean"),
        ({"image_std": [0.5, 0.0, 0.5]}, "std must be three numbers from 0.001"),
    ],
)
def test_processors_that_cannot_be_reproduced_are_refused(change, message) -> None:
    with pytest.raises(ConfigError, match=message):
        input_of_processor({**FALCONSAI, **change})


def test_an_unknown_kind_must_say_everything() -> None:
    assert input_of_processor({**FALCONSAI, "image_processor_type": "NewImageProcessor"}) == VIT
    with pytest.raises(ConfigError, match="must be 2 "):
        input_of_processor({**{k: v for k, v in FALCONSAI.items() if k != "resample"}, "image_processor_type": "New"})


def test_a_missing_or_malformed_file_names_the_cure(tmp_path) -> None:
    with pytest.raises(WeightsMissingError, match=r"has no preprocessor_config\.json, .*: fetch it too"):
        read_processor(tmp_path)
    for text in ("[]", "{", '{"size": {"height": "x", "width": "x"}, "image_processor_type": "ViTImageProcessor"}'):
        (tmp_path / "preprocessor_config.json").write_text(text)
        with pytest.raises(WeightsUnfitError, match=r"unreadable|is not usable JSON"):
            read_processor(tmp_path)


@pytest.mark.parametrize("kind", ["ViTImageProcessor", "CLIPImageProcessor"])
def test_images_come_out_as_the_processors_own_bits(kind, tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    kind_pil = getattr(transformers, f"{kind}Pil", None)
    if kind_pil is None:
        pytest.skip("this transformers has no PIL processors of that name")
    processor, spec = kind_pil(), VIT if kind.startswith("ViT") else CLIP
    for seed, (height, width) in enumerate([(224, 224), (300, 301), (517, 333), (90, 453), (1024, 768)]):
        pixels = (smooth(1, height, width, seed=seed) * 255).round().to(torch.uint8)
        expected = processor(pixels[0].permute(1, 2, 0).numpy(), return_tensors="pt", input_data_format="channels_last")
        preprocess = Preprocess(spec=spec, views="center")
        got = preprocess.normalise(preprocess.prepare(Frames(pixels)).pixels[:, 0])
        assert torch.equal(got, expected["pixel_values"]), (height, width)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["ViTImageProcessor", "CLIPImageProcessor"])
def test_the_torchvision_processors_are_a_level_off_at_most(kind) -> None:
    """What transformers runs by default since version 5 is not what these models were trained with; we follow PIL."""
    transformers = pytest.importorskip("transformers")
    if not hasattr(transformers, f"{kind}Pil"):
        pytest.skip("this transformers has one processor only")
    spec = VIT if kind.startswith("ViT") else CLIP
    pixels = (smooth(1, 517, 333) * 255).round().to(torch.uint8)
    values = getattr(transformers, kind)()(pixels[0], return_tensors="pt")["pixel_values"]
    ours = Preprocess(spec=spec, views="center").prepare(Frames(pixels)).pixels[:, 0]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (spec.mean, spec.std))
    levels = (values * std + mean) * 255
    assert float((levels - ours).abs().max()) < 1.5


def test_every_byte_becomes_the_same_float_in_both_libraries() -> None:
    spec = InputSpec(size=1, mean=OPENAI_MEAN, std=(0.26862954, 0.26130258, 0.27577711))
    levels = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1).expand(256, 3, 1, 1)
    scaled = (np.arange(256).astype(np.float64) * (1 / 255)).astype(np.float32)[:, None]
    theirs = (scaled - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
    assert np.array_equal(Preprocess(spec=spec).normalise(levels)[..., 0, 0].numpy(), theirs)


def test_odd_crops_begin_where_each_library_begins_them() -> None:
    pixels = (smooth(1, 224, 227) * 255).round().to(torch.uint8)
    before = Preprocess(spec=CLIP, views="center").prepare(Frames(pixels)).pixels
    even = (
        Preprocess(spec=InputSpec(size=224, mean=CLIP.mean, std=CLIP.std), views="center")
        .prepare(Frames(pixels))
        .pixels
    )
    assert torch.equal(before[0, 0], pixels[0, :, :, 1:225])
    assert torch.equal(even[0, 0], pixels[0, :, :, 2:226])
    assert json.dumps(CLIP.crop_rounding) == '"floor"'
