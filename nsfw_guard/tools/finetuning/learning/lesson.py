"""What a network is taught from, and what came of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nsfw_guard.backends.nets.network import Net
from nsfw_guard.tools.finetuning.split import Split


@dataclass(frozen=True)
class Lesson:
    """What a network is taught from.

    Args:
        pixels: what it is shown, 8-bit levels. Shape: (N, 3, S, S).
        sound: the positions of images in `pixels` that can be used. Shape: (n,).
        classes: the class of each of these. Shape: (n,).
        split: which of them it learns from, and which it is measured on.
        hash: of the pixels, so that a run goes on with the same ones; empty where nobody will resume it.
    """

    pixels: Tensor
    sound: Tensor
    classes: Tensor
    split: Split
    hash: str = ""

    def rows(self, chosen: Tensor) -> Tensor:
        """Return the levels of some of the images that can be used. Shape: (k, 3, S, S)."""
        return self.pixels[self.sound[chosen]]


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: the mean loss while training, and on validation the loss and a table of answers.

    Args:
        training, validation: losses.
        answers: how many images of each class (row) got each answer (column).
    """

    training: float
    validation: float
    answers: tuple[tuple[int, ...], ...]

    @property
    def accuracy(self) -> float:
        """The share of validation images with the right answer."""
        return sum(row[at] for at, row in enumerate(self.answers)) / max(1, sum(map(sum, self.answers)))


@dataclass(frozen=True)
class Trained:
    """A network that was taught: on the CPU, with the weights of its best epoch."""

    net: Net
    epochs: tuple[Epoch, ...]
    best: int
    resumed: int = 0


def table(answers: Tensor, classes: Tensor, count: int) -> tuple[tuple[int, ...], ...]:
    """Return how many images of each class (row) got each answer (column)."""
    counts = torch.zeros(count, count, dtype=torch.long)
    counts.index_put_((classes, answers), torch.ones(len(classes), dtype=torch.long), accumulate=True)
    return tuple(map(tuple, counts.tolist()))


def hash_of(net: nn.Module) -> str:
    """Return SHA-256 over all weights of a network, in the order of their names."""
    summed = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        summed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        summed.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return summed.hexdigest()
