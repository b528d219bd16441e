"""A small network that reads predicted clean latents at one look, and says how likely the finished image is blocked.

It costs no decoding and no judging. Each look has a head of its own, since latents are vaguer the earlier the look.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, binary_cross_entropy_with_logits, conv2d

from nsfw_guard.errors import ConfigError, ScoringError

GRID = 16  # cells along the longer side of the pooled latents
DECODED, WIDTH = 8, 16  # channels of the linear decoding, and of the two convolutions after it
BATCH, ROUNDS, LEARNING_RATE, WEIGHT_DECAY = 64, 60, 0.005, 0.01


@dataclass(frozen=True)
class LatentHead:
    """A linear decoding of latents, two small convolutions, and the mean and maximum of their maps.

    Args:
        shape: channels, height and width of the latents that it was trained on.
        mean, spread: of each channel.
        parameters: all numbers of the network, in the order of `_shapes`.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    parameters: tuple[float, ...]

    def __post_init__(self) -> None:
        channels = max(0, self.shape[0])
        counts = {"mean": channels, "spread": channels, "parameters": sum(map(math.prod, _shapes(channels)))}
        for name, count in counts.items():
            values = getattr(self, name)
            if not (len(values) == count and all(map(math.isfinite, values))):
                raise ConfigError(f"{name} of a head must be {count} finite numbers, got {len(values)}: fit it again")
        if not (min(self.shape) > 0 and min(self.spread) > 0):
            raise ConfigError(
                f"shape and spread of a head must be above 0, got {self.shape}, {self.spread}: fit it again"
            )

    def __call__(self, latents: Tensor) -> list[float]:
        """Return for each image how likely it is blocked. Shape: (N, C, h, w).

        Raises:
            ConfigError: latents of another shape.
            ScoringError: latents or answers that are not finite.
        """
        if tuple(latents.shape[1:]) != self.shape:
            raise ConfigError(
                f"this head was trained on latents of shape {self.shape}, got {tuple(latents.shape[1:])}: fit again "
                "with calls of this size"
            )
        return self.answers(pooled(latents))

    def answers(self, cells: Tensor) -> list[float]:
        """Return the same from latents that `pooled` made smaller."""
        with torch.no_grad():
            logits = _logits((cells - self._scale[0]) / self._scale[1], self._tensors)
        if not (bool(cells.isfinite().all()) and bool(logits.isfinite().all())):
            raise ScoringError("a head met latents, or gave answers, that are not finite: nothing is known of them")
        answers: list[float] = logits.double().sigmoid().tolist()
        return answers

    @cached_property
    def _scale(self) -> tuple[Tensor, Tensor]:
        mean, spread = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.spread))
        return mean, spread

    @cached_property
    def _tensors(self) -> list[Tensor]:
        return list(_divided(torch.tensor(self.parameters), self.shape[0]))

    @classmethod
    def fit(cls, cells: Tensor, blocked: Sequence[bool], shape: tuple[int, int, int], *, seed: int = 0) -> LatentHead:
        """Train a head on a CPU; the same runs and seed give the same head on the same machine.

        Args:
            cells: latents at one look, from `pooled`. Shape: (N, C, h, w).
            blocked: whether each finished image was blocked.
            shape: that of the latents before they were pooled.
            seed: of the first weights, and of the order of the images.
        """
        mean, spread = cells.mean((0, 2, 3)), cells.std((0, 2, 3)).clamp(min=1e-6)
        inputs, wanted = (cells - mean.view(1, -1, 1, 1)) / spread.view(1, -1, 1, 1), torch.tensor(blocked).float()
        with torch.enable_grad():
            parameters = _trained(inputs, wanted, torch.Generator().manual_seed(seed))
        flat = torch.cat([one.detach().flatten() for one in parameters])
        return cls(shape, tuple(mean.tolist()), tuple(spread.tolist()), tuple(flat.tolist()))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {name: list(getattr(self, name)) for name in ("shape", "mean", "spread", "parameters")}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> LatentHead:
        """Return the head from the values of `to_dict`."""
        channels, height, width = map(int, content["shape"])
        numbers = (tuple(map(float, content[name])) for name in ("mean", "spread", "parameters"))
        return cls((channels, height, width), *numbers)


def pooled(latents: Tensor) -> Tensor:
    """Return latents averaged to at most `GRID` cells along a side, in float32 on the CPU. Shape: (N, C, h, w)."""
    factor = math.ceil(max(latents.shape[-2:]) / GRID)
    height, width = (math.ceil(side / factor) for side in latents.shape[-2:])
    return adaptive_avg_pool2d(latents.float(), (height, width)).cpu()


def _shapes(channels: int) -> tuple[tuple[int, ...], ...]:
    """Weights and biases of the decoding, of both convolutions and of the answer."""
    sizes = (((DECODED, channels, 1, 1), DECODED), ((WIDTH, DECODED, 3, 3), WIDTH), ((WIDTH, WIDTH, 3, 3), WIDTH))
    return (*(shape for weight, bias in sizes for shape in (weight, (bias,))), (1, 2 * WIDTH), (1,))


def _divided(flat: Tensor, channels: int) -> Iterator[Tensor]:
    shapes = _shapes(channels)
    ends = [sum(map(math.prod, shapes[:i])) for i in range(len(shapes) + 1)]
    for shape, (start, end) in zip(shapes, pairwise(ends), strict=True):
        yield flat[start:end].view(shape)


def _logits(inputs: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    decode, decode_bias, first, first_bias, second, second_bias, answer, answer_bias = parameters
    maps = conv2d(inputs, decode, decode_bias)
    maps = torch.relu(conv2d(maps, first, first_bias, padding=1))
    maps = torch.relu(conv2d(maps, second, second_bias, padding=1))
    summary = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
    return (summary @ answer.t() + answer_bias)[:, 0]


def _trained(inputs: Tensor, wanted: Tensor, generator: torch.Generator) -> list[Tensor]:
    """The parameters after training; every round also shows mirrored latents, so that few runs go further."""
    shapes = _shapes(inputs.shape[1])
    first = (torch.randn(shape, generator=generator) * (2 / math.prod(shape[1:])) ** 0.5 for shape in shapes)
    parameters = [(one if one.ndim > 1 else torch.zeros_like(one)).requires_grad_() for one in first]
    balance = (1 - wanted).sum() / wanted.sum().clamp(min=1)
    batches = math.ceil(len(inputs) / BATCH)
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=ROUNDS * batches)
    for _ in range(ROUNDS):
        for rows in torch.randperm(len(inputs), generator=generator).chunk(batches):
            shown = inputs[rows].flip(-1) if float(torch.rand(1, generator=generator)) < 0.5 else inputs[rows]
            loss = binary_cross_entropy_with_logits(_logits(shown, parameters), wanted[rows], pos_weight=balance)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return parameters
