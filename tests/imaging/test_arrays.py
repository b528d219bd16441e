"""Arrays are read in the range that is told; what cannot be looked at whole, or covered, is refused."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
import torch

from nsfw_guard.errors import ConfigError, ImageError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.arrays import as_tensor, is_odd, plain, refuse_odd
from nsfw_guard.imaging.frames import Frames, count_of, first_frame, in_groups
from nsfw_guard.imaging.put_back import put_back
from nsfw_guard.testing import FakeBackend
from nsfw_guard.verdict import Outcome

SHAPES = [(6, 8), (6, 8, 1), (6, 8, 3), (6, 8, 4)]
KINDS = ["f2", "f4", "f8", ">f4", "g"]
Pair = namedtuple("Pair", "first second")
UNIT = torch.full((3, 6, 8), 0.5)


def levels_of(images, **settings) -> list[int]:
    """The levels of the first frame of everything."""
    (group,) = in_groups(images, **settings)
    return group.stacks[0].quantise()[0][0].unique().tolist()


# the range


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["alone", "in a list", "in a batch", "turned"])
def test_every_layout_and_dtype_is_read_in_the_declared_range(shape, kind, how) -> None:
    signed, unit = (np.full(shape, level, kind) for level in (0.75, 0.875))
    if shape[2:] == (4,):
        signed[..., 3] = unit[..., 3] = 1  # opaque
    for array, value_range in ((signed, "signed"), (unit, "unit")):
        images = {"alone": array, "in a list": [array], "in a batch": array[None], "turned": array[::-1]}[how]
        if how == "in a batch" and len(shape) == 2:
            images = [array]  # three axes are one image
        assert levels_of(images, value_range=value_range) == [223]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_light_image_in_the_signed_range_is_judged_as_it_is_saved(shape, kind) -> None:
    guard = Guard(FakeBackend(lambda levels: float((levels.int().amin(0) > 230).float().mean())))
    given = np.full(shape, 0.86, kind)
    out, (verdict,) = guard(given, value_range="signed")
    assert verdict.outcome is Outcome.BLOCK
    assert out is not given
    assert (out.shape, out.dtype) == (given.shape, given.dtype)
    colours = out[..., :3] if len(shape) == 3 else out
    assert levels_of(np.ascontiguousarray(colours), value_range="signed")[-1] < 230


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("value", "value_range"), [(-0.5, "unit"), (9.0, "signed"), (np.nan, "signed")])
def test_values_outside_the_declared_range_are_never_released(shape, value, value_range) -> None:
    given = np.full(shape, 0.1, np.float32)
    given[2, 3] = value
    (verdict,) = Guard(FakeBackend()).check([given], value_range=value_range)
    assert verdict.outcome is Outcome.ERROR


def test_a_number_too_large_for_torch_is_a_fault() -> None:
    given = np.full((6, 8, 3), np.finfo(np.longdouble).max)
    (verdict,) = Guard(FakeBackend()).check([given], value_range="signed")
    assert verdict.outcome is Outcome.ERROR


@pytest.mark.parametrize("kind", ["u1", "u2", ">u2"])
@pytest.mark.parametrize("shape", SHAPES)
def test_integers_have_the_range_of_their_type_whatever_is_declared(kind, shape) -> None:
    most = np.iinfo(kind).max
    for value_range in ("unit", "signed"):
        assert levels_of([np.full(shape, most, kind)], value_range=value_range) == [255]


@pytest.mark.parametrize("kind", ["u2", ">u2"])
def test_a_cover_of_sixteen_bits_is_as_light_in_either_byte_order(kind) -> None:
    result = put_back(np.zeros((6, 8, 3), kind), {0: torch.ones(3, 6, 8)})
    assert result.dtype == np.dtype(kind)
    assert np.unique(result).tolist() == [65535]


@pytest.mark.parametrize("images", ["no file", [b""], np.zeros((6, 8)), np.zeros((6, 8, 3), np.uint8)])
def test_an_unknown_range_is_refused_for_every_kind_of_input(images) -> None:
    with pytest.raises(ConfigError, match="did you mean 'signed'"):
        in_groups(images, value_range="sined")


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (np.zeros((6, 8)), (1, 6, 8)),
        (np.zeros((6, 8, 4), np.longdouble), (4, 6, 8)),
        (np.zeros((6, 8, 3), np.uint8)[::-1], (3, 6, 8)),
        (np.zeros((6, 8), np.uint8), None),
        (np.zeros((6, 8, 2)), None),
        (np.zeros((6, 8, 3), np.int64), None),
        (np.zeros((6, 8, 3), np.uint16), None),
        (np.zeros(6), None),
    ],
)
def test_arrays_with_a_declared_range_become_tensors(array, shape) -> None:
    tensor = as_tensor(array)
    assert (None if tensor is None else tuple(tensor.shape)) == shape


def test_a_plain_array_is_copied_only_where_it_must_be() -> None:
    array = np.zeros((6, 8, 3), np.uint8)
    assert plain(array) is array
    assert plain(array[::-1]).strides[0] > 0
    assert plain(np.broadcast_to(array[:1], (6, 8, 3))).flags.writeable


# what is refused


class Deaf(np.ndarray):
    """An array that keeps whatever is written into it out."""

    def __setitem__(self, index, value):
        pass


def _jagged(unit: torch.Tensor) -> torch.Tensor:
    return torch.nested.nested_tensor([unit[0, 0], unit[0, 0]], layout=torch.jagged)


def odd() -> dict[str, object]:
    """What is refused unread, as one batch."""
    red = np.zeros((2, 6, 8, 3), np.uint8)
    unit = torch.zeros(2, 3, 6, 8)
    return {
        "a masked array": np.ma.array(red, mask=True, hard_mask=True),
        "masked NaN": np.ma.masked_invalid(np.full((6, 8, 4), np.nan, np.float32)),
        "a deaf array": red.view(Deaf),
        "a record array": red.view(np.recarray),
        "a matrix": np.zeros((6, 8), np.uint8).view(np.matrix),
        "float8": unit.to(torch.float8_e4m3fn),
        "sparse": unit.to_sparse(),
        "compressed": unit[0, 0].to_sparse_csr(),
        "mkldnn": unit.to_mkldnn(),
        "nested": torch.nested.nested_tensor([unit[0], unit[1]]),
        **({"jagged": _jagged(unit)} if hasattr(torch, "jagged") else {}),
        "quantised": torch.quantize_per_tensor(unit, 1 / 255, 0, torch.quint8),
        "no pixels": unit.to("meta"),
        "masked tensor": torch.masked.masked_tensor(unit, unit == 0),
        "named tuple": Pair(red[0], red[1]),
    }


CURES = {
    "a masked array": r"array\.filled\(0\)",
    "masked NaN": r"array\.filled\(0\)",
    "a deaf array": r"got Deaf: pass numpy\.array",
    "a record array": r"got recarray: pass numpy\.array",
    "a matrix": r"got matrix: pass numpy\.array",
    "float8": r"got torch\.float8_e4m3fn: convert the tensor first",
    "sparse": r"sparse_coo: pass it\.to_dense",
    "compressed": r"sparse_csr: pass it\.to_dense",
    "mkldnn": r"_mkldnn: pass it\.to_dense",
    "nested": r"list\(it\.unbind\(\)\)",
    "jagged": r"list\(it\.unbind\(\)\)",
    "quantised": r"it\.dequantize",
    "no pixels": "has no pixels",
    "masked tensor": "got MaskedTensor: convert it to a torch.Tensor",
    "named tuple": r"got Pair: pass list\(it\)",
}


if not hasattr(torch, "jagged"):  # before 2.2
    del CURES["jagged"]


@pytest.mark.filterwarnings("ignore")  # torch says of each that it is a prototype
@pytest.mark.parametrize("name", CURES)
def test_odd_arrays_are_refused_at_every_entry_point(name) -> None:
    given = odd()[name]
    verdict = Guard(FakeBackend()).check([UNIT])[0]
    doors = [
        refuse_odd,
        in_groups,
        count_of,
        Guard(FakeBackend()).check,
        Guard(FakeBackend()),
        lambda images: Guard(FakeBackend()).apply(images, [verdict, verdict]),
        lambda images: put_back(images, {}),
        lambda images: put_back(images, {0: UNIT}),
    ]
    for door in doors:
        with pytest.raises(ImageError, match=CURES[name]):
            door(given)
    if isinstance(given, torch.Tensor):
        with pytest.raises(ImageError, match=CURES[name]):
            Frames(given)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in CURES if name != "named tuple"])
def test_in_a_list_an_odd_array_is_an_error_of_that_image_only(name) -> None:
    given = [UNIT, odd()[name], UNIT]
    out, verdicts = Guard(FakeBackend())(given)
    assert [v.outcome for v in verdicts] == [Outcome.ALLOW, Outcome.ERROR, Outcome.ALLOW]
    assert out[0] is given[0]
    assert out[1] is not given[1]
    assert type(out[1]) is not type(given[1]) or name in {"float8"}
    assert not is_odd(out[1])
    assert first_frame(given, 1, value_range="unit", limits=None).unique().tolist() == [0]


@pytest.mark.parametrize(
    "images",
    [torch.nn.Parameter(UNIT), UNIT.requires_grad_(False).expand(2, 3, 6, 8), np.zeros((6, 8)), [1], (1,), "a", None],
)
def test_plain_inputs_are_not_odd(images) -> None:
    assert not is_odd(images)


def test_an_array_in_a_file_is_an_image_and_its_cover_stays_out_of_the_file(tmp_path) -> None:
    np.save(tmp_path / "a.npy", np.full((2, 6, 8, 3), 7, np.uint8))
    for mode in ("r", "r+", "c"):
        given = np.load(tmp_path / "a.npy", mmap_mode=mode)
        assert levels_of(given) == [7]
        result = put_back(given, {0: torch.ones(3, 6, 8)})
        assert [np.unique(image).tolist() for image in result] == [[255], [7]]
        assert np.unique(np.load(tmp_path / "a.npy")).tolist() == [7]


class Own(list):
    """A list of one's own."""


class Longer(list):
    """A list that adds what nobody judged."""

    def __init__(self, given=()):
        super().__init__([*given, b"unjudged"])


class Exchanging(list):
    """A list that holds another thing in the last place."""

    def __init__(self, given=()):
        super().__init__([*list(given)[:-1], object()])


class Fixed(list):
    """A list that is made in its own way only."""

    def __init__(self, one, two):
        super().__init__([one, two])


def test_a_list_subclass_holds_what_was_put_back_or_is_refused() -> None:
    result = put_back(Own([UNIT, UNIT]), {0: torch.zeros(3, 6, 8)})
    assert type(result) is Own
    assert [float(image.max()) for image in result] == [0.0, 0.5]
    for given, why in (
        (Longer([UNIT]), "changes the items"),
        (Exchanging([UNIT, UNIT]), "changes the items"),
        (Fixed(UNIT, UNIT), "cannot be built from a list"),
    ):
        with pytest.raises(ImageError, match=f"{why}.*pass list"):
            put_back(given, {0: UNIT})
