"""Teaches the last layer alone, on embeddings that are computed once: a convex problem, solved in seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from nsfw_guard.errors import ConfigError, ScoringError
from nsfw_guard.tools.finetuning.learning.lesson import table

FOLDS = 5
PULLS = tuple(10.0**power for power in range(-5, 2))  # strengths that are tried
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the images that are learnt from, for the learning curve
_ROUNDS = 200


@dataclass(frozen=True)
class Probed:
    """A last layer, and how good it is on images that it was not fitted on.

    Args:
        head: the layer.
        pull: the strength of the pull that was chosen.
        loss: the mean loss, each image judged by a layer that was fitted without it and its copies.
        answers: how many images of each class (row) got each answer (column), in the same way.
        curve: pairs of a number of images that were learnt from, and the accuracy.
    """

    head: nn.Linear
    pull: float
    loss: float
    answers: tuple[tuple[int, ...], ...]
    curve: tuple[tuple[int, float], ...]


def probe(
    features: Tensor, classes: Tensor, head: nn.Linear, rows: Sequence[int | None], *,
    groups: Sequence[int], balance: float = 0.5, seed: int = 0,
) -> Probed:  # fmt: skip
    """Fit the last layer to embeddings, pulled towards the one before, and new rows towards zero.

    Where a class that was known before has no image, all rows that were known stay as they are: so it is not
    unlearnt. The strength of the pull is the one with the lowest loss when each fifth is judged without itself.

    Args:
        features: embeddings. Shape: (n, width).
        classes: the class of each. Shape: (n,).
        head: the layer to begin with.
        rows: for each class the row of the layer before; None for a new one.
        groups: copies have the same number, and are left out together.
        balance: from 0, images as they come, to 1, all classes with the same weight.
        seed: of the folds.
    """
    counts = torch.bincount(classes, minlength=len(rows))
    if int((counts > 0).sum()) < 2 or int(counts[counts > 0].min()) < 2:
        raise ConfigError("a class has fewer than two images: add some, twenty of each are a beginning")
    absent = any(row is not None and not counts[at] for at, row in enumerate(rows))
    fixed = torch.tensor([row is not None and absent for row in rows])
    problem = _Problem(features.double(), classes, head, fixed, balance)
    folds = torch.tensor([_fold(group, seed) for group in groups])
    outside = {pull: _outside(problem, folds, pull) for pull in PULLS}
    losses = {pull: problem.loss(numbers, torch.arange(len(classes))) for pull, numbers in outside.items()}
    pull = min(PULLS, key=lambda pull: (losses[pull], -pull))
    curve = tuple(_point(problem, folds, pull, share) for share in SHARES)
    fitted = problem.layer(problem.fit(torch.arange(len(classes)), pull))
    return Probed(fitted, pull, losses[pull], table(outside[pull].argmax(1), classes, len(rows)), curve)


class _Problem:
    """A logistic regression in standardised features, with some rows fixed."""

    def __init__(self, features: Tensor, classes: Tensor, head: nn.Linear, fixed: Tensor, balance: float) -> None:
        self.classes, self.fixed = classes, fixed
        self.mean, self.scale = features.mean(0), features.std(0).clamp(min=1e-6)
        self.values = (features - self.mean) / self.scale
        weight, bias = head.weight.detach().double().cpu(), torch.zeros(len(fixed), dtype=torch.float64)
        if head.bias is not None:
            bias = head.bias.detach().double().cpu()
        self.start = torch.cat([weight * self.scale, (bias + weight @ self.mean)[:, None]], 1)
        counts = torch.bincount(classes, minlength=len(fixed)).clamp(min=1).double()
        self.weights = (counts**-balance)[classes]

    def fit(self, chosen: Tensor, pull: float) -> Tensor:
        """Return the rows for these images. Shape: (K, width + 1)."""
        values, classes, weights = self.values[chosen], self.classes[chosen], self.weights[chosen]
        weights = weights / weights.sum()
        moved = torch.zeros_like(self.start, requires_grad=True)
        free = (~self.fixed)[:, None].double()
        solver = torch.optim.LBFGS([moved], max_iter=_ROUNDS, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

        def closure() -> Tensor:
            solver.zero_grad()
            rows = self.start + moved * free
            losses = functional.cross_entropy(_numbers(values, rows), classes, reduction="none")
            # The bias is not pulled: how often a class comes says nothing of the others.
            loss = (weights * losses).sum() + pull * moved[:, :-1].square().sum()
            torch.autograd.backward(loss)
            return loss

        solver.step(closure)  # type: ignore[no-untyped-call]
        rows = (self.start + moved * free).detach()
        if not bool(rows.isfinite().all()):
            raise ScoringError("the last layer became infinite: its embeddings are damaged, or hold nothing")
        return rows

    def loss(self, numbers: Tensor, chosen: Tensor) -> float:
        weights = self.weights[chosen]
        losses = functional.cross_entropy(numbers, self.classes[chosen], reduction="none")
        return float((weights * losses).sum() / weights.sum())

    def layer(self, rows: Tensor) -> nn.Linear:
        """Return rows as a layer of plain features, in float32."""
        weight = rows[:, :-1] / self.scale
        layer = nn.Linear(weight.shape[1], len(weight))
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(rows[:, -1] - weight @ self.mean)
        return layer


def _numbers(values: Tensor, rows: Tensor) -> Tensor:
    return values @ rows[:, :-1].T + rows[:, -1]


def _outside(problem: _Problem, folds: Tensor, pull: float) -> Tensor:
    """The numbers of each image from a layer that was fitted without its fold."""
    numbers = torch.zeros(len(folds), len(problem.start), dtype=torch.float64)
    for fold in range(FOLDS):
        inside = folds == fold
        if inside.any():
            rows = problem.fit(torch.nonzero(~inside).flatten(), pull)
            numbers[inside] = _numbers(problem.values[inside], rows)
    return numbers


def _point(problem: _Problem, folds: Tensor, pull: float, share: float) -> tuple[int, float]:
    """How many images were learnt from, with a share of what is there, and the accuracy on the first fold."""
    inside, rest = torch.nonzero(folds == 0).flatten(), torch.nonzero(folds != 0).flatten()
    keep = [at for at in rest.tolist() if _fold(at, 1, 1000) < share * 1000]
    if not len(inside) or len(set(problem.classes[keep].tolist())) < 2:
        return len(keep), 0.0
    rows = problem.fit(torch.tensor(keep), pull)
    right = _numbers(problem.values[inside], rows).argmax(1) == problem.classes[inside]
    return len(keep), float(right.double().mean())


def _fold(group: int, seed: int, folds: int = FOLDS) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {group}".encode()).digest()[:4], "big") % folds
