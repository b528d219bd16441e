"""The pixel check: right on drawn images, also worn ones, and quick to call what it does not know unknown."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter

from nsfw_guard.demo import pixels, shapes

Wear = Callable[[Image.Image, np.random.Generator], Image.Image]


def as_drawn(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image


def blurred(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.8))))


def noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    levels = np.asarray(image, dtype=float) + rng.normal(0, 6, (image.height, image.width, 3))
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def as_jpeg(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    sheet = io.BytesIO()
    image.save(sheet, "JPEG", quality=int(rng.integers(80, 96)), subsampling=0)
    return Image.open(sheet).convert("RGB")


@pytest.mark.parametrize("wear", [as_drawn, blurred, noisy, as_jpeg])
@pytest.mark.parametrize("number", [1, 2])
def test_at_least_99_in_100_degraded_images_are_read_right(wear: Wear, number: int) -> None:
    rng = np.random.default_rng(11)
    scenes = [shapes.random_scene(rng, shapes=number) for _ in range(200)]
    right = [pixels.matches(wear(shapes.draw(scene, rng=rng), rng), scene) for scene in scenes]
    assert np.mean(right) >= 0.99


@pytest.mark.parametrize("side", [48, 128, 256])
def test_other_resolutions_are_read_too(side: int) -> None:
    rng = np.random.default_rng(12)
    scenes = [shapes.random_scene(rng) for _ in range(100)]
    assert np.mean([pixels.matches(shapes.draw(scene, side=side, rng=rng), scene) for scene in scenes]) >= 0.98


def test_a_shape_is_described_with_its_box() -> None:
    (shape,) = pixels.find(shapes.draw(shapes.parse("a large red disc on black")))
    assert (shape.kind, shape.colour, shape.size, shape.position) == ("disc", "red", "large", "centre")
    assert shape.box == pytest.approx((0.185, 0.185, 0.815, 0.815), abs=0.02)


def test_shapes_come_left_to_right() -> None:
    described = pixels.find(shapes.draw(shapes.parse("a green cross and a small blue ring on cream")))
    assert [(each.colour, each.kind, each.position) for each in described] == [
        ("green", "cross", "left"),
        ("blue", "ring", "right"),
    ]


@pytest.mark.parametrize(
    "other",
    [
        "a red square on white",
        "a blue disc on white",
        "a small red disc on white",
        "a red disc on cream",
        "a red disc on white, left",
        "a red disc and a red disc on white",
    ],
)
def test_one_wrong_word_does_not_match(other: str) -> None:
    image = shapes.draw(shapes.parse("a red disc on white"))
    assert pixels.matches(image, shapes.parse("a red disc on white"))
    assert not pixels.matches(image, shapes.parse(other))


def test_an_empty_image_holds_nothing() -> None:
    assert pixels.find(Image.new("RGB", (64, 64), "white")) == []
    assert pixels.background(Image.new("RGB", (64, 64), "white")) == "white"


def test_an_unknown_shape_is_reported_as_unknown() -> None:
    odd = shapes.paint([shapes.Mark("disc", (255, 255, 255), 0.5, 0.5, 0.2)], background=(200, 0, 0))
    (shape,) = pixels.find(odd)
    assert shape.colour == pixels.UNKNOWN
    assert pixels.background(odd) == pixels.UNKNOWN
    line = Image.new("RGB", (64, 64), "white")
    line.paste((222, 38, 42), (10, 10, 50, 12))
    line.paste((222, 38, 42), (10, 10, 12, 50))
    (bent,) = pixels.find(line)
    assert bent.kind == pixels.UNKNOWN
