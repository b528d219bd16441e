"""Reads a Keras topology (a layers-model of TensorFlow.js) as plain layers. What is not known is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from torch import Tensor

from nsfw_guard.backends.files.inside import short
from nsfw_guard.backends.layers.topology import Draft, Plain
from nsfw_guard.errors import UnknownNameError, WeightsUnfitError

# What only training needs. Other keys are arguments: each must be read, or have the one value that is allowed.
TRAINING = {"name", "trainable", "momentum", "rate", "noise_shape", "seed", "sparse", "ragged", "batch_input_shape"}
TRAINING_ENDS = ("_initializer", "_regularizer", "_constraint")
ONLY: Mapping[str, tuple[Any, ...]] = {
    "dtype": ("float32",), "data_format": ("channels_last",), "axis": (-1, 3, [-1], [3]), "groups": (1,),
    "threshold": (0,), "keepdims": (False,),
}  # fmt: skip


class _Config:
    """The arguments of one layer; each is read once, and none may be left."""

    def __init__(self, class_name: str, config: object) -> None:
        if not isinstance(config, Mapping):
            raise WeightsUnfitError(f"the config of a {class_name} must be an object, got {short(config)}")
        self.name = str(config.get("name", class_name))
        self.where = f"the {class_name} {short(self.name)}"
        self.rest = dict(config)

    def pop(self, key: str, default: Any = None) -> Any:
        """Take an argument."""
        return self.rest.pop(key, default)

    def finish(self) -> None:
        """Raise an error for an argument that nobody read, or that has another value than the one that is known."""
        for key, value in self.rest.items():
            if key in TRAINING or key.endswith(TRAINING_ENDS) or (key in ONLY and value in ONLY[key]):
                continue
            what = f"only {' or '.join(map(str, ONLY[key]))} is read" if key in ONLY else "it is not known"
            raise WeightsUnfitError(f"{self.where} has {key[:60]} = {short(value)}: {what}, convert another model")


Read = Callable[[Draft, _Config, list[int]], int]


def read_keras(topology: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Plain:
    """Return the layers of a Keras model with their weights in torch's layout.

    Raises:
        ConfigError, WeightsUnfitError: a layer or an argument is not known, or the weights are others.
    """
    model = topology.get("model_config")
    config = model.get("config") if isinstance(model, Mapping) else None
    kind = str(model.get("class_name")) if isinstance(model, Mapping) else None
    listed = config.get("layers") if isinstance(config, Mapping) else config
    if kind not in {"Model", "Functional", "Sequential"} or not isinstance(listed, list):
        _unfit(f"the topology must be a Keras Model or Sequential with a list of layers, got {short(kind)}")
    draft, numbers, last = Draft(dict(tensors)), dict[str, int](), -1
    for place, entry in enumerate(listed):
        if not isinstance(entry, Mapping):
            _unfit(f"layer {place} must be an object, got {short(entry)}")
        arguments = _Config(str(entry.get("class_name")), entry.get("config"))
        if kind == "Sequential":
            inputs = [last] if place else _first(draft, arguments.rest, entry)
        else:
            inputs = _inputs(entry, numbers)
        last = _read(draft, str(entry.get("class_name")), arguments, inputs)
        if arguments.name in numbers:
            _unfit(f"two layers are called {short(arguments.name)}")
        numbers[arguments.name] = last
    if kind != "Sequential" and isinstance(config, Mapping) and _output(config, numbers) != last:
        _unfit(f"the output must be that of the last layer, got {short(config.get('output_layers'))}")
    return draft.finish()


def _first(draft: Draft, config: Mapping[str, Any], entry: Mapping[str, Any]) -> list[int]:
    """The input in front of the first layer of a Sequential; none where that layer is the input itself."""
    if entry.get("class_name") == "InputLayer":
        return []
    return [draft.add("Input", [], size=_side(config.get("batch_input_shape")))]


def _inputs(entry: Mapping[str, Any], numbers: Mapping[str, int]) -> list[int]:
    """The numbers of the layers that a layer takes. It is called once, with the only output of each."""
    nodes = entry.get("inbound_nodes")
    calls = nodes if isinstance(nodes, list) else [None, None]
    if len(calls) > 1 or (calls and not isinstance(calls[0], list)):
        _unfit(f"{short(entry.get('name'))} must be called once, got {short(nodes)}")
    inputs = []
    for call in calls[0] or [] if calls else []:
        plain = isinstance(call, list) and len(call) in {3, 4} and isinstance(call[0], str)
        if not plain or call[1:3] != [0, 0] or any(call[3:]):
            _unfit(f"an input of {short(entry.get('name'))} must be [name, 0, 0], got {short(call)}")
        if call[0] not in numbers:
            _unfit(f"{short(entry.get('name'))} takes {short(call[0])}, which is no layer before it")
        inputs.append(numbers[call[0]])
    return inputs


def _output(config: Mapping[str, Any], numbers: Mapping[str, int]) -> int | None:
    """The number of the only output, or None."""
    outputs = config.get("output_layers")
    call = outputs[0] if isinstance(outputs, list) and len(outputs) == 1 else None
    plain = isinstance(call, list) and len(call) == 3 and isinstance(call[0], str) and call[1:] == [0, 0]
    return numbers.get(call[0]) if isinstance(call, list) and plain else None


def _read(draft: Draft, class_name: str, config: _Config, inputs: list[int]) -> int:
    """Add one layer of Keras, which may become two or none, and return the number of the last."""
    if class_name not in READERS:
        raise UnknownNameError("layer of Keras", class_name, READERS)
    number = READERS[class_name](draft, config, inputs)
    config.finish()
    return number


def _input(draft: Draft, config: _Config, inputs: list[int]) -> int:
    return draft.add("Input", [], size=_side(config.pop("batch_input_shape")))


def _side(shape: object) -> int:
    if isinstance(shape, list) and len(shape) == 4 and shape[0] is None and shape[1] == shape[2] and shape[3] == 3:
        return shape[1]  # type: ignore[no-any-return]  # checked by the layer
    return _unfit(f"the input must be [null, size, size, 3], got {short(shape)}")


def _same(draft: Draft, config: _Config, inputs: list[int]) -> int:
    """A layer that does nothing outside training."""
    if len(inputs) != 1:
        _unfit(f"{config.where} must take one layer, got {len(inputs)}")
    return inputs[0]


def _window(config: _Config) -> dict[str, Any]:
    """The arguments that all convolutions have."""
    return {
        "kernel": config.pop("kernel_size"), "strides": config.pop("strides"), "padding": config.pop("padding"),
        "dilation": config.pop("dilation_rate", [1, 1]), "bias": config.pop("use_bias", True),
    }  # fmt: skip


def _bias(draft: Draft, config: _Config, bias: object) -> dict[str, Tensor]:
    return {"bias": draft.take(f"{config.name}/bias", (0,))} if bias else {}


def _conv(draft: Draft, config: _Config, inputs: list[int]) -> int:
    args, filters, function = _window(config), config.pop("filters"), config.pop("activation")
    weights = {"weight": draft.take(f"{config.name}/kernel", (3, 2, 0, 1)), **_bias(draft, config, args["bias"])}
    return draft.activation(function, draft.add("Conv2D", inputs, weights, filters=filters, **args))


def depthwise_weight(tensor: Tensor) -> Tensor:
    """Return TensorFlow's kernel of a depthwise convolution, sides (in, times, h, w), as torch's grouped one."""
    return tensor.reshape(-1, 1, *tensor.shape[2:])


def _depthwise(draft: Draft, config: _Config, inputs: list[int]) -> int:
    args, times, function = _window(config), config.pop("depth_multiplier", 1), config.pop("activation")
    kernel = draft.take(f"{config.name}/depthwise_kernel", (2, 3, 0, 1))
    if kernel.shape[1] != times:  # as one row of kernels it could fit other layers
        _unfit(f"the kernel of {config.where} has {kernel.shape[1]} for each channel, expected {short(times)}")
    weights = {"weight": depthwise_weight(kernel), **_bias(draft, config, args["bias"])}
    return draft.activation(function, draft.add("DepthwiseConv2D", inputs, weights, multiplier=times, **args))


def _norm(draft: Draft, config: _Config, inputs: list[int]) -> int:
    args = {"center": config.pop("center", True), "scale": config.pop("scale", True)}
    wanted = {"mean": "moving_mean", "variance": "moving_variance"}
    wanted |= {"bias": "beta"} if args["center"] else {}
    wanted |= {"weight": "gamma"} if args["scale"] else {}
    weights = {ours: draft.take(f"{config.name}/{theirs}", (0,)) for ours, theirs in wanted.items()}
    return draft.add("BatchNormalization", inputs, weights, epsilon=config.pop("epsilon"), **args)


def _relu(draft: Draft, config: _Config, inputs: list[int]) -> int:
    most = config.pop("max_value")
    if most is not None and not (isinstance(most, (int, float)) and most > 0):
        _unfit(f"max_value of {config.where} must be a positive number or null, got {short(most)}")
    return draft.add("ReLU", inputs, max_value=most or 0, negative_slope=config.pop("negative_slope", 0))


def _activation(draft: Draft, config: _Config, inputs: list[int]) -> int:
    return draft.activation(config.pop("activation"), _same(draft, config, inputs))


def _padding(draft: Draft, config: _Config, inputs: list[int]) -> int:
    padding = config.pop("padding")
    sides = padding if isinstance(padding, list) else []
    if len(sides) != 2 or not all(isinstance(pair, list) and len(pair) == 2 for pair in sides):
        _unfit(f"padding of {config.where} must be [[above, below], [left, right]], got {short(padding)}")
    return draft.add("ZeroPadding2D", inputs, padding=[*padding[0], *padding[1]])


def _pool(kind: str) -> Read:
    def read(draft: Draft, config: _Config, inputs: list[int]) -> int:
        pool = config.pop("pool_size")
        strides = config.pop("strides") or pool
        return draft.add(kind, inputs, pool=pool, strides=strides, padding=config.pop("padding"))

    return read


def _plain(kind: str) -> Read:
    return lambda draft, config, inputs: draft.add(kind, inputs)


def _dense(draft: Draft, config: _Config, inputs: list[int]) -> int:
    units, bias, function = config.pop("units"), config.pop("use_bias", True), config.pop("activation")
    weights = {"weight": draft.take(f"{config.name}/kernel", (1, 0)), **_bias(draft, config, bias)}
    return draft.activation(function, draft.add("Dense", inputs, weights, units=units, bias=bias))


def _unfit(what: str) -> NoReturn:
    raise WeightsUnfitError(f"{what}: convert another model, or fetch this one again")


READERS: Mapping[str, Read] = {
    "InputLayer": _input, "Conv2D": _conv, "DepthwiseConv2D": _depthwise, "BatchNormalization": _norm, "ReLU": _relu,
    "Activation": _activation, "Softmax": _plain("Softmax"), "ZeroPadding2D": _padding, "Add": _plain("Add"),
    "Concatenate": _plain("Concatenate"), "AveragePooling2D": _pool("AveragePooling2D"),
    "MaxPooling2D": _pool("MaxPooling2D"), "GlobalAveragePooling2D": _plain("GlobalAveragePooling2D"),
    "Flatten": _plain("Flatten"), "Dropout": _same, "Dense": _dense,
}  # fmt: skip
