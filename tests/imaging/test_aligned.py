"""TensorFlow's resize with aligned corners, beside its formula written out in double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nsfw_guard.errors import ImageError, UnknownNameError
from nsfw_guard.imaging.aligned import aligned
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.imaging.preprocess import Preprocess
from nsfw_guard.imaging.views import InputSpec
from tests.images import smooth

SPEC = InputSpec(size=24, interpolation="bilinear-aligned", crop_mode="squash", mean=(0.0,) * 3, std=(1.0,) * 3)
SIZES = [((50, 37), (24, 24)), ((7, 9), (24, 24)), ((1, 1), (24, 24)), ((1, 40), (24, 24)), ((640, 3), (24, 24)),
         ((24, 30), (24, 24)), ((9, 9), (1, 1)), ((9, 9), (1, 5)), ((2, 2), (3, 3)),
         ((1500, 1200), (299, 299))]  # fmt: skip


def noise(height: int, width: int, count: int = 1) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def by_hand(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The formula, pixel by pixel, on values in [0, 1]. Shape: (C, H, W)."""
    ratios = [(image.shape[i + 1] - 1) / (size[i] - 1) if size[i] > 1 else image.shape[i + 1] / size[i] for i in (0, 1)]
    out = np.empty((len(image), *size))
    for y in range(size[0]):
        above, below = math.floor(y * ratios[0]), min(math.ceil(y * ratios[0]), image.shape[1] - 1)
        for x in range(size[1]):
            left, right = math.floor(x * ratios[1]), min(math.ceil(x * ratios[1]), image.shape[2] - 1)
            across, down = x * ratios[1] - left, y * ratios[0] - above
            top = image[:, above, left] + (image[:, above, right] - image[:, above, left]) * across
            bottom = image[:, below, left] + (image[:, below, right] - image[:, below, left]) * across
            out[:, y, x] = top + (bottom - top) * down
    return out


@pytest.mark.parametrize(("source", "size"), SIZES)
def test_it_is_the_formula_within_a_millionth(source, size) -> None:
    pixels = noise(*source)
    resized = aligned(pixels, size)
    assert resized.dtype == torch.float32
    assert 0 <= float(resized.min()) <= float(resized.max()) <= 255
    np.testing.assert_allclose(resized[0].numpy() / 255, by_hand(pixels[0].numpy() / 255, size), rtol=0, atol=1e-6)


def test_corners_stay_and_a_plain_image_stays_plain() -> None:
    pixels = noise(31, 44)
    resized = aligned(pixels, (24, 24))
    assert torch.equal(
        resized[..., [0, 0, -1, -1], [0, -1, 0, -1]], pixels[..., [0, 0, -1, -1], [0, -1, 0, -1]].float()
    )
    plain = torch.full((1, 3, 31, 44), 77, dtype=torch.uint8)
    assert torch.equal(aligned(plain, (24, 24)), torch.full((1, 3, 24, 24), 77.0))


def test_an_image_of_the_size_is_not_touched_and_others_are_refused() -> None:
    pixels = noise(24, 24)
    assert torch.equal(aligned(pixels, (24, 24)), pixels.float())
    for wrong in (pixels.float(), pixels[0]):
        with pytest.raises(ImageError, match="aligned expects uint8"):
            aligned(wrong, (24, 24))


def test_a_batch_is_its_images_in_any_layout_of_memory() -> None:
    pixels = noise(33, 50, count=3)
    packed = pixels.contiguous(memory_format=torch.channels_last)
    alone = torch.cat([aligned(one[None], (24, 24)) for one in pixels])
    assert torch.equal(aligned(pixels, (24, 24)), alone)
    assert torch.equal(aligned(packed, (24, 24)), alone)


@pytest.mark.parametrize("views", ["cover", "center", "squash"])
@pytest.mark.parametrize("method", ["exact", "fast"])
def test_the_model_is_shown_the_whole_image_without_rounding(views, method) -> None:
    frames = Frames(smooth(2, 40, 90))
    preprocess = Preprocess(spec=SPEC, views=views, resize=method)
    prepared = preprocess.prepare(frames)
    levels = (frames.pixels * 255).round().to(torch.uint8)
    assert prepared.pixels.shape == (2, 1, 3, 24, 24)
    assert torch.equal(prepared.pixels[:, 0], aligned(levels, (24, 24)))
    assert not torch.equal(prepared.pixels, prepared.pixels.round())
    before = prepared.pixels.clone()
    assert torch.equal(preprocess.normalise(prepared.pixels), before / 255)
    assert torch.equal(prepared.pixels, before), "normalising must not change what was prepared"
    assert preprocess.effective(None) == "exact (aligned)"


def test_tiles_are_resized_in_the_same_way() -> None:
    pixels = noise(60, 60)
    prepared = Preprocess(spec=SPEC, views="tiles(2)").prepare(Frames(pixels))
    assert prepared.pixels.shape[1] > 2
    assert torch.equal(prepared.pixels[:, 1], aligned(pixels[..., :40, :40], (24, 24)))


def test_an_unknown_interpolation_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="bilinear-aligned"):
        InputSpec(size=24, interpolation="bilinear-alined")


@pytest.mark.gpu
@pytest.mark.parametrize(("source", "size"), SIZES)
def test_a_gpu_gives_the_same_bits(source, size) -> None:
    pixels = noise(*source)
    assert torch.equal(aligned(pixels.cuda(), size).cpu(), aligned(pixels, size))
