"""The part of a model that is exported: normalised pixels in, logits and embedding out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from nsfw_guard.backends.base import Backend
from nsfw_guard.backends.loaders import EXPORTED
from nsfw_guard.backends.nets.exported import ExportedNet
from nsfw_guard.backends.nets.network import Net, NetBackend
from nsfw_guard.errors import ConfigError

LEAST_TORCH = (2, 6)  # older ones have no exporter with this interface
INPUT, OUTPUTS = "pixels", ("logits", "embedding")


class LogitsAndEmbedding(nn.Module):
    """A network whose one forward returns both."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and embedding."""
        return self.net.forward_with_embedding(pixels)


def exportable(backend: Backend) -> NetBackend:
    """Return the model, if it can be exported.

    Raises:
        ConfigError: it cannot, with the reason.
    """
    name = backend.spec.name
    if not isinstance(backend, NetBackend):
        raise ConfigError(
            f"{name!r} cannot be exported: only single networks can, not judges, detectors, or several models together"
        )
    if isinstance(backend.net, ExportedNet):
        raise ConfigError(f"{name!r} is exported already ({backend.net.runtime}): name the model that it was made from")
    check_kind(name, backend.spec.kind)
    if backend.dtype != torch.float32 or backend.home.type != "cpu":
        raise ConfigError(
            f"{name!r} was loaded in {str(backend.dtype).removeprefix('torch.')} on {backend.home}: load it in float32 "
            "on the cpu, by leaving out dtype and device"
        )
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < LEAST_TORCH:
        raise ConfigError(f"exporting needs torch 2.6 or newer, but {torch.__version__} is installed: update torch")
    return backend


def check_kind(name: str, kind: str) -> None:
    """Raise an error when a model of this kind cannot be exported."""
    if kind not in EXPORTED:
        raise ConfigError(
            f"{name!r} cannot be exported: its kind is {kind!r}, and only networks in the layout of "
            f"{' or '.join(EXPORTED)} have a folder for an exported network"
        )


def example(backend: NetBackend) -> tuple[LogitsAndEmbedding, tuple[Tensor]]:
    """Return the network, and an input for its tracer."""
    side = backend.spec.net_input.size
    # Two rows: a batch of one would be taken for a constant.
    return LogitsAndEmbedding(backend.net).eval(), (torch.zeros(2, 3, side, side),)


def exported_program(backend: NetBackend) -> torch.export.ExportedProgram:
    """Return the network as torch.export records it, for any number of rows, without paths of this machine."""
    net, given = example(backend)
    with quiet(), torch.no_grad():
        program = torch.export.export(net, given, dynamic_shapes=({0: torch.export.Dim("n")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the warnings of exporters about their own parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
