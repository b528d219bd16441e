"""Not one pixel may differ from Pillow, by whichever way the sums are made."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nsfw_guard.errors import ConfigError, ImageError
from nsfw_guard.imaging import resize as room
from nsfw_guard.imaging.resize import effective_method, matrix_is_pillow, resize, weights
from tests.images import smooth

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
SIZES = [  # (height, width) from, to
    ((64, 64), (24, 24)),
    ((24, 24), (64, 64)),
    ((768, 1344), (384, 672)),
    ((61, 200), (61, 40)),
    ((200, 61), (40, 61)),
    ((90, 50), (30, 80)),
    ((50, 90), (80, 30)),
    ((300, 100), (144, 48)),
    ((5, 3), (384, 384)),
    ((1, 1), (7, 9)),
    ((500, 500), (1, 1)),
]


def noise(height: int, width: int, *, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """Random bytes, half of them only black and white, which is where clipping shows."""
    levels = np.random.default_rng(seed).integers(0, 256, (1, channels, height, width), dtype=np.uint8)
    levels[..., : width // 2] = (levels[..., : width // 2] > 127) * 255
    return torch.from_numpy(levels)


def by_pillow(pixels: torch.Tensor, size: tuple[int, int], interpolation: str) -> torch.Tensor:
    image = Image.fromarray(pixels[0].permute(1, 2, 0).contiguous().numpy())
    resized = np.array(image.resize((size[1], size[0]), FILTERS[interpolation]))
    return torch.from_numpy(resized).permute(2, 0, 1)[None]


@pytest.mark.parametrize(("source", "size"), SIZES)
@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("method", ["auto", "pillow", "matrix", "float64"])
def test_every_method_gives_pillows_pixels(source, size, interpolation, method) -> None:
    pixels = noise(*source)

    resized = resize(pixels, size, interpolation=interpolation, method=method)

    assert torch.equal(resized, by_pillow(pixels, size, interpolation))


@settings(max_examples=60, deadline=None)
@given(
    source=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    interpolation=st.sampled_from(sorted(FILTERS)),
    seed=st.integers(0, 99),
)
def test_any_size_gives_pillows_pixels(source, size, interpolation, seed) -> None:
    pixels = noise(*source, seed=seed)

    resized = resize(pixels, size, interpolation=interpolation, method="float64")
    expected = by_pillow(pixels, size, interpolation)

    assert torch.equal(resized, expected)
    assert torch.equal(resize(pixels, size, interpolation=interpolation), expected)


def test_eight_bit_pieces_are_exact_where_eleven_are_too_wide(monkeypatch) -> None:
    # As if a float32 sum could hold less: the same sizes now need the three small pieces.
    weights.cache_clear()
    room._on_device.cache_clear()
    monkeypatch.setattr(room, "EXACT", 1 << 19)
    try:
        assert weights(64, 24, "bicubic").bits == 8
        pixels = noise(64, 64)
        assert torch.equal(resize(pixels, (24, 24), method="matrix"), by_pillow(pixels, (24, 24), "bicubic"))
    finally:
        weights.cache_clear()
        room._on_device.cache_clear()


@pytest.mark.parametrize(("source", "target", "bits"), [(1024, 384, 11), (8192, 384, 11), (40_000, 384, 8)])
def test_the_sums_stay_exact_in_float32(source, target, bits) -> None:
    matrix = weights(source, target, "bicubic")

    assert matrix.bits == bits
    rebuilt = np.zeros_like(matrix.whole, dtype=np.int64)
    for piece in matrix.pieces:
        rebuilt = (rebuilt << matrix.bits) + piece.astype(np.int64)
        assert 255 * np.abs(piece).sum(axis=1).max() < 1 << 24
    assert np.array_equal(rebuilt, matrix.whole)
    weights.cache_clear()


def test_past_the_exact_range_the_matrix_is_refused_and_pillow_takes_over() -> None:
    assert weights(3000, 1, "bicubic").pieces == ()
    with pytest.raises(ConfigError, match="use method='pillow'"):
        resize(noise(30, 3000), (30, 1), method="matrix")
    assert effective_method(torch.device("cuda"), (30, 3000), (30, 1)) == "pillow"
    assert effective_method(torch.device("cuda"), (1024, 1024), (384, 384)) == "matrix"
    assert effective_method(torch.device("cpu"), (1024, 1024), (384, 384)) == "pillow"


def test_the_matrix_is_only_trusted_where_it_agrees_with_the_installed_pillow(monkeypatch) -> None:
    assert matrix_is_pillow()
    monkeypatch.setattr(room, "height_first", lambda source, size: source[0] % 2 == 0)
    matrix_is_pillow.cache_clear()
    monkeypatch.setattr(room, "fixed_point", lambda a, b, kind: np.ones((b, a), dtype=np.int32))
    weights.cache_clear()
    room._on_device.cache_clear()
    try:
        assert not matrix_is_pillow()
        assert effective_method(torch.device("cuda"), (64, 64), (24, 24)) == "pillow"
    finally:
        for cache in (matrix_is_pillow, weights, room._on_device):
            cache.cache_clear()


@pytest.mark.parametrize("kind", ["smooth", "noise"])
@pytest.mark.parametrize(
    ("source", "size", "interpolation"),
    [
        ((1024, 1024), (384, 384), "bicubic"),
        ((768, 1344), (384, 672), "bicubic"),
        ((1536, 640), (921, 384), "bicubic"),
        ((700, 500), (224, 224), "bicubic"),
        ((1024, 1024), (224, 224), "bilinear"),
        ((40, 30), (90, 80), "bilinear"),
    ],
)
def test_fast_is_at_most_two_levels_off_on_few_values(source, size, interpolation, kind) -> None:
    pixels = (smooth(1, *source) * 255).round().to(torch.uint8) if kind == "smooth" else noise(*source)

    resized = resize(pixels, size, interpolation=interpolation, method="fast").int()

    off = (resized - by_pillow(pixels, size, interpolation).int()).abs()
    assert int(off.max()) <= 2
    # Enlarging, and pure black and white beside each other, are its worst cases.
    assert float((off > 0).float().mean()) < (0.05 if kind == "noise" or size > source else 0.01)


@pytest.mark.parametrize(("source", "size"), [((300, 200), (96, 64)), ((40, 30), (90, 80))])
def test_the_fast_product_of_an_accelerator_is_at_most_one_level_off(source, size) -> None:
    pixels = noise(*source)

    wide = room._apply(pixels, size[1], "bicubic", "fast")
    resized = room._apply(wide.transpose(-1, -2), size[0], "bicubic", "fast").transpose(-1, -2)

    off = (resized.int() - by_pillow(pixels, size, "bicubic").int()).abs()
    assert int(off.max()) <= 1
    assert float((off > 0).float().mean()) < 0.005


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_numbers_of_channels_are_resized_plane_by_plane(channels) -> None:
    pixels = noise(30, 40, channels=channels)

    resized = resize(pixels, (12, 17))

    for plane in range(channels):
        expected = by_pillow(pixels[:, plane : plane + 1].expand(-1, 3, -1, -1), (12, 17), "bicubic")
        assert torch.equal(resized[0, plane], expected[0, 0])


def test_a_batch_is_its_images_one_by_one() -> None:
    pixels = torch.cat([noise(30, 40, seed=i) for i in range(3)])
    for method in ("pillow", "matrix", "fast"):
        resized = resize(pixels, (12, 17), method=method)
        assert resized.shape == (3, 3, 12, 17)
        for i in range(3):
            assert torch.equal(resized[i : i + 1], resize(pixels[i : i + 1], (12, 17), method=method))


def test_the_same_size_comes_back_untouched() -> None:
    pixels = noise(30, 40)
    assert resize(pixels, (30, 40)) is pixels


@pytest.mark.parametrize("pixels", [torch.zeros(1, 3, 4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8)])
def test_only_stacks_of_bytes_are_taken(pixels) -> None:
    with pytest.raises(ImageError, match=r"uint8 images \(N, C, H, W\)"):
        resize(pixels, (2, 2))


def test_packed_views_of_other_memory_are_not_mistaken_for_rgbx() -> None:
    # Same strides as a packed image, but the fourth byte of the last pixel lies outside the storage.
    storage = torch.arange(4 * 6 * 5 - 1, dtype=torch.int64).to(torch.uint8)
    view = storage.as_strided((1, 3, 6, 5), (4 * 30, 1, 20, 4))
    assert room._whole_pixels(view) is view
    assert torch.equal(resize(view, (3, 4)), by_pillow(view, (3, 4), "bicubic"))


@pytest.mark.gpu
@pytest.mark.parametrize(("source", "size"), SIZES[:-1])
@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("tf32", [False, True])
def test_a_gpu_gives_pillows_pixels(source, size, interpolation, tf32) -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        resized = resize(noise(*source).cuda(), size, interpolation=interpolation)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    assert torch.equal(resized.cpu(), by_pillow(noise(*source), size, interpolation))
