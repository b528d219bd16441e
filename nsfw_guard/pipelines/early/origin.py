"""What a learnt head belongs to: it says nothing about another pipeline, other weights or another guard."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard

READ = 64  # tensors of a pipeline of which a few numbers are compared; the name and shape of every one is
JUDGING = ("views", "resize", "calibration", "bank", "combine", "second_opinion", "questions")  # they change verdicts


@dataclass(frozen=True)
class Origin:
    """A pipeline and a guard, as far as heads depend on them.

    Args:
        pipeline: the name of the pipeline's class.
        weights: a hash of names, shapes and some numbers of its networks, adapters among them.
        guard: the guard's model with its revision, its policy, and the settings that change its verdicts.
    """

    pipeline: str
    weights: str
    guard: str

    @classmethod
    def of(cls, pipe: Any, guard: Guard) -> Origin:
        """Return the origin of heads that are trained with this pipeline and guard.

        Raises:
            ConfigError: the weights cannot be read.
        """
        return cls(type(pipe).__name__, _hash_of(pipe), _judging(guard))

    def refusal(self, pipe: Any, guard: Guard) -> str | None:
        """Return why heads of this origin cannot be used with a pipeline and a guard, or None."""
        here = Origin.of(pipe, guard)
        for what, fitted, given in (
            ("the pipeline", self.pipeline, here.pipeline),
            ("the guard", self.guard, here.guard),
            ("the pipeline's weights", self.weights, here.weights),
        ):
            if fitted != given:
                return f"its heads were learnt with {what} {fitted}, got {given}: fit again with these"
        return None


def _judging(guard: Guard) -> str:
    settings = [f"{name} {guard.state[name]}" for name in JUDGING if name in guard.state]
    return ", ".join([f"{guard.spec.name} {guard.spec.version[:16]}", f"policy {guard.policy.hash[:16]}", *settings])


def _hash_of(pipe: Any) -> str:
    """A hash of the pipeline's networks, without those in the slot of a safety checker."""
    networks = {k: v for k, v in sorted(vars(pipe).items()) if isinstance(v, nn.Module) and k != "safety_checker"}
    tensors = [(f"{name}.{key}", one) for name, net in networks.items() for key, one in net.named_parameters()]
    content = hashlib.sha256(repr([(name, tuple(one.shape)) for name, one in tensors]).encode())
    for name, one in tensors[:: max(1, len(tensors) // READ)]:
        content.update(_some_of(name, one))
    return content.hexdigest()[:16]


def _some_of(name: str, one: Tensor) -> bytes:
    if one.is_meta:
        raise ConfigError(
            f"{name} is offloaded piece by piece and cannot be compared: use an EarlyStop without heads, or offload "
            "whole models"
        )
    flat = one.detach().flatten()
    return flat[:: max(1, len(flat) // 4)].float().cpu().numpy().tobytes()
