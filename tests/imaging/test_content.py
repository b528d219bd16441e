"""Cells between flat borders and gutters: none where there is none, and the others to the pixel."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from nsfw_guard.imaging.content import cells
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.imaging.preprocess import Preprocess
from nsfw_guard.imaging.views import MAX_CELL_LOOKS, InputSpec, cell_looks, check_views, plan
from tests.images import smooth

SPEC = InputSpec(size=32)


def textured(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Content that differs from any one colour everywhere."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def flat(height: int, width: int, colour: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def cells_of(*images: np.ndarray) -> list[tuple[tuple[int, int, int, int], ...]]:
    return cells(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))


def grid(count: int, side: int, gap: int, colour: tuple[int, int, int]) -> np.ndarray:
    """A square collage of textured cells."""
    whole = count * side + (count - 1) * gap
    image = flat(whole, whole, colour)
    for row in range(count):
        for column in range(count):
            top, left = row * (side + gap), column * (side + gap)
            image[top : top + side, left : left + side] = textured(side, side, seed=row * count + column)
    return image


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (222, 38, 42)])
@pytest.mark.parametrize("size", [(64, 64), (37, 251), (700, 300)])
def test_a_plain_image_has_no_cell(size, colour) -> None:
    assert cells_of(flat(*size, colour)) == [()]


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (31, 200), (64, 64), (301, 77)])
def test_noise_has_no_cell_at_any_size(size) -> None:
    assert cells_of(textured(*size)) == [()]


def test_smooth_content_has_no_cell() -> None:
    assert cells((smooth(4, 200, 300) * 255).to(torch.uint8)) == [()] * 4


@pytest.mark.parametrize("size", [(8, 8), (31, 31), (20, 500)])
def test_a_tiny_image_is_not_searched(size) -> None:
    image = flat(*size)
    image[2:-2, 2:-2] = textured(size[0] - 4, size[1] - 4)
    assert cells_of(image) == [()]


@pytest.mark.parametrize("radius", [70, 100, 127])
def test_a_large_disc_on_plain_ground_is_not_zoomed_into(radius) -> None:
    image = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(image).ellipse((128 - radius, 128 - radius, 128 + radius, 128 + radius), (222, 38, 42))
    assert cells_of(np.array(image)) == [()]


def test_a_small_disc_on_plain_ground_keeps_half_its_width_of_ground_on_each_side() -> None:
    image = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(image).ellipse((40, 60, 79, 99), (222, 38, 42))

    ((box,),) = cells_of(np.array(image))

    assert np.abs(np.subtract(box, (40, 20, 120, 100))).max() <= 2


def test_text_is_too_small_for_a_cell() -> None:
    image = Image.new("RGB", (512, 512), "white")
    pen = ImageDraw.Draw(image)
    for line in range(10):
        pen.text((30, 40 + 40 * line), "words and more words of a letter", "black")
    assert cells_of(np.array(image)) == [()]


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (222, 38, 42), (128, 128, 128)])
def test_a_border_is_trimmed_to_the_pixel(colour) -> None:
    image = flat(200, 240, colour)
    image[31:150, 17:101] = textured(119, 84)
    assert cells_of(image) == [((31, 17, 150, 101),)]


def test_a_border_in_a_border_is_trimmed_too() -> None:
    image = flat(240, 240, (0, 0, 0))
    image[3:237, 3:237] = 255
    image[60:180, 50:190] = textured(120, 140)
    assert cells_of(image) == [((60, 50, 180, 190),)]


def test_a_large_image_is_trimmed_to_the_sample_without_a_line_of_the_border() -> None:
    image = flat(1100, 901, (250, 250, 250))
    image[301:702, 203:604] = textured(401, 401)

    (((top, left, bottom, right),),) = cells_of(image)

    assert 301 <= top < 306  # every fifth pixel is looked at
    assert 203 <= left < 208
    assert 697 < bottom <= 702
    assert 599 < right <= 604


def test_content_at_the_edge_of_a_large_image_reaches_the_edge() -> None:
    image = flat(1003, 1003)
    image[500:, 600:] = textured(503, 403)
    assert cells_of(image)[0][0][2:] == (1003, 1003)


@pytest.mark.parametrize(("axis", "box"), [(0, (50, 0, 150, 200)), (1, (0, 50, 200, 150))])
def test_letterbox_bars_are_trimmed(axis, box) -> None:
    image = flat(200, 200, (0, 0, 0))
    image[50:150] = textured(100, 200)
    assert cells_of(image if axis == 0 else image.swapaxes(0, 1)) == [(box,)]


def test_what_lies_between_bars_is_left_whole_though_its_ground_is_plain() -> None:
    image = Image.new("RGB", (200, 200))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 50, 199, 149), (194, 222, 250))
    pen.ellipse((20, 80, 59, 119), (222, 38, 42))
    assert cells_of(np.array(image)) == [((50, 0, 150, 200),)]


@pytest.mark.parametrize("gap", [1, 2, 5])
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (90, 200, 30)])
def test_each_cell_of_a_collage_is_found_even_beside_a_gutter_of_one_pixel(count, gap, colour) -> None:
    side = 60
    image = grid(count, side, gap, colour)
    corners = [i * (side + gap) for i in range(count)]
    assert sorted(cells_of(image)[0]) == [(t, x, t + side, x + side) for t in corners for x in corners]


def test_gutters_of_one_in_a_hundred_are_found_in_a_large_image() -> None:
    assert len(cells_of(grid(3, 334, 11, (255, 255, 255)))[0]) == 9


@pytest.mark.parametrize("quality", [75, 85, 95])
def test_noise_of_a_jpeg_hides_neither_borders_nor_gutters(quality) -> None:
    collage = np.pad(grid(2, 120, 16, (0, 0, 0)), ((16, 16), (16, 16), (0, 0)))
    boxes = sorted(cells_of(jpeg(collage, quality))[0])
    assert len(boxes) == 4
    for box, (top, left) in zip(boxes, [(16, 16), (16, 152), (152, 16), (152, 152)], strict=True):
        assert np.abs(np.subtract(box, (top, left, top + 120, left + 120))).max() <= 8  # one block


def test_a_border_of_another_colour_than_the_gutters_hides_no_cell() -> None:
    image = np.pad(grid(2, 80, 6, (255, 255, 255)), ((20, 20), (20, 20), (0, 0)))
    assert len(cells_of(image)[0]) == 4


def test_white_cells_between_white_gutters_come_out_tighter() -> None:
    image = flat(210, 210)
    for top, left in ((0, 0), (0, 110), (110, 0), (110, 110)):
        image[top + 30 : top + 70, left + 30 : left + 70] = textured(40, 40, seed=top + left)
    boxes = cells_of(image)[0]
    assert len(boxes) == 4
    assert all(box[2] - box[0] <= 100 and box[3] - box[1] <= 100 for box in boxes)


def test_cells_that_are_too_small_are_left_out() -> None:
    image = flat(240, 240)
    image[50:150, 50:150] = textured(100, 100)
    image[200:209, 200:209] = textured(9, 9)
    assert cells_of(image) == [((50, 50, 150, 150),)]


@pytest.mark.parametrize("period", [2, 3, 5, 10])
def test_a_mesh_has_no_cell(period) -> None:
    image = textured(256, 256)
    image[::period], image[:, ::period] = 255, 255
    assert cells_of(image) == [()]


def test_a_flat_cell_is_none() -> None:
    image = grid(2, 100, 4, (255, 255, 255))
    image[:100, :100] = (20, 90, 20)
    assert len(cells_of(image)[0]) == 3


def test_each_image_of_a_stack_has_its_own_cells_the_largest_first() -> None:
    image = flat(160, 160, (0, 0, 0))
    image[10:70, 10:150] = textured(60, 140)
    image[90:150, 10:40] = textured(60, 30)
    assert cells_of(textured(160, 160), image, flat(160, 160)) == [(), ((10, 10, 70, 150), (90, 10, 150, 40)), ()]


def test_looks_at_a_cell_cover_all_of_it() -> None:
    looks = cell_looks(((20, 10, 60, 110),), 100, 200, SPEC)
    assert {look.view.kind for look in looks} == {"content"}
    assert len(looks) == len(plan(40, 100, SPEC)) == 3
    boxes = [look.view.box for look in looks]
    assert min(b[0] for b in boxes) == pytest.approx(10 / 200)
    assert max(b[2] for b in boxes) == pytest.approx(110 / 200)
    assert {(b[1], b[3]) for b in boxes} == {(0.2, 0.6)}


def test_there_are_at_most_64_looks_at_cells() -> None:
    image = grid(9, 50, 6, (255, 255, 255))
    boxes = cells_of(image)[0]
    assert len(boxes) == 81
    assert len(cell_looks(boxes, *image.shape[:2], SPEC)) == MAX_CELL_LOOKS == 64


def test_a_cell_beyond_100_to_1_has_no_look() -> None:
    assert cell_looks(((0, 0, 1, 101), (0, 0, 50, 50)), 60, 6000, SPEC) == cell_looks(((0, 0, 50, 50),), 60, 6000, SPEC)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(100, 160), (160, 100), (128, 128)])
def test_content_begins_with_the_looks_of_cover_unchanged(size, mode) -> None:
    image = flat(*size)
    image[20:80, 30:90] = textured(60, 60)
    frames = Frames(torch.from_numpy(image).permute(2, 0, 1)[None])
    spec = InputSpec(size=32, crop_mode=mode)
    cover = Preprocess(spec=spec).prepare(frames)

    content = Preprocess(spec=spec, views="content").prepare(frames)

    count = len(cover.views)
    assert content.views[:count] == cover.views
    assert torch.equal(content.pixels[:, :count], cover.pixels)
    assert [view.kind for view in content.views[count:]] == ["content"]


def test_a_look_shows_what_the_cell_alone_would_show() -> None:
    image = flat(150, 200)
    image[40:120, 50:130] = textured(80, 80)
    frames, alone = (Frames(torch.from_numpy(a.copy()).permute(2, 0, 1)[None]) for a in (image, image[40:120, 50:130]))
    shown = Preprocess(spec=SPEC, views="content").prepare(frames).pixels[0, -1]
    assert torch.equal(shown, Preprocess(spec=SPEC).prepare(alone).pixels[0, 0])


def test_neighbours_with_the_same_looks_are_one_part() -> None:
    bordered = flat(64, 64)
    bordered[20:50, 20:50] = textured(30, 30)
    stack = [textured(64, 64), textured(64, 64, seed=1), bordered, textured(64, 64, seed=2)]
    frames = Frames(torch.from_numpy(np.stack(stack)).permute(0, 3, 1, 2))

    parts = Preprocess(spec=SPEC, views="content").parts(frames)

    assert [(len(part.pixels), len(part.views)) for part in parts] == [(2, 1), (1, 2), (1, 1)]
    assert torch.equal(torch.cat([p.pixels[:, 0] for p in parts]), Preprocess(spec=SPEC).prepare(frames).pixels[:, 0])


def test_frames_with_different_looks_are_no_single_stack() -> None:
    bordered = flat(64, 64)
    bordered[20:50, 20:50] = textured(30, 30)
    frames = Frames(torch.from_numpy(np.stack([textured(64, 64), bordered])).permute(0, 3, 1, 2))
    with pytest.raises(ValueError, match=r"2 frames have different looks: use Preprocess\.parts"):
        Preprocess(spec=SPEC, views="content").prepare(frames)


@pytest.mark.parametrize("value_range", ["unit", "signed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_floats_are_searched_as_the_levels_that_they_are_saved_with(dtype, value_range) -> None:
    image = flat(90, 120, (10, 10, 10))
    image[20:80, 30:90] = textured(60, 60)
    unit = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    frames = Frames((unit if value_range == "unit" else unit * 2 - 1).to(dtype), value_range)
    parts = Preprocess(spec=SPEC, views="content").parts(frames)
    views = [view for part in parts for view in part.views if view.kind == "content"]
    assert [view.box for view in views] == [(30 / 120, 20 / 90, 90 / 120, 80 / 90)]


def test_content_is_a_known_plan() -> None:
    assert check_views("content") == "content"
    assert plan(64, 200, SPEC, "content") == plan(64, 200, SPEC, "cover")
