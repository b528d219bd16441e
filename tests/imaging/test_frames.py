"""What comes in is read, what goes out is what came, bit for bit, but for what was covered."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nsfw_guard.errors import ConfigError, ImageError
from nsfw_guard.imaging.frames import Batch, Frames, count_of, first_frame, first_frames, in_groups
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.imaging.put_back import put_back
from nsfw_guard.imaging.quantise import BOUNDS
from nsfw_guard.testing import redness

GREY = torch.full((3, 6, 8), 0.5)


def as_batch(images, **settings) -> Batch:
    """What is small enough to be one group."""
    (group,) = in_groups(images, **settings)
    return group


@pytest.mark.parametrize(
    ("images", "cure"),
    [
        (torch.zeros(2, 5, 6, 8), "expected RGB frames"),
        (torch.zeros(2, 6, 8, 3), "permute it to channels first"),
        (torch.zeros(6, 8, 3), "permute it to channels first"),
        (torch.zeros(6, 8), "expected RGB frames"),
        (torch.zeros(1, 1, 3, 6, 8), "expected RGB frames"),
        (torch.zeros(2, 3, 6, 8, dtype=torch.int64), "convert the tensor first"),
        (torch.zeros(2, 3, 6, 8, dtype=torch.complex64), "convert the tensor first"),
        (torch.zeros(2, 3, 6, 8, dtype=torch.bool), "convert the tensor first"),
        (torch.zeros(0, 3, 6, 8), "pass at least one"),
        (torch.zeros(2, 3, 0, 8), "at least one pixel"),
        (torch.zeros(2, 4, 0, 8), "contains no image|expected RGB"),
        (torch.zeros(1, 3, 4, 401), "above 100:1: crop the image"),
        (torch.zeros(1, 3, 401, 4), "4x401 is above 100:1: crop the image"),
        ([], "pass at least one"),
        ((), "pass at least one"),
        (np.zeros((0, 6, 8, 3), np.uint8), "pass at least one"),
    ],
)
def test_an_input_that_is_not_an_image_is_refused_with_the_cure(images, cure) -> None:
    with pytest.raises(ImageError, match=cure):
        as_batch(images)


def test_an_unknown_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'signed'"):
        as_batch(torch.zeros(1, 3, 6, 8), value_range="sined")
    with pytest.raises(ConfigError, match="did you mean 'signed'"):
        Frames(torch.zeros(1, 3, 6, 8), "sined")


@pytest.mark.parametrize(
    "bad",
    [b"", b"no image", "missing.png", Path("missing.png"), io.BytesIO(b"GIF89a"), torch.zeros(5, 6, 8), 3, None,
     np.zeros((6, 8, 7)), torch.zeros(6, 8, 3), Image.new("RGB", (1, 500))],
    ids=lambda b: type(b).__name__,
)  # fmt: skip
def test_in_a_list_one_bad_image_is_its_own_fault(bad) -> None:
    batch = as_batch([GREY, bad, GREY])

    assert batch.count == 3
    assert batch.owners == (0, 2)
    assert list(batch.faults) == [1]
    assert batch.faults[1]


@pytest.mark.parametrize(
    ("low", "high", "value_range", "says"),
    [
        (0.0, 1.0, "unit", ""),
        (-0.003, 1.003, "unit", ""),
        (0.0, 255.0, "unit", "pass the right one"),
        (-1.0, 1.0, "unit", "pass the right one"),
        (-1.4, 1.7, "signed", ""),
        (0.0, 255.0, "signed", "pass the right one"),
        (float("nan"), float("nan"), "unit", "NaN or infinite"),
        (0.0, float("inf"), "signed", "NaN or infinite"),
        (-float("inf"), 1.0, "unit", "NaN or infinite"),
    ],
)
def test_a_range_that_does_not_fit_is_a_fault(low, high, value_range, says) -> None:
    fault = Frames(torch.zeros(1, 3, 2, 2), value_range).fault(low, high)
    assert says in fault
    assert bool(fault) == bool(says)


RED = np.zeros((6, 8, 3), np.uint8)
RED[..., 0] = 255


def kinds() -> dict[str, object]:
    """The same red image in every form."""
    unit = torch.from_numpy(RED).permute(2, 0, 1).float() / 255
    buffer = io.BytesIO()
    Image.fromarray(RED).save(buffer, "PNG")
    return {
        "tensor": unit,
        "batch": unit[None],
        "half": unit.half(),
        "bytes tensor": torch.from_numpy(RED).permute(2, 0, 1),
        "rgba tensor": torch.cat([unit, torch.ones(1, 6, 8)]),
        "pil": Image.fromarray(RED),
        "palette": Image.fromarray(RED).convert("P"),
        "array": RED,
        "float array": RED.astype(np.float32) / 255,
        "array batch": RED[None],
        "rgba array": np.concatenate([RED, np.full((6, 8, 1), 255, np.uint8)], -1),
        "rgba batch": np.concatenate([RED, np.full((6, 8, 1), 255, np.uint8)], -1)[None],
        "file": buffer.getvalue(),
        "list": [Image.fromarray(RED)],
        "tuple": (unit,),
    }


@pytest.mark.parametrize("kind", kinds())
def test_every_form_of_an_image_is_the_same_pixels(kind) -> None:
    batch = as_batch(kinds()[kind])

    assert (batch.count, batch.owners) == (1, (0,))
    assert redness(batch.stacks[0].quantise()[0][0]) == 1.0
    assert batch.stacks[0].quantise()[0].shape == (1, 3, 6, 8)


def test_a_signed_image_is_recorded_as_signed() -> None:
    signed = kinds()["batch"] * 2 - 1
    assert redness(as_batch(signed, value_range="signed").stacks[0].quantise()[0][0]) == 1.0
    rgba = torch.cat([signed[0], torch.ones(1, 6, 8)])
    assert redness(as_batch(rgba, value_range="signed").stacks[0].quantise()[0][0]) == 1.0


def test_a_grey_tensor_is_an_image() -> None:
    levels = as_batch(torch.full((2, 1, 6, 8), 0.2)).stacks[0].quantise()[0]
    assert levels.unique().tolist() == [51]


def test_alpha_gives_several_frames_of_one_image() -> None:
    rgba = np.zeros((6, 8, 4), np.uint8)
    rgba[:3] = (255, 0, 0, 0)  # red that alpha hides
    batch = as_batch([Image.fromarray(rgba), GREY])

    assert batch.count == 2
    assert set(batch.owners[:-1]) == {0}
    assert max(redness(s.quantise()[0][0]) for s in batch.stacks) == 0.5


def test_an_animation_that_was_not_looked_at_whole_is_partial() -> None:
    frames = [Image.new("RGB", (6, 8), (i * 5, 0, 0)) for i in range(9)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])

    batch = as_batch(buffer.getvalue(), limits=Limits(frames=4, unseen="review"))

    assert batch.owners == (0,) * 4
    assert "4 of 9" in batch.partial[0]


@pytest.mark.parametrize("kind", kinds())
def test_without_anything_to_cover_the_same_object_comes_back(kind) -> None:
    given = kinds()[kind]
    assert put_back(given, {}) is given


@pytest.mark.parametrize("kind", [k for k in kinds() if k not in {"file", "palette"}])
def test_a_cover_has_the_type_of_its_input(kind) -> None:
    given = kinds()[kind]

    result = put_back(given, {0: torch.full((3, 6, 8), 0.2)})

    one = result[0] if isinstance(result, (list, tuple)) else result
    old = given[0] if isinstance(given, (list, tuple)) else given
    assert type(result) is type(given)
    assert type(one) is type(old) or isinstance(one, Image.Image)
    if isinstance(old, (torch.Tensor, np.ndarray)):
        assert (one.shape, one.dtype) == (old.shape, old.dtype)
    assert as_batch(one).stacks[0].quantise()[0].unique().tolist() == [51]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("value_range", ["unit", "signed"])
def test_uncovered_images_keep_every_bit(dtype, value_range) -> None:
    given = torch.rand(3, 3, 6, 8).to(dtype)
    before = given.clone()

    result = put_back(given, {1: GREY}, value_range=value_range)

    assert torch.equal(given, before)
    assert torch.equal(result[[0, 2]], before[[0, 2]])
    assert result[1].float().mean().item() == pytest.approx(0.5 if value_range == "unit" else 0.0, abs=0.01)


def test_grey_and_alpha_survive_a_cover() -> None:
    grey = put_back(np.zeros((6, 8), np.uint8), {0: torch.full((3, 6, 8), 0.2)})
    deep = put_back(np.zeros((6, 8, 1), np.uint16), {0: torch.full((3, 6, 8), 1.0)})
    rgba = put_back(torch.zeros(1, 4, 6, 8), {0: torch.full((3, 6, 8), 0.2)})

    assert (grey.shape, set(grey.ravel().tolist())) == ((6, 8), {51})
    assert (deep.shape, set(deep.ravel().tolist())) == ((6, 8, 1), {65535})
    assert rgba[0, 3].unique().tolist() == [1.0]


def test_files_are_covered_by_images() -> None:
    result = put_back([b"one", "two.png"], {1: GREY})
    assert result[0] == b"one"
    assert result[1].size == (8, 6)


@pytest.mark.parametrize("odd", [np.zeros(5), np.zeros((1, 2, 3, 4, 5)), torch.zeros(5), torch.zeros(2, 2)])
def test_an_item_that_is_not_an_image_is_replaced_by_one(odd) -> None:
    result = put_back([odd, GREY], {0: GREY})
    assert result[0].size == (8, 6)
    assert result[1] is GREY


def test_images_are_counted_and_the_first_frame_is_found() -> None:
    assert [count_of(x) for x in (GREY, GREY[None], [GREY] * 3, "path", np.zeros((2, 6, 8, 3)))] == [1, 1, 3, 1, 2]
    assert torch.equal(first_frame([b"", GREY], 1, value_range="unit", limits=None), (GREY * 255).round().byte())
    assert first_frame([b"", GREY], 0, value_range="unit", limits=None).shape == (3, 512, 512)


def test_groups_hold_no_more_than_they_should_and_lose_nothing() -> None:
    images = [Image.new("RGB", (10, 10), (i, 0, 0)) for i in range(7)]
    groups = list(in_groups([*images, "no such file"], pixels=250))
    assert [len(g.stacks) for g in groups] == [2, 2, 2, 1]
    assert [g.owners for g in groups] == [(0, 1), (2, 3), (4, 5), (6,)]
    assert all(g.count == 8 for g in groups)
    assert [list(g.faults) for g in groups] == [[], [], [], [7]]
    assert [int(s.pixels[0, 0, 0, 0]) for g in groups for s in g.stacks] == list(range(7))


def test_each_group_is_counted_from_zero() -> None:
    groups = in_groups([Image.new("RGB", (3, 1), (i, 0, 0)) for i in range(9)], pixels=8)
    assert [len(group.stacks) for group in groups] == [2, 2, 2, 2, 1]


def test_a_cover_beyond_its_range_is_cut_off() -> None:
    cover = torch.tensor([-0.5, 0.5, 1.5]).reshape(3, 1, 1).expand(3, 6, 8)
    covered = put_back(np.zeros((6, 8, 3), np.uint8), {0: cover})
    assert covered[0, 0].tolist() == [0, 128, 255]


def test_a_frame_larger_than_a_group_is_a_group_of_its_own() -> None:
    groups = list(in_groups([Image.new("RGB", (20, 20)), Image.new("RGB", (20, 20), "red")], pixels=100))
    assert [g.owners for g in groups] == [(0,), (1,)]


BGR = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (BGR[..., ::-1], BGR[..., ::-1]),
        (BGR[::-1, ::-1], BGR[::-1, ::-1]),
        ((BGR / np.float32(255)).astype(">f4"), BGR),
        ((BGR / 255).astype(np.float64)[::-1], BGR[::-1]),
        ((BGR.astype(np.uint16) * 257), BGR),
        ((BGR.astype(">u2") * 257), BGR),
        ((BGR[..., 0].astype(np.uint16) * 257)[::-1], np.repeat(BGR[::-1, :, :1], 3, 2)),
    ],
    ids=["bgr", "flipped", "big-endian", "flipped floats", "16 bit", "big-endian 16 bit", "flipped grey"],
)
def test_arrays_of_every_layout_are_the_image_that_they_show(array, expected) -> None:
    for images in (array, [array], *([array[None]] if array.ndim == 3 else [])):
        (stack,) = as_batch(images).stacks
        levels, _ = stack.quantise()
        assert np.array_equal(levels[0].permute(1, 2, 0).numpy(), expected)


def test_one_odd_array_is_its_own_fault_alone() -> None:
    odd = [np.zeros((4, 4, 3), np.int64), np.zeros((4, 4, 3), np.complex64), np.zeros((4, 4, 3), np.longdouble)]
    batch = as_batch([BGR[::-1], *odd[:2], "no file", BGR])
    assert sorted(batch.faults) == [1, 2, 3]
    assert batch.owners == (0, 4)
    assert as_batch([odd[2], BGR]).owners[-1] == 1


def test_read_only_arrays_and_tensors_with_gradients_are_images() -> None:
    frozen = BGR.copy()
    frozen.flags.writeable = False
    learning = torch.rand(1, 3, 4, 4, requires_grad=True)
    assert as_batch(frozen).owners == (0,)
    assert not as_batch(learning).stacks[0].pixels.requires_grad


@pytest.mark.parametrize(
    ("shape", "cure"), [((2, 8, 8, 4), True), ((2, 8, 8, 1), True), ((2, 4, 8, 8), False), ((9,), False)]
)
def test_the_cure_names_the_channels_where_they_are_last(shape, cure) -> None:
    with pytest.raises(ImageError) as error:
        Frames(torch.zeros(shape))
    assert ("permute" in str(error.value)) is cure


@pytest.mark.parametrize("value_range", ["unit", "signed"])
def test_the_bounds_themselves_are_no_fault(value_range) -> None:
    low, high = BOUNDS[value_range]
    frames = Frames(torch.zeros(1, 3, 4, 4), value_range)
    assert frames.fault(low, high) == ""
    assert frames.fault(low, high + 0.01)
    assert frames.fault(low - 0.01, high)


def test_the_frames_of_one_file_come_in_groups_too() -> None:
    frames = [Image.new("RGB", (6, 8), (i * 5, 0, 0)) for i in range(5)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    groups = list(in_groups(buffer.getvalue(), pixels=2 * 48))
    assert [g.owners for g in groups] == [(0, 0), (0, 0), (0,)]


@pytest.mark.parametrize(
    ("odd", "sides"),
    [
        (np.zeros((7, 9, 2)), (7, 9)),
        (np.zeros((7, 9), np.complex64), (7, 9)),
        (np.zeros(5), (512, 512)),
        (torch.zeros(2, 7, 9), (7, 9)),
        (torch.zeros(7, 9), (7, 9)),
        (torch.zeros(5), (512, 512)),
        (object(), (512, 512)),
    ],
)
def test_an_unreadable_image_gives_a_black_frame_of_its_size(odd, sides) -> None:
    frame = first_frame([odd], 0, value_range="unit", limits=None)
    assert torch.equal(frame, torch.zeros(3, *sides, dtype=torch.uint8))


@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 5)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_cover_of_an_array_of_floats_is_exact(shape, dtype) -> None:
    cover = torch.full((3, 4, 5), 200 / 255)
    unit = put_back([np.zeros(shape, dtype)], {0: cover})[0]
    signed = put_back([np.zeros(shape, dtype)], {0: cover}, value_range="signed")[0]
    assert unit.dtype == signed.dtype == dtype
    assert unit.shape == signed.shape == shape
    level = np.array([200], np.float32) / 255  # an array: older NumPy makes more of a single number
    assert np.array_equal(unit, np.full(shape, level).astype(dtype))
    assert np.array_equal(signed, np.full(shape, level * 2 - 1).astype(dtype))


@pytest.mark.parametrize(
    ("mode", "becomes"), [("L", "L"), ("LA", "LA"), ("RGBA", "RGBA"), ("P", "RGB"), ("CMYK", "RGB")]
)
def test_a_cover_of_a_pil_image_keeps_its_mode_where_that_can_show_it(mode, becomes) -> None:
    result = put_back([Image.new(mode, (5, 4))], {0: torch.zeros(3, 4, 5)})[0]
    assert result.mode == becomes
    assert result.size == (5, 4)


def test_a_cover_of_a_grey_array_is_the_mean_of_its_colours_and_never_over_white() -> None:
    cover = torch.tensor([0.0, 0.2, 1.5]).reshape(3, 1, 1).expand(3, 4, 5)
    grey, colour = put_back([np.zeros((4, 5), np.uint8), np.zeros((4, 5, 3), np.uint8)], {0: cover, 1: cover})
    assert grey.shape == (4, 5)
    assert np.unique(grey).tolist() == [102]
    assert colour[0, 0].tolist() == [0, 51, 255]


def test_the_first_frame_of_one_image_is_that_image() -> None:
    image = Image.new("RGB", (5, 4), (51, 102, 204))
    frame = first_frame(image, 0, value_range="unit", limits=None)
    assert frame[:, 0, 0].tolist() == [51, 102, 204]


def test_frames_are_taken_as_they_are_and_given_back() -> None:
    frames = Frames(torch.stack([GREY, GREY / 2]), "signed")
    (batch,) = in_groups(frames)
    assert (count_of(frames), batch.owners) == (2, (0, 1))
    assert batch.stacks[0].value_range == "signed"
    assert put_back(frames, {}) is frames
    back = put_back(frames, {1: torch.ones(3, 6, 8)})
    assert torch.equal(back.pixels[0], GREY)
    assert back.pixels[1].unique().tolist() == [1.0]
    assert (back.value_range, frames.pixels[1, 0, 0, 0]) == ("signed", GREY[0, 0, 0] / 2)
    assert count_of([frames, GREY]) == 2
    (batch,) = in_groups([frames, GREY])
    assert batch.owners == (0, 0, 1)


def test_first_frames_are_found_for_the_chosen_images() -> None:
    animation = Frames(torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 2, 2))
    (batch,) = in_groups([GREY, animation, GREY])
    firsts = first_frames(batch, {1, 2})
    assert set(firsts) == {1, 2}
    assert firsts[1].unique().tolist() == [0]
    assert torch.equal(firsts[2], (GREY * 255).round().byte())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_of_floats_are_images_in_their_own_range(dtype) -> None:
    image = np.full((6, 8, 3), -0.5, dtype)
    (stack,) = as_batch(image, value_range="signed").stacks
    assert stack.value_range == "signed"
    assert stack.quantise()[0].unique().tolist() == [64]
