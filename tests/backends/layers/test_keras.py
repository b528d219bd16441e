"""A Keras topology as layers: the numbers of the formulas, and a refusal by name of everything that is not known."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from nsfw_guard.backends.layers.keras import read_keras
from nsfw_guard.backends.layers.layers_model import LayersNet
from nsfw_guard.errors import ConfigError, WeightsUnfitError
from tests.backends.layers import by_hand
from tests.backends.layers.bundles import conv, dense, keras, layer, small, start


def tensors_of(arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.asarray(values)).double() for name, values in arrays.items()}


def net_of(topology, arrays) -> LayersNet:
    """The network, in double precision."""
    layers, tensors = read_keras(topology, tensors_of(arrays))
    net = LayersNet(layers).double()
    net.load_state_dict(tensors, strict=True)
    return net


def test_a_network_gives_the_numbers_of_the_formulas() -> None:
    topology, arrays = small()
    net = net_of(topology, arrays)
    images = np.random.default_rng(1).uniform(size=(3, 12, 12, 3))
    with torch.no_grad():
        numbers, embedding = net.forward_with_embedding(torch.from_numpy(images).permute(0, 3, 1, 2))
        again = net(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert torch.equal(numbers, again)
    assert net.width == 5
    for i, image in enumerate(images):
        expected, features = by_hand.small(image, arrays)
        np.testing.assert_allclose(numbers[i].softmax(-1).numpy(), expected, atol=1e-10)
        np.testing.assert_allclose(embedding[i].numpy(), features, atol=1e-10)


@pytest.mark.parametrize("first", ["InputLayer", "Conv2D"])
def test_a_sequential_is_a_chain(first) -> None:
    shape = [None, 6, 6, 3]
    layers = [
        conv("conv", "in", 4, 3, activation="relu6", use_bias=True),
        layer("GlobalAveragePooling2D", "mean", "conv", data_format="channels_last"),
        dense("last", "mean", 3),
    ]
    layers = [start(6), *layers] if first == "InputLayer" else layers
    layers[0]["config"]["batch_input_shape"] = shape
    for each in layers:
        del each["inbound_nodes"]
    rng = np.random.default_rng(0)
    arrays = {"conv/kernel": rng.normal(size=(3, 3, 3, 4)) * 5, "conv/bias": rng.normal(size=4),
              "last/kernel": rng.normal(size=(4, 3)), "last/bias": rng.normal(size=3)}  # fmt: skip
    image = rng.uniform(size=(6, 6, 3))
    features = np.clip(by_hand.conv(image, arrays["conv/kernel"]) + arrays["conv/bias"], 0, 6).mean((0, 1))
    for config in (layers, {"name": "sequential", "layers": layers}):
        net = net_of({"model_config": {"class_name": "Sequential", "config": config}}, arrays)
        with torch.no_grad():
            numbers, embedding = net.forward_with_embedding(torch.from_numpy(image).permute(2, 0, 1)[None])
        np.testing.assert_allclose(embedding[0].numpy(), features, atol=1e-10)
        np.testing.assert_allclose(
            numbers[0].numpy(), features @ arrays["last/kernel"] + arrays["last/bias"], atol=1e-10
        )


def set_in(name: str, **values):
    """A change of the arguments of one layer."""

    def change(topology, tensors) -> None:
        listed(topology, name)["config"].update(values)

    return change


def listed(topology, name: str) -> dict:
    return next(each for each in topology["model_config"]["config"]["layers"] if each["name"] == name)


def put(key: str, value):
    """A change of the model."""
    return lambda topology, tensors: topology["model_config"]["config"].update({key: value})


def after(name: str, nodes):
    return lambda topology, tensors: listed(topology, name).update(inbound_nodes=nodes)


def kind(name: str, class_name: str):
    return lambda topology, tensors: listed(topology, name).update(class_name=class_name)


def halved(topology, arrays) -> None:
    """A kernel of as many numbers, for half of the channels and twice the outputs of each."""
    kernel = arrays["deep/depthwise_kernel"]
    arrays["deep/depthwise_kernel"] = kernel.reshape(*kernel.shape[:2], kernel.shape[2] // 2, -1)


WRONG = [
    (halved, "the kernel of the DepthwiseConv2D 'deep' has 2 for each channel, expected '1'"),
    (kind("relu", "Lambda"), "unknown layer of Keras 'Lambda'"),
    (kind("relu", "Model"), "unknown layer of Keras 'Model'"),
    (kind("conv", "Conv3D"), "unknown layer of Keras 'Conv3D'"),
    (set_in("conv", kernel_size=[3, 3, 3]), "kernel of layer 2 .Conv2D. must be 2 whole numbers"),
    (set_in("conv", kernel_size="3"), "kernel of layer 2"),
    (set_in("conv", filters=1e9), "filters of layer 2"),
    (set_in("conv", data_format="channels_first"), "data_format = 'channels_first': only channels_last is read"),
    (set_in("conv", groups=2), "groups = '2': only 1 is read"),
    (set_in("conv", dtype="float16"), "dtype = 'float16': only float32"),
    (set_in("conv", function="os.system"), "the Conv2D 'conv' has function = 'os.system': it is not known"),
    (set_in("conv", activation="gelu"), "must be one of 'sigmoid', 'tanh'"),
    (set_in("conv", activation={"class_name": "x"}), "must be one of 'sigmoid', 'tanh'"),
    (set_in("conv", padding="causal"), "must be one of 'same', 'valid'"),
    (set_in("norm", axis=1), "axis = '1': only"),
    (set_in("norm", epsilon=None), "epsilon of layer 3"),
    (set_in("norm", renorm=True), "has renorm"),
    (set_in("relu", threshold=1), "threshold = '1': only 0"),
    (set_in("relu", max_value=-1), "must be a positive number or null"),
    (set_in("relu", max_value="6"), "must be a positive number or null"),
    (set_in("pad", padding=[1, 1]), "must be \\[\\[above, below\\], \\[left, right\\]\\]"),
    (set_in("pad", padding=[[0, 1], [0, 9999]]), "padding of layer 1"),
    (set_in("both", axis=1), "axis = '1'"),
    (set_in("in", batch_input_shape=[None, 12, 13, 3]), "must be \\[null, size, size, 3\\]"),
    (set_in("in", batch_input_shape=[None, 10**9, 10**9, 3]), "size of layer 0"),
    (lambda t, _: listed(t, "add")["config"].update(name="relu"), "two layers are called 'relu'"),
    (after("relu", [[["deep", 0, 0, {}]]]), "takes 'deep', which is no layer before it"),
    (after("relu", [[["norm", 1, 0, {}]]]), "must be \\[name, 0, 0\\]"),
    (after("relu", [[["norm", 0, 0, {"mask": 1}]]]), "must be \\[name, 0, 0\\]"),
    (after("relu", [[["norm", 0, 0, {}]], [["conv", 0, 0, {}]]]), "must be called once"),
    (after("relu", {"args": []}), "must be called once"),
    (after("relu", []), "must take 1 earlier layers, got '\\[\\]'"),
    (after("drop", []), "must take one layer, got 0"),
    (after("drop", [[["first", 0, 0, {}], ["flat", 0, 0, {}]]]), "must take one layer, got 2"),
    (after("first", [[["flat", 0, 0, {}], ["flat", 0, 0, {}]]]), "must take 1 earlier layers"),
    (put("output_layers", [["first", 0, 0]]), "the output must be that of the last layer"),
    (put("output_layers", [["last", 0, 0], ["first", 0, 0]]), "the output must be that of the last layer"),
    (put("output_layers", None), "the output must be that of the last layer"),
    (put("layers", None), "with a list of layers"),
    (put("layers", [1]), "layer 0 must be an object"),
    (put("layers", []), "the output must be|one Input first"),
    (lambda t, _: t.update(model_config=None), "must be a Keras Model or Sequential"),
    (lambda t, _: t["model_config"].update(class_name="Lambda"), "must be a Keras Model or Sequential"),
    (lambda t, _: listed(t, "conv").update(config=7), "config of a Conv2D must be an object"),
    (set_in("last", activation="relu"), "one Softmax last after a Dense"),
    (set_in("first", activation="softmax"), "one Softmax last after a Dense"),
    (lambda _, w: w.pop("conv/kernel"), "no tensor 'conv/kernel' is left"),
    (lambda _, w: w.update(extra=np.ones(3)), "no layer takes the tensor 'extra'"),
    (lambda _, w: w.update({"conv/kernel": np.ones((3, 3, 3))}), "'conv/kernel' must have 4 sides, got \\(3, 3, 3\\)"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_what_is_not_known_is_refused_by_name(change, message) -> None:
    topology, arrays = copy.deepcopy(small())
    change(topology, arrays)
    with pytest.raises((ConfigError, WeightsUnfitError), match=message) as raised:
        read_keras(topology, tensors_of(arrays))
    assert "\n" not in str(raised.value)


def test_a_layer_that_leads_nowhere_is_refused() -> None:
    topology, arrays = small()
    idle = layer("Flatten", "idle", "in", data_format="channels_last")
    topology["model_config"]["config"]["layers"].insert(1, idle)
    with pytest.raises(WeightsUnfitError, match=r"no layer takes the output of layer 1 .Flatten."):
        read_keras(topology, tensors_of(arrays))


def test_a_network_without_a_dense_layer_before_its_softmax_is_refused() -> None:
    layers = [
        start(),
        layer("GlobalAveragePooling2D", "mean", "in"),
        layer("Activation", "a", "mean", activation="softmax"),
    ]
    with pytest.raises(WeightsUnfitError, match="after a Dense"):
        read_keras(keras(layers), {})
