"""A covered image says so on itself, where it can be read and does not take the image over."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFont

from nsfw_guard.hosts import label as module
from nsfw_guard.hosts.host_images import GROUND, solid
from nsfw_guard.hosts.label import labelled
from nsfw_guard.verdict import Outcome, Verdict

BLOCKED = Verdict(Outcome.BLOCK, "sexual 0.99 >= 0.8", category="sexual")
FAULT = Verdict(Outcome.ERROR, "fetch them", state={"self_test": "none"})


def changed(cover: Image.Image, verdict: Verdict) -> np.ndarray:
    """Which pixels the label took."""
    return (np.asarray(labelled(cover, verdict)) != GROUND).any(axis=-1)


@pytest.mark.parametrize("size", [(128, 128), (512, 512), (1344, 768), (300, 2000), (2000, 300), (4000, 4000)])
@pytest.mark.parametrize("verdict", [BLOCKED, FAULT])
def test_it_stands_in_the_lower_left_corner_and_takes_a_tenth_at_most(size, verdict):
    cover = solid(*size)
    taken = changed(cover, verdict)
    rows, columns = np.flatnonzero(taken.any(axis=1)), np.flatnonzero(taken.any(axis=0))
    assert (rows[-1], columns[0]) == (size[1] - 1, 0)
    assert 14 <= rows[-1] - rows[0] + 1 <= 40
    assert 0 < (rows[-1] - rows[0] + 1) * (columns[-1] + 1) <= 0.1 * size[0] * size[1]
    assert np.asarray(labelled(cover, verdict)).max() > 180  # there are letters
    assert np.asarray(cover).max() <= max(GROUND)  # the cover itself is not written on


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (48, 40), (8, 1000)])
def test_an_image_that_is_too_small_gets_none(size):
    assert not changed(solid(*size), BLOCKED).any()


def test_where_the_category_does_not_fit_one_word_stands_alone():
    words = [module._words(text).width for text in ("covered", "covered: sexual")]
    assert words[0] < words[1]
    long = Verdict(Outcome.BLOCK, "x", category="a very long name of a category " * 4)
    taken = changed(solid(512, 512), long).any(axis=0).sum()
    assert taken == round(words[0] * 31 / module._words("covered").height)


def test_a_fault_and_a_category_are_told_apart():
    cover = solid(512, 512)
    images = [np.asarray(labelled(cover, one)) for one in (BLOCKED, FAULT)]
    assert (images[0] != images[1]).any()


def test_an_older_pillow_writes_it_too(monkeypatch):
    """Its one font is small: it is made larger."""
    plain = ImageFont.load_default

    def one_size(*args: object) -> object:
        if args:
            raise TypeError("takes no arguments")
        return plain()

    monkeypatch.setattr(module.ImageFont, "load_default", one_size)
    assert changed(solid(512, 512), BLOCKED).sum() > 1000
