"""Small networks in the format of the packages of TensorFlow.js, with weights drawn here."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from nsfw_guard.backends.spec import Label, ModelSpec
from nsfw_guard.imaging.views import InputSpec

HEAD = (
    '!function(e){if("object"==typeof exports&&"undefined"!=typeof module)module.exports=e();else{(self).model=e()}}'
    '(function(){return function e(a,n,i){function l(o,s){return n[o].exports}for(var t="function"==typeof require;;)'
    "return l}({1:[function(e,a,n){a.exports="
)
TAIL = "},{}]},{},[1])(1)});"
SIDE = 12
SPEC = ModelSpec(
    name="small",
    kind="layers",
    architecture="layers-model",
    input=InputSpec(size=SIDE, interpolation="bilinear-aligned", crop_mode="squash", mean=(0.0,) * 3, std=(1.0,) * 3),
    labels={"Drawing": None, "Hentai": Label("sexual"), "Neutral": None},
)


def js(value: Any) -> str:
    """A value as a minifier writes it: bare keys, !0 and !1, no zero before a point."""
    if isinstance(value, Mapping):
        keys = (key if re.fullmatch(r"[A-Za-z_]\w*", key) else json.dumps(key) for key in value)
        return "{" + ",".join(f"{key}:{js(item)}" for key, item in zip(keys, value.values(), strict=True)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(js, value)) + "]"
    if isinstance(value, bool):
        return "!0" if value else "!1"
    return re.sub(r"^(-?)0\.", r"\1.", json.dumps(value))


def bundle(value: Any) -> bytes:
    """A file with one module, as a bundler writes it."""
    return f"{HEAD}{value if isinstance(value, str) else js(value)}{TAIL}".encode()


def stored(name: str, values: np.ndarray, dtype: str = "float32") -> tuple[dict[str, Any], bytes]:
    """The manifest's entry of a tensor, and its bytes."""
    entry: dict[str, Any] = {"name": name, "shape": list(values.shape), "dtype": "float32"}
    if dtype in {"float32", "float16"}:
        quantised = {"quantization": {"dtype": dtype}} if dtype == "float16" else {}
        return {**entry, **quantised}, values.astype(f"<f{2 if dtype == 'float16' else 4}").tobytes()
    most = 255 if dtype == "uint8" else 65535
    low, scale = float(values.min()), float(np.ptp(values) / most) or 1.0
    levels = np.round((values - low) / scale).astype(f"<u{1 if dtype == 'uint8' else 2}")
    return {**entry, "quantization": {"min": low, "scale": scale, "dtype": dtype}}, levels.tobytes()


