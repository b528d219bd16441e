"""Nothing of an image may go unseen, and the authors' own view is timm's to the pixel."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsfw_guard.errors import ConfigError, ImageError, UnknownNameError
from nsfw_guard.imaging.views import MAX_LOOKS, InputSpec, check_views, plan

SPEC = InputSpec(size=32)


def seen(looks, height, width) -> bool:
    """Whether the looks' boxes cover the whole image, on a fine grid."""
    boxes = [look.view.box for look in looks]
    xs = sorted({0.0, 1.0, *(x for b in boxes for x in (b[0], b[2]))})
    ys = sorted({0.0, 1.0, *(y for b in boxes for y in (b[1], b[3]))})
    for x0, x1 in itertools.pairwise(xs):
        for y0, y1 in itertools.pairwise(ys):
            # a sliver below a hundredth of a pixel is rounding, not a gap
            if (x1 - x0) * width < 0.01 or (y1 - y0) * height < 0.01:
                continue
            x, y = (x0 + x1) / 2, (y0 + y1) / 2
            if not any(b[0] <= x <= b[2] and b[1] <= y <= b[3] for b in boxes):
                return False
    return True


@settings(max_examples=150, deadline=None)
@given(
    short=st.integers(1, 700),
    ratio=st.floats(1.0, 20.0),
    tall=st.booleans(),
    size=st.sampled_from([32, 224, 384]),
    crop_pct=st.sampled_from([1.0, 0.875]),
    mode=st.sampled_from(["center", "squash", "border"]),
)
def test_cover_sees_every_pixel_from_1_to_20_to_20_to_1(short, ratio, tall, size, crop_pct, mode) -> None:
    long = max(short, int(short * ratio))
    height, width = (long, short) if tall else (short, long)

    looks = plan(height, width, InputSpec(size=size, crop_pct=crop_pct, crop_mode=mode), "cover")

    if mode == "center":
        assert seen(looks, height, width)
        assert looks[0].view.kind == "center"
    else:
        assert [look.view.kind for look in looks] == ["full"]


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 200), (200, 40), (7, 5), (1, 1)])
def test_tiles_see_every_pixel_too(count, height, width) -> None:
    looks = plan(height, width, SPEC, f"tiles({count})")

    assert seen(looks[1:], height, width)
    assert {look.view.kind for look in looks[1:]} == {"tile"}


def test_a_square_image_has_one_view() -> None:
    assert len(plan(64, 64, SPEC)) == 1
    assert plan(64, 64, SPEC)[0].view.box == (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(("width", "count"), [(64, 1), (65, 1), (70, 3), (112, 3), (192, 3), (200, 5), (1280, 21)])
def test_cover_takes_as_few_views_as_it_takes(width, count) -> None:
    assert len(plan(64, width, SPEC)) == count


def test_center_hides_what_cover_shows() -> None:
    center, *rest = plan(768, 1344, InputSpec(size=384), "center")
    left, _, right, _ = center.view.box

    assert not rest
    assert right - left == pytest.approx(0.571, abs=1e-3)


def test_squash_is_one_view_of_everything() -> None:
    (only,) = plan(30, 90, SPEC, "squash")
    assert (only.view.kind, only.view.box, only.size) == ("squash", (0.0, 0.0, 1.0, 1.0), (32, 32))


@pytest.mark.parametrize("views", ["center", "cover", "squash", "tiles(2)", "tiles(8)"])
def test_known_views_are_taken(views) -> None:
    assert check_views(views) == views


@pytest.mark.parametrize("views", ["centre", "tiles", "tiles(1)", "tiles(9)", "tiles(-2)", "", "cover "])
def test_unknown_views_name_the_known_ones(views) -> None:
    with pytest.raises(UnknownNameError, match="unknown views"):
        check_views(views)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"interpolation": "nearest"}, "interpolation"),
        ({"crop_mode": "centre"}, "did you mean 'center'"),
        ({"size": 0}, "got 0"),
        ({"crop_pct": 0.0}, "crop_pct"),
        ({"crop_pct": 1.5}, "crop_pct"),
        ({"std": (0.5, 0.0, 0.5)}, "std must be three numbers from 0.001"),
        ({"mean": (0.5, 0.5)}, "three numbers"),
    ],
)
def test_an_input_that_makes_no_sense_is_refused(wrong, message) -> None:
    with pytest.raises(ConfigError, match=message):
        InputSpec(**{"size": 32, **wrong})


@pytest.mark.parametrize("size", [64, 384, 448])
@pytest.mark.parametrize("crop_pct", [0.9, 1.0])
def test_cover_handles_a_hundred_to_one_within_the_maximum_of_views(size, crop_pct) -> None:
    spec = InputSpec(size=size, crop_pct=crop_pct)
    for height, width in ((64, 6400), (6400, 64), (1, 100), (448, 44800)):
        assert 99 <= len(plan(height, width, spec)) <= 101 < MAX_LOOKS


@pytest.mark.parametrize(
    ("views", "height", "width", "looks"),
    [
        ("tiles(2)", 64, 1280, 119),
        ("tiles(4)", 1000, 20000, 397),
        ("tiles(8)", 1024, 1024, 65),
        ("tiles(8)", 1000, 3000, 209),
    ],
)
def test_tiles_of_usual_images_are_within_the_maximum(views, height, width, looks) -> None:
    assert len(plan(height, width, SPEC, views)) == looks


@pytest.mark.parametrize(
    ("views", "height", "width", "looks"),
    [
        ("tiles(8)", 6400, 64, 6825),
        ("tiles(8)", 1000, 6000, 425),
        ("tiles(4)", 21000, 1000, 417),
        ("tiles(2)", 64, 6400, 595),
    ],
)
def test_too_many_views_are_refused_with_the_cure(views, height, width, looks) -> None:
    message = rf"{re.escape(views)} needs {looks} looks at {width}x{height}, more than the limit of 400: .*cover"
    with pytest.raises(ImageError, match=message):
        plan(height, width, SPEC, views)
