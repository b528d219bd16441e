"""The model is shown what its authors' own images were, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from nsfw_guard.errors import UnknownNameError
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.imaging.preprocess import Preprocess
from nsfw_guard.imaging.views import InputSpec

MEAN, STD = (0.481, 0.457, 0.408), (0.268, 0.261, 0.275)
SPECS = [
    InputSpec(size=48, mean=MEAN, std=STD),
    InputSpec(size=40, crop_pct=0.875, interpolation="bilinear", mean=MEAN, std=STD),
    InputSpec(size=48, crop_mode="squash", mean=MEAN, std=STD),
    InputSpec(size=40, crop_pct=0.9, crop_mode="squash", mean=MEAN, std=STD),
    InputSpec(size=48, crop_mode="border", mean=MEAN, std=STD),
    InputSpec(size=40, crop_pct=0.9, crop_mode="border", mean=MEAN, std=STD),
]
SIZES = [(48, 48), (64, 112), (120, 37), (9, 11), (1, 1), (130, 129)]


def timms(spec: InputSpec):
    return create_transform(
        (3, spec.size, spec.size), is_training=False, interpolation=spec.interpolation, crop_pct=spec.crop_pct,
        crop_mode=spec.crop_mode, mean=spec.mean, std=spec.std,
    )  # fmt: skip


def as_a_pipeline_saves(frames: torch.Tensor, value_range: str) -> np.ndarray:
    """What diffusers does between a decoded tensor and an image."""
    if value_range == "signed":
        frames = (frames * 0.5 + 0.5).clamp(0, 1)
    return (frames.permute(0, 2, 3, 1).float().numpy() * 255).round().astype("uint8")


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.crop_mode}-{s.crop_pct}-{s.interpolation}")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_decoded_tensor_becomes_timms_input(spec, size, dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    signed = (torch.rand(1, 3, *size, generator=generator) * 2.4 - 1.2).to(dtype)
    saved = as_a_pipeline_saves(signed, "signed")[0]
    preprocess = Preprocess(spec=spec, views="center")

    prepared = preprocess.prepare(Frames(signed, "signed"))

    assert torch.equal(preprocess.normalise(prepared.pixels)[0, 0], timms(spec)(Image.fromarray(saved)))


@pytest.mark.parametrize("views", ["center", "cover", "squash", "tiles(3)"])
@pytest.mark.parametrize("size", SIZES)
def test_tensor_array_and_image_give_the_same_input(views, size) -> None:
    unit = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(2))
    saved = torch.from_numpy(as_a_pipeline_saves(unit, "unit")).permute(0, 3, 1, 2)
    preprocess = Preprocess(spec=SPECS[0], views=views)

    one, other = preprocess.prepare(Frames(unit)), preprocess.prepare(Frames(saved))

    assert torch.equal(one.pixels, other.pixels)
    assert one.views == other.views


@pytest.mark.parametrize("height_width", [(20, 400), (400, 20), (64, 112), (33, 34)])
def test_every_pixel_reaches_the_model(height_width) -> None:
    height, width = height_width
    preprocess = Preprocess(spec=InputSpec(size=16))
    base = torch.full((1, 3, height, width), 128, dtype=torch.uint8)
    shown = preprocess.prepare(Frames(base)).pixels

    step = max(1, min(height, width) // 8)
    for top in range(0, height, max(step, height // 10)):
        for left in range(0, width, max(step, width // 10)):
            changed = base.clone()
            changed[..., top : top + step, left : left + step] = 255
            assert not torch.equal(preprocess.prepare(Frames(changed)).pixels, shown), (top, left)


def test_cover_shows_the_centre_view_first_and_unchanged() -> None:
    frames = Frames(torch.randint(0, 256, (1, 3, 50, 90), dtype=torch.uint8))
    center = Preprocess(spec=SPECS[0], views="center").prepare(frames).pixels

    assert torch.equal(Preprocess(spec=SPECS[0]).prepare(frames).pixels[:, :1], center)


def test_fast_is_nearly_exact_and_is_reported() -> None:
    frames = Frames(torch.rand(1, 3, 200, 200, generator=torch.Generator().manual_seed(3)))
    exact, fast = (Preprocess(spec=SPECS[0], resize=way) for way in ("exact", "fast"))

    off = (exact.prepare(frames).pixels.int() - fast.prepare(frames).pixels.int()).abs()

    assert int(off.max()) <= 2
    assert (exact.effective(torch.device("cpu")), fast.effective(torch.device("cpu"))) == ("exact (pillow)", "fast")
    assert exact.effective(torch.device("cuda")) == "exact (matrix)"
    assert exact.effective(None) == "exact (pillow on the cpu, matrix elsewhere)"


def test_extremes_are_those_of_the_input() -> None:
    values = torch.rand(2, 3, 9, 9)
    values[0, 0, 0, 0], values[1, 2, 8, 8] = -0.5, 1.25

    extremes = Preprocess(spec=SPECS[0]).prepare(Frames(values)).extremes

    assert extremes[0, 0] == -0.5
    assert extremes[1, 1] == 1.25
    assert Preprocess(spec=SPECS[0]).prepare(Frames((values * 9).to(torch.uint8))).extremes is None


@pytest.mark.parametrize("setting", [{"views": "middle"}, {"resize": "quick"}])
def test_unknown_settings_are_refused(setting) -> None:
    with pytest.raises(UnknownNameError):
        Preprocess(spec=SPECS[0], **setting)