def files(
    topology: Any, tensors: Mapping[str, np.ndarray], dtype: str = "float32", shards: int = 2
) -> dict[str, bytes]:
    """The files of a network by name, its bytes cut into shards wherever they happen to end."""
    entries, parts = zip(*(stored(name, values, dtype) for name, values in tensors.items()), strict=True)
    data, names = b"".join(parts), [f"group1-shard{i + 1}of{shards}" for i in range(shards)]
    step = -(-len(data) // shards)
    model = {"modelTopology": topology, "weightsManifest": [{"paths": names, "weights": list(entries)}]}
    texts = {name: base64.b64encode(data[i * step : (i + 1) * step]).decode() for i, name in enumerate(names)}
    return {"model.min.js": bundle(model), **{f"{name}.min.js": bundle(json.dumps(t)) for name, t in texts.items()}}


def layer(class_name: str, name: str, after: str | list[str], **config: Any) -> dict[str, Any]:
    """A layer of a Keras model that takes one layer, several or none."""
    calls = [[name, 0, 0, {}] for name in ([after] if isinstance(after, str) else after)]
    nodes = [calls] if calls else []
    full = {"name": name, "trainable": False, **config}
    return {"name": name, "class_name": class_name, "config": full, "inbound_nodes": nodes}


def keras(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """The topology of a Keras model whose output is that of the last layer."""
    last = layers[-1]["name"]
    config = {"name": "model_1", "layers": layers, "input_layers": [["in", 0, 0]], "output_layers": [[last, 0, 0]]}
    return {
        "keras_version": "2.2.4",
        "backend": "tensorflow",
        "model_config": {"class_name": "Model", "config": config},
    }


def start(side: int = SIDE) -> dict[str, Any]:
    """The input layer."""
    return layer("InputLayer", "in", [], batch_input_shape=[None, side, side, 3], dtype="float32", sparse=False)


def conv(name: str, after: str, filters: int, kernel: int, **config: Any) -> dict[str, Any]:
    """A convolution with the keys that Keras writes."""
    args = {"filters": filters, "kernel_size": [kernel, kernel], "strides": [1, 1], "padding": "same",
            "data_format": "channels_last", "dilation_rate": [1, 1], "activation": "linear", "use_bias": False,
            "kernel_initializer": {"class_name": "Zeros", "config": {}}, "kernel_regularizer": None}  # fmt: skip
    return layer("Conv2D", name, after, **{**args, **config})


def dense(name: str, after: str, units: int, activation: str = "softmax") -> dict[str, Any]:
    """A dense layer with a bias."""
    return layer("Dense", name, after, units=units, activation=activation, use_bias=True, bias_constraint=None)


def small(seed: int = 0) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A network with most kinds of layers, and its weights in TensorFlow's layout."""
    rng = np.random.default_rng(seed)
    layers = [
        start(),
        layer("ZeroPadding2D", "pad", "in", padding=[[0, 1], [0, 1]], data_format="channels_last"),
        conv("conv", "pad", 6, 3, strides=[2, 2], padding="valid"),
        layer("BatchNormalization", "norm", "conv", axis=-1, momentum=0.9, epsilon=0.001, center=True, scale=True),
        layer("ReLU", "relu", "norm", max_value=6, negative_slope=0, threshold=0),
        layer("DepthwiseConv2D", "deep", "relu", kernel_size=[3, 3], strides=[1, 1], padding="same",
              data_format="channels_last", dilation_rate=[1, 1], activation="linear", use_bias=False,
              depth_multiplier=1),
        layer("BatchNormalization", "norm2", "deep", axis=3, momentum=0.9, epsilon=0.01, center=True, scale=False),
        layer("Add", "add", ["relu", "norm2"]),
        layer("AveragePooling2D", "mean", "add", pool_size=[3, 3], strides=[1, 1], padding="same"),
        layer("MaxPooling2D", "most", "add", pool_size=[3, 3], strides=[1, 1], padding="same"),
        layer("Concatenate", "both", ["mean", "most"], axis=3),
        layer("Activation", "act", "both", activation="relu"),
        layer("AveragePooling2D", "less", "act", pool_size=[3, 3], strides=[3, 3], padding="valid"),
        layer("Flatten", "flat", "less", data_format="channels_last"),
        dense("first", "flat", 5, "relu"),
        layer("Dropout", "drop", "first", rate=0.5, noise_shape=None, seed=None),
        dense("last", "drop", 3),
    ]  # fmt: skip
    parts = ("gamma", "beta", "moving_mean", "moving_variance")
    norms = {f"{name}/{part}": rng.uniform(0.5, 1.5, 6) for name in ("norm", "norm2") for part in parts}
    del norms["norm2/gamma"]  # it does not scale
    tensors = {
        "conv/kernel": rng.normal(size=(3, 3, 3, 6)), **norms, "deep/depthwise_kernel": rng.normal(size=(3, 3, 6, 1)),
        "first/kernel": rng.normal(size=(48, 5)) * 0.3, "first/bias": rng.normal(size=5),
        "last/kernel": rng.normal(size=(5, 3)), "last/bias": rng.normal(size=3),
    }  # fmt: skip
    return keras(layers), tensors
