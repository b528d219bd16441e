"""The network that is taught: its head for the new classes, and which of its parts may change."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nsfw_guard.backends.base import Backend
from nsfw_guard.backends.files import weights
from nsfw_guard.backends.files.arguments import timm_arguments
from nsfw_guard.backends.files.folder import ARGMAX, input_of
from nsfw_guard.backends.nets.network import Net, NetBackend
from nsfw_guard.backends.nets.timm_model import TimmNet, untrained
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import ConfigError, first_line
from nsfw_guard.imaging.preprocess import Preprocess
from nsfw_guard.tools.finetuning.classes import Classes
from nsfw_guard.tools.finetuning.recipe import Part, Recipe


@dataclass(frozen=True)
class Student:
    """A network with the classes that it is taught.

    Args:
        net: the network, in float32.
        spec: its record, without thresholds that were measured and answers that were recorded.
        rows: for each class the row of the last layer before; None for a new one.
        before: the network as it was; None where it knew nothing.
    """

    net: Net
    spec: ModelSpec
    rows: tuple[int | None, ...]
    before: Net | None = None

    def normalise(self, levels: Tensor) -> Tensor:
        """Return levels as the network wants them. Shape: (N, 3, S, S)."""
        return Preprocess(spec=self.spec.net_input).normalise(levels)

    @property
    def kept(self) -> list[int]:
        """The classes that the network knew before."""
        return [at for at, row in enumerate(self.rows) if row is not None]


def student_of(backend: Backend, classes: Classes, *, name: str) -> Student:
    """Return a model of timm or transformers with a head for these classes.

    Raises:
        ConfigError: it is another kind of model.
    """
    if not isinstance(backend, NetBackend) or backend.spec.kind not in {"timm", "transformers"}:
        raise ConfigError(
            f"{backend.spec.name!r} cannot be taught: choose an image classifier in the layout of timm or "
            "transformers, loaded by torch"
        )
    before = copy.deepcopy(backend.net).float().cpu()
    net = before.with_head(classes.names, classes.rows)
    return Student(net, _record(backend.spec, classes, name), classes.rows, before)


def _record(spec: ModelSpec, classes: Classes, name: str) -> ModelSpec:
    levels = {label.severity for label in classes.meanings.values() if label}
    return replace(
        spec, name=name, labels=dict(classes.meanings), thresholds={"default": ARGMAX}, known_answers={}, sha256="",
        revision="", hashes={}, repo="", package=None, details={}, metrics="", neutral=(), subfolder="",
        positive=spec.positive if spec.positive in levels else None, source=f"taught from {spec.name}",
    )  # fmt: skip


def from_architecture(
    architecture: str, classes: Classes, *, name: str, arguments: Mapping[str, Any], size: int | None,
    file: Path | None, seed: int,
) -> Student:  # fmt: skip
    """Return a network of timm, with the weights of a file or with random ones.

    Args:
        architecture: its name in timm.
        classes: what it is taught.
        name: what the model will be called.
        arguments: of the network.
        size: side of its input; None for the usual one.
        file: weights in safetensors; its last layer may be for other classes.
        seed: of random weights.
    """
    checked = dict(timm_arguments(arguments, what=architecture))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = TimmNet(untrained(architecture, len(classes.names), checked))
    shown = input_of(net.model.pretrained_cfg)
    side = checked.get("img_size", shown.size) if size is None else size
    spec = ModelSpec(
        name=name, kind="timm", architecture=architecture, model_args=checked, labels=dict(classes.meanings),
        thresholds={"default": ARGMAX}, input=replace(shown, size=side if isinstance(side, int) else side[0]),
        source=f"taught from {architecture} with {'the weights of ' + file.name if file else 'random weights'}",
    )  # fmt: skip
    if file is not None:
        _fill(net, file, architecture)
    _takes(net, spec)
    return Student(net, spec, (None,) * len(classes.names))


def _takes(net: TimmNet, spec: ModelSpec) -> None:
    """Raise an error when a network does not take an image of the size in its record."""
    side = spec.net_input.size
    try:
        with torch.inference_mode():
            net.eval()(torch.zeros(1, 3, side, side))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(
            f"{spec.architecture} does not take an image of {side} x {side} ({first_line(error)}): give another size, "
            "or img_size among its arguments"
        ) from error


def _fill(net: TimmNet, file: Path, architecture: str) -> None:
    """Load weights, all but those of the last layer when they are for other classes."""
    head = {f"model.{name}" for name, layer in net.model.named_modules() if layer is net.head()}
    tensors = {f"model.{key}": value for key, value in weights.read_weights(weights.verify(file)).items()}
    wanted = net.state_dict()
    for key in [key for key in tensors if key.rpartition(".")[0] in head]:
        if key in wanted and tensors[key].shape != wanted[key].shape:
            tensors[key] = wanted[key]
    weights.load_strict(net, tensors, architecture)


def choose(net: Net, recipe: Recipe) -> None:
    """Let the parts of a network change that the recipe names, and no others."""
    net.requires_grad_(recipe.part is Part.FULL)
    if recipe.part is Part.LAST:
        for parameter in last_blocks(net, recipe.blocks):
            parameter.requires_grad_(True)
    net.head().requires_grad_(True)


def last_blocks(net: nn.Module, count: int) -> list[nn.Parameter]:
    """Return the parameters of the last blocks of a network, and of all layers after them.

    The blocks are the row of modules of one kind that holds most of the network's numbers.

    Raises:
        ConfigError: it has no such row, or no more blocks.
    """
    rows = [list(module) for module in net.modules() if isinstance(module, (nn.ModuleList, nn.Sequential))]
    rows = [row for row in rows if len(row) > 1 and len({type(block) for block in row}) == 1]
    if not rows:
        raise ConfigError("this network is no row of blocks: teach its head, or all of it")
    row = max(rows, key=lambda row: (sum(numbers(block) for block in row), len(row)))
    if count >= len(row):
        raise ConfigError(f"this network has {len(row)} blocks, got {count}: teach fewer of them, or all of it")
    early = {id(parameter) for block in row[:-count] for parameter in block.parameters()}
    order = list(net.parameters())
    return order[max(at for at, parameter in enumerate(order) if id(parameter) in early) + 1 :]


def set_training(net: nn.Module) -> None:
    """Put a network into training mode, but not the parts that may not change: these keep their statistics."""
    net.train()
    for module in net.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def numbers(net: nn.Module, *, trained: bool = False) -> int:
    """Return how many numbers a network has, or how many of them are trained."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad or not trained)


def embed(
    student: Student, pixels: Tensor, chosen: Sequence[int], *,
    device: torch.device, batch_size: int, tick: Callable[[int], None],
) -> Tensor:  # fmt: skip
    """Return the embeddings of the chosen images, before the network is taught. Shape: (n, width), on the CPU."""
    net = student.net.to(device).eval()
    parts: list[Tensor] = []
    with torch.inference_mode():
        for start in range(0, len(chosen), batch_size):
            values = student.normalise(pixels[list(chosen[start : start + batch_size])].to(device))
            parts.append(net.forward_with_embedding(values)[1].float().cpu())
            tick(min(start + batch_size, len(chosen)))
    return torch.cat(parts)
