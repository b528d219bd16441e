"""Which labelled images are copies of each other."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.demo import shapes
from nsfw_guard.errors import ConfigError
from nsfw_guard.imaging.pdq import MATCH
from nsfw_guard.tools.teaching.copies import Look, grouped, look_at


def scene(caption: str, side: int = 128) -> Image.Image:
    return shapes.draw(shapes.parse(caption), side=side)


def look(image: Image.Image) -> Look:
    return look_at(np.asarray(image))


def jpeg(image: Image.Image) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=60)
    return Image.open(data).convert("RGB")


def test_a_smaller_or_compressed_copy_is_in_the_group_of_its_original() -> None:
    rough = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    image = Image.fromarray(rough).resize((512, 512), Image.Resampling.BICUBIC)
    others = scene("a small blue star on black"), image.resize((300, 300)), jpeg(image)
    looks = [look(image), *map(look, others)]
    assert grouped(looks, "aaaa", "abcd") == [0, 1, 0, 0]


def test_the_same_shape_in_another_colour_is_no_copy() -> None:
    looks = [look(scene(f"a large {colour} disc on white")) for colour in ("red", "blue", "purple")]
    bits = [int(one.hashed, 16) for one in looks]
    assert max((bits[0] ^ one).bit_count() for one in bits) <= MATCH
    assert grouped(looks, "abb", "xyz") == [0, 1, 2]


def test_copies_with_different_labels_are_an_error_that_names_both() -> None:
    image = scene("a large red disc on white")
    with pytest.raises(ConfigError, match=r"b \(safe\) and a \(unsafe\) are the same image with different labels"):
        grouped([look(image), look(image)], ["unsafe", "safe"], ["a", "b"])


def test_images_with_nothing_in_them_are_copies_when_their_colours_are_the_same() -> None:
    plain = [look(Image.new("RGB", (64, 64), colour)) for colour in ("red", "blue", "red")]
    assert [one.hashed for one in plain] == ["", "", ""]
    assert grouped(plain, "aba", "xyz") == [0, 1, 0]
    with pytest.raises(ConfigError, match="same image with different labels"):
        grouped(plain, "abb", "xyz")


def test_an_image_that_nobody_saw_is_a_group_of_its_own() -> None:
    assert grouped([None, None], "ab", "xy") == [0, 1]
