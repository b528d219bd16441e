"""The placeholder really says why: other words are other pixels, at every size that has room for letters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont
from torch import Tensor

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging import placeholder
from nsfw_guard.imaging.placeholder import GROUND, INK, SIGN, draw, fit, font_of
from nsfw_guard.verdict import Outcome, Verdict

BLOCK = Verdict(Outcome.BLOCK, "sexual 0.900 >= 0.5 (full view)")
SIZES = [(1, 1), (1, 50), (50, 1), (2, 3), (16, 16), (64, 64), (100, 2000), (2000, 100), (333, 512)]


def reason(text: str, outcome: Outcome = Outcome.BLOCK) -> Tensor:
    return draw(256, 256, Verdict(outcome, text))


def inked(image: Tensor, colour: tuple[int, int, int]) -> Tensor:
    """Where an image has this colour. Shape: (H, W), bool."""
    return (image.mul(255).round() == torch.tensor(colour).view(3, 1, 1)).all(0)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_size_works_and_stays_in_range(height: int, width: int) -> None:
    image = draw(height, width, BLOCK)
    assert image.shape == (3, height, width)
    assert image.dtype == torch.float32
    assert 0.0 <= float(image.min()) <= float(image.max()) <= 1.0
    assert bool(image.isfinite().all())


@pytest.mark.parametrize(("height", "width"), [size for size in SIZES if min(size) >= 16])
def test_there_is_a_sign_on_a_plain_ground(height: int, width: int) -> None:
    image = draw(height, width, BLOCK)
    assert inked(image, SIGN).any()
    assert inked(image, GROUND).float().mean() > 0.5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("red 0.900 >= 0.5", "red 0.800 >= 0.5"),
        ("red", "ref"),
        ("", "a"),
        ("a " * 16 + "b", "a " * 16 + "c"),
        ("word " * 12 + "first", "word " * 12 + "other"),
    ],
)
def test_other_reasons_are_other_images(one: str, other: str) -> None:
    assert not torch.equal(reason(one), reason(other))
    assert torch.equal(reason(one), reason(one))


def test_each_outcome_has_its_own_title() -> None:
    images = [reason("the same", outcome) for outcome in Outcome]
    assert len({image.numpy().tobytes() for image in images}) == 4


def test_only_three_lines_of_a_long_reason_are_drawn() -> None:
    assert torch.equal(reason("word " * 500), reason("word " * 600))


def test_the_title_stands_inside_and_in_the_middle() -> None:
    columns = inked(draw(512, 512, BLOCK), INK).any(0).nonzero().flatten()
    assert columns.min() > 0
    assert columns.max() < 511
    assert abs(float(columns.min() + columns.max()) / 2 - 255.5) < 4


@pytest.mark.parametrize("text", ["é ü ß", "日本語", "\x00\x1b[31m", "a\nb\tc", "🙂", "x" * 1000, " ", "\udcff"])
def test_no_text_breaks_it(text: str) -> None:
    assert bool(reason(text).isfinite().all())


def test_letters_that_would_be_too_small_to_read_are_left_out() -> None:
    for side in (16, 60):
        assert torch.equal(draw(side, side, BLOCK), draw(side, side, Verdict(Outcome.BLOCK, "other")))
    assert not torch.equal(draw(128, 128, BLOCK), draw(128, 128, Verdict(Outcome.BLOCK, "other")))
    too_wide, empty = (draw(96, 96, Verdict(Outcome.BLOCK, text)) for text in ("W" * 34, ""))
    assert torch.equal(too_wide, empty)


def old_pillow() -> bool:
    """Whether this Pillow has one size of letters only."""
    return not hasattr(ImageFont, "load_default_imagefont")


def test_a_pillow_with_one_size_of_letters_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    bitmap = font_of(10) if old_pillow() else ImageFont.load_default_imagefont()

    def only_one() -> object:
        return bitmap

    monkeypatch.setattr(placeholder.ImageFont, "load_default", only_one)
    assert font_of(40).getlength("m") == bitmap.getlength("m")
    assert not torch.equal(reason("日本語"), reason("nothing"))
    assert not torch.equal(reason("one"), reason("two"))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 7), (40, 20), (300, 3)])
def test_a_custom_image_is_fitted(height: int, width: int, tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (255, 51, 0)).save(tmp_path / "own.png")
    image = fit(tmp_path / "own.png", height, width)
    assert torch.equal(image, torch.tensor([1.0, 51 / 255, 0.0]).view(3, 1, 1).expand(3, height, width))


def test_a_custom_image_of_the_right_size_is_unchanged(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "own.png")
    fitted = fit(str(tmp_path / "own.png"), 9, 13).mul(255).round().to(torch.uint8).permute(1, 2, 0)
    assert np.array_equal(fitted.numpy(), pixels)


def test_a_custom_image_that_is_not_an_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "own.png").write_bytes(b"no image")
    for name in ("own.png", "none.png"):
        with pytest.raises(DecodeError):
            fit(tmp_path / name, 8, 8)
