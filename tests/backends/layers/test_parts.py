"""Each layer beside TensorFlow's formula, written out with loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nsfw_guard.backends.layers.parts import POOL_WORK, make, window
from nsfw_guard.backends.layers.topology import read_layer
from nsfw_guard.errors import ConfigError, WeightsUnfitError
from tests.backends.layers import by_hand

RNG = np.random.default_rng(0)
PADDINGS = ("same", "valid")
KERNELS = [((3, 3), (1, 1)), ((3, 3), (2, 2)), ((2, 2), (2, 2)), ((1, 7), (1, 1)), ((5, 2), (3, 2)), ((4, 3), (1, 2)),
           ((1, 1), (2, 3))]  # fmt: skip
SIZES = [(7, 8), (9, 7), (8, 11)]


def run(kind: str, *images: np.ndarray, weights: dict[str, np.ndarray] | None = None, **args) -> np.ndarray:
    """What the layer makes of images (H, W, C), as TensorFlow has them."""
    inputs = [torch.from_numpy(np.moveaxis(image, -1, 0)).double()[None] for image in images]
    layer = read_layer({"kind": kind, "inputs": list(range(len(images))), **args}, 9)
    part = make(layer, [tuple(x.shape[1:]) for x in inputs]).double()
    part.load_state_dict({name: torch.from_numpy(value).double() for name, value in (weights or {}).items()})
    with torch.no_grad():
        output = part(*inputs)
    assert tuple(output.shape[1:]) == part.shape
    return np.moveaxis(output[0].numpy(), 0, -1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kernel", "strides"), KERNELS)
@pytest.mark.parametrize("padding", PADDINGS)
def test_convolutions_and_pools(size, kernel, strides, padding) -> None:
    image = RNG.normal(size=(*size, 3))
    args = {"strides": list(strides), "padding": padding}
    weight, bias = RNG.normal(size=(*kernel, 3, 4)), RNG.normal(size=4)
    ours = run("Conv2D", image, weights={"weight": weight.transpose(3, 2, 0, 1), "bias": bias}, filters=4,
               kernel=list(kernel), dilation=[1, 1], bias=True, **args)  # fmt: skip
    np.testing.assert_allclose(ours, by_hand.conv(image, weight, strides, padding) + bias, atol=1e-12)
    deep = RNG.normal(size=(*kernel, 3, 2))
    ours = run("DepthwiseConv2D", image, weights={"weight": deep.transpose(2, 3, 0, 1).reshape(6, 1, *kernel)},
               multiplier=2, kernel=list(kernel), dilation=[1, 1], bias=False, **args)  # fmt: skip
    np.testing.assert_allclose(ours, by_hand.depthwise(image, deep, strides, padding), atol=1e-12)
    for kind, formula in (("AveragePooling2D", by_hand.mean), ("MaxPooling2D", by_hand.most)):
        ours = run(kind, image, pool=list(kernel), **args)
        np.testing.assert_allclose(ours, formula(image, kernel, strides, padding), atol=1e-12)


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_dilated_convolution_is_one_with_gaps(padding) -> None:
    image, weight = RNG.normal(size=(9, 8, 2)), RNG.normal(size=(3, 2, 2, 3))
    gaps = np.zeros((5, 4, 2, 3))
    gaps[::2, ::3] = weight
    ours = run("Conv2D", image, weights={"weight": weight.transpose(3, 2, 0, 1)}, filters=3, kernel=[3, 2],
               strides=[1, 1], dilation=[2, 3], bias=False, padding=padding)  # fmt: skip
    np.testing.assert_allclose(ours, by_hand.conv(image, gaps, (1, 1), padding), atol=1e-12)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "expected"),
    [(224, 3, 2, (0, 1, 112)), (225, 3, 2, (1, 1, 113)), (7, 3, 1, (1, 1, 7)), (5, 2, 1, (0, 1, 5)),
     (8, 7, 7, (3, 3, 2)), (6, 1, 3, (0, 0, 2))],
)  # fmt: skip
def test_same_puts_the_odd_pixel_after_the_image(side, kernel, stride, expected) -> None:
    assert window(side, kernel, stride, 1, "same") == expected


@pytest.mark.parametrize(("center", "scale"), [(True, True), (True, False), (False, True), (False, False)])
def test_normalisation_uses_its_epsilon_and_its_flags(center, scale) -> None:
    image = RNG.normal(size=(4, 5, 3))
    mean, variance, gamma, beta = (RNG.uniform(0.1, 2, 3) for _ in range(4))
    weights = {"mean": mean, "variance": variance}
    weights |= {"weight": gamma} if scale else {}
    weights |= {"bias": beta} if center else {}
    ours = run("BatchNormalization", image, weights=weights, epsilon=0.25, center=center, scale=scale)
    expected = (image - mean) / np.sqrt(variance + 0.25) * (gamma if scale else 1) + (beta if center else 0)
    np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_the_small_layers() -> None:
    image, other = RNG.normal(size=(4, 5, 3)) * 5, RNG.normal(size=(4, 5, 3))
    for most, slope in ((0, 0), (6, 0), (2.5, 0.1), (0, 0.3)):
        expected = np.minimum(np.where(image < 0, slope * image, image), most or np.inf)
        np.testing.assert_allclose(run("ReLU", image, max_value=most, negative_slope=slope), expected)
    np.testing.assert_allclose(run("Activation", image, function="sigmoid"), 1 / (1 + np.exp(-image)))
    np.testing.assert_allclose(run("Activation", image, function="tanh"), np.tanh(image))
    np.testing.assert_allclose(run("Rescaling", image, scale=2, offset=-1), image * 2 - 1)
    padded = np.pad(image, [(1, 2), (0, 3), (0, 0)])
    np.testing.assert_array_equal(run("ZeroPadding2D", image, padding=[1, 2, 0, 3]), padded)
    np.testing.assert_allclose(run("Add", image, other, image), 2 * image + other)
    np.testing.assert_array_equal(run("Concatenate", image, other), np.concatenate([image, other], -1))
    np.testing.assert_allclose(run("GlobalAveragePooling2D", image), image.mean((0, 1)))
    # Keras counts the channels first.
    np.testing.assert_array_equal(run("Flatten", image), image.reshape(-1))
    np.testing.assert_array_equal(run("Flatten", image[0, 0]), image[0, 0])
    vector, matrix, bias = image.reshape(-1), RNG.normal(size=(60, 4)), RNG.normal(size=4)
    ours = run("Dense", vector, weights={"weight": matrix.T, "bias": bias}, units=4, bias=True)
    np.testing.assert_allclose(ours, vector @ matrix + bias)


CONV = {"kind": "Conv2D", "inputs": [0], "filters": 4, "kernel": [3, 3], "strides": [1, 1], "dilation": [1, 1],
        "padding": "valid", "bias": False}  # fmt: skip
POOL = {"kind": "MaxPooling2D", "inputs": [0], "pool": [2, 2], "strides": [1, 1], "padding": "valid"}
WRONG = [
    ({"kind": "Lambda"}, "unknown kind of layer 'Lambda'"),
    ({"kind": None}, "unknown kind of layer None"),
    ({"inputs": [9]}, "must take 1 earlier layers"),
    ({"inputs": [-1]}, "must take 1 earlier layers"),
    ({"inputs": [0, 1]}, "must take 1 earlier layers"),
    ({"inputs": [True]}, "must take 1 earlier layers"),
    ({"inputs": "0"}, "must take 1 earlier layers"),
    ({"filters": 0}, "filters of layer 9 .Conv2D. must be a whole number from 1 to 4096, got '0'"),
    ({"filters": 1 << 40}, "filters of layer 9"),
    ({"filters": None}, "filters of layer 9"),
    ({"kernel": [3]}, "kernel of layer 9"),
    ({"kernel": [3, 1000]}, "kernel of layer 9"),
    ({"strides": [0, 1]}, "strides of layer 9"),
    ({"strides": [1.5, 1]}, "strides of layer 9"),
    ({"padding": "causal"}, "padding of layer 9"),
    ({"bias": 1}, "bias of layer 9"),
    ({"code": "x"}, "unknown argument 'code'"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_wrong_layer_is_refused_by_name(change, message) -> None:
    read_layer(CONV, 9)
    with pytest.raises((ConfigError, WeightsUnfitError), match=message):
        read_layer({**CONV, **change}, 9)


@pytest.mark.parametrize(
    ("entry", "sources", "message"),
    [
        (CONV, [(3, 2, 2)], "does not fit into"),
        (CONV, [(12,)], "must take images"),
        ({**CONV, "kernel": [64, 64], "dilation": [64, 64], "padding": "same"}, [(256, 1, 1)], "would be padded to 41"),
        ({**CONV, "filters": 1, "kernel": [64, 64]}, [(3, 2048, 2048)], "would look at 48417484800 numbers"),
        ({**POOL, "pool": [64, 64], "padding": "same"}, [(262_144, 1, 1)], "padded to 1073741824 numbers"),
        ({**CONV, "filters": 4096, "padding": "same"}, [(3, 2048, 2048)], "more than 16777216"),
        ({"kind": "Add", "inputs": [0, 1]}, [(3, 4, 4), (1, 4, 4)], "outputs of one shape"),
        ({"kind": "Concatenate", "inputs": [0, 1]}, [(3, 4, 4), (3, 4, 5)], "images of one size"),
        ({"kind": "Concatenate", "inputs": [0, 1]}, [(3, 4, 4), (3,)], "images of one size"),
        ({"kind": "Dense", "inputs": [0], "units": 3, "bias": True}, [(3, 4, 4)], "must take a vector"),
        ({"kind": "Flatten", "inputs": [0]}, [(4096, 2048, 2048)], "more than 16777216"),
    ],
)
def test_layers_that_do_not_fit_each_other_are_refused(entry, sources, message) -> None:
    with pytest.raises(WeightsUnfitError, match=message):
        make(read_layer(entry, 9), sources)


@pytest.mark.parametrize("kind", ["MaxPooling2D", "AveragePooling2D"])
def test_the_work_of_a_pool_counts(kind) -> None:
    part = make(read_layer({**POOL, "kind": kind, "pool": [8, 4]}, 9), [(3, 20, 20)])
    assert part.work == POOL_WORK * 8 * 4 * 3 * 13 * 17
    assert make(read_layer({"kind": "Flatten", "inputs": [0]}, 9), [(3, 20, 20)]).work == 0
