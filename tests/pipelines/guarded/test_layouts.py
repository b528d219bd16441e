"""Whatever leaves a pipeline is taken apart into frames and put back, and what stays is the object that came."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from nsfw_guard.errors import UncoveredError
from nsfw_guard.pipelines.guarded import layouts
from nsfw_guard.pipelines.guarded.identity import identity

PIL = [Image.new("RGB", (6, 4), (i, i, i)) for i in range(6)]
ARRAY = np.arange(2 * 3 * 4 * 6 * 3, dtype=np.float32).reshape(2, 3, 4, 6, 3)
TENSOR = torch.arange(2 * 3 * 3 * 4 * 6.0).reshape(2, 3, 3, 4, 6)


def shape(groups):
    return [len(group) for group in groups]


@pytest.mark.parametrize(
    "value", [b"PNG", object(), {"a": object()}, torch.zeros(4096), [np.zeros(300)], torch.zeros(1, 1, 1, 1, 1, 1)]
)
def test_an_output_that_is_not_an_image_is_an_error_naming_the_cure(value) -> None:
    with pytest.raises(UncoveredError, match="'pil', 'np' or 'pt'"):
        layouts.frames(value)


@pytest.mark.parametrize(
    ("value", "clips", "sizes"),
    [
        (None, False, []),
        ([], False, []),
        ([], True, []),
        (PIL[0], False, [1]),
        (PIL, False, [1] * 6),
        (PIL, True, [6]),
        ([PIL[:2], PIL[2:]], False, [2, 4]),
        ([PIL[:2], PIL[2:]], True, [2, 4]),
        (tuple(PIL), False, [1] * 6),
        (ARRAY, True, [3, 3]),
        (ARRAY, False, [3, 3]),
        (ARRAY[0], True, [3]),
        (ARRAY[0], False, [1, 1, 1]),
        (ARRAY[0, 0], False, [1]),
        (list(ARRAY), True, [3, 3]),
        (list(ARRAY[0]), True, [3]),
        (TENSOR, True, [3, 3]),
        (TENSOR[0], False, [1, 1, 1]),
        ([TENSOR[0], TENSOR[1]], True, [3, 3]),
    ],
)  # fmt: skip
def test_entries_are_images_or_clips(value, clips, sizes) -> None:
    assert shape(layouts.split_entries(value, clips=clips)) == sizes


@pytest.mark.parametrize("value", [PIL, [PIL[:3], PIL[3:]], ARRAY, TENSOR, list(TENSOR), ARRAY[0, 0]])
def test_without_replacements_the_same_object_comes_back(value) -> None:
    count = len(layouts.frames(value))
    assert layouts.replace_frames(value, iter([None] * count)) is value


def test_one_frame_replaced_leaves_the_others_and_the_original() -> None:
    for value in (ARRAY, TENSOR):
        before = value.copy() if isinstance(value, np.ndarray) else value.clone()
        news = [None] * 6
        news[4] = value[1, 1] * 0
        out = layouts.replace_frames(value, iter(news))
        assert float(out[1, 1].sum()) == 0
        assert all(bool((out[i, j] == value[i, j]).all()) for i in range(2) for j in range(3) if (i, j) != (1, 1))
        assert bool((value == before).all())


def test_a_view_that_is_not_contiguous_is_put_back_too() -> None:
    turned = TENSOR.permute(0, 1, 2, 4, 3)
    news = [None] * 6
    news[0] = torch.zeros(3, 6, 4)
    out = layouts.replace_frames(turned, iter(news))
    assert float(out[0, 0].sum()) == 0
    assert torch.equal(out[0, 1:], turned[0, 1:])


def test_lists_keep_their_kind_and_the_images_that_stay() -> None:
    new = Image.new("RGB", (6, 4))
    out = layouts.replace_frames([tuple(PIL[:2]), PIL[2:]], iter([None, new, None, None, None, None]))
    assert out[0] == (PIL[0], new)
    assert out[1][0] is PIL[2]


def test_a_frame_is_identified_by_its_memory() -> None:
    assert identity(ARRAY[0][1]) == identity(ARRAY[0, 1])
    assert identity(TENSOR[1][2]) == identity(TENSOR[1, 2])
    assert identity(ARRAY[0, 1]) != identity(ARRAY[0, 2])
    assert identity(ARRAY[0, 0]) != identity(ARRAY[0, 0].copy())
    assert identity(PIL[0]) != identity(PIL[0].copy())


def test_channels_are_found_first_or_last() -> None:
    first, last = torch.rand(3, 8, 9), torch.rand(8, 9, 3)
    assert layouts.channels_for_guard(first) is first
    assert layouts.channels_for_guard(last).shape == (3, 8, 9)
    assert torch.equal(layouts.restore_layout(layouts.channels_for_guard(last), last), last)
    array = np.zeros((4, 8, 9), np.float32)
    assert layouts.channels_for_guard(array).shape == (8, 9, 4)
    assert layouts.restore_layout(layouts.channels_for_guard(array), array).shape == (4, 8, 9)
    assert layouts.channels_for_guard(np.zeros((8, 9))).shape == (8, 9)


def test_frames_of_one_kind_are_one_stack() -> None:
    assert layouts.stack(PIL, None).shape == (6, 3, 4, 6)
    assert layouts.stack(PIL, None).dtype == torch.uint8
    assert layouts.stack(list(ARRAY[0]), torch.device("cpu")).shape == (3, 3, 4, 6)
    assert layouts.stack(list(TENSOR[0]), None).shape == (3, 3, 4, 6)


@pytest.mark.parametrize(
    "frames",
    [
        [PIL[0], Image.new("RGB", (7, 4))],
        [Image.new("RGBA", (6, 4))],
        [PIL[0], ARRAY[0, 0]],
        [np.zeros((4, 6, 3), np.uint16)],
        [np.zeros((4, 6), np.float32)],
        [torch.zeros(3, 4, 6), torch.zeros(3, 4, 7)],
    ],
)
def test_frames_that_do_not_stack_stay_a_list(frames) -> None:
    stacked = layouts.stack(frames, None)
    assert isinstance(stacked, list)
    assert all(a is b for a, b in zip(stacked, frames, strict=True))
