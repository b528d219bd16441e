"""When two embeddings count as alike: measured on ordinary images, so that a stated share of them is like an example.

Raw embeddings of harmless images are much alike in most directions. So they are compared after whitening: with the mean
and the covariance of ordinary images taken out, what is left is what sets an image apart. (Seen on a real network and
shapes that it never learned: of new images of a shape, five examples find all at 1% false alarms with whitening, and a
half without.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from nsfw_guard.errors import ConfigError

SAME = 0.9999  # the similarity from which an ordinary image is the example itself
SHRINK = 0.1  # the share of the covariance that is the same in every direction
BUDGET = 0.005  # of ordinary images, that may be like some example


@dataclass(frozen=True)
class Likeness:
    """How embeddings are compared.

    Args:
        mean: of ordinary images. Shape: (width,).
        whitening: what makes their spread the same in every direction. Shape: (width, width).
    """

    mean: Tensor
    whitening: Tensor

    @classmethod
    def measure(cls, ordinary: Tensor) -> Likeness:
        """Measure it on embeddings of ordinary images. Shape: (N, width)."""
        vectors = ordinary.double()
        mean = vectors.mean(0)
        covariance = torch.cov((vectors - mean).T).reshape(vectors.shape[1], -1)
        level = covariance.diagonal().mean()
        if not bool(level > 0):
            raise ConfigError("the ordinary images all have the same embedding: give others")
        mixed = (1 - SHRINK) * covariance + SHRINK * level * torch.eye(len(covariance), dtype=vectors.dtype)
        values, axes = torch.linalg.eigh(mixed)
        return cls(mean.float(), (axes / values.sqrt()).float())

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Return embeddings so that a product of two of them is their similarity. Shape: (N, width)."""
        # In float64: the square of a large float32 is infinite, and what is divided by it is like nothing.
        vectors = embeddings.double() - self.mean.to(embeddings.device).double()
        return normalize(vectors @ self.whitening.to(embeddings.device).double(), dim=-1).float()


@dataclass(frozen=True)
class Radius:
    """The similarity from which an image is like examples of one label.

    Args:
        least: the similarity.
        false_alarms: the share of ordinary images that reach it, at most, as measured.
        neighbours: the share of these examples that are like another one of them; None for a single one.
    """

    least: float
    false_alarms: float
    neighbours: float | None


def measured(ordinary: Tensor, examples: Sequence[Tensor], *, budget: float = BUDGET) -> tuple[Likeness, list[Radius]]:
    """Measure how embeddings are compared, and the radius of each label.

    One half of the ordinary images says what is ordinary, the other one how many of them a radius would hold: measured
    on the same ones, a radius looks better than it is.

    Args:
        ordinary: embeddings of images that must not be like any example. Shape: (N, width).
        examples: for each label the embeddings of its examples. Shape of each: (M, width).
        budget: the share of ordinary images that may be like an example, over all labels.

    Raises:
        ConfigError: there are too few ordinary images for this budget.
    """
    check_budget(budget)
    share = budget / max(1, len(examples))
    order = torch.randperm(len(ordinary), generator=torch.Generator().manual_seed(0))
    first, second = ordinary[order[::2]], ordinary[order[1::2]]
    allowed = int(share * (len(second) + 1))
    if allowed < 1:
        raise ConfigError(
            f"a budget of {budget:g} over {len(examples)} labels needs {2 * int(1 / share) + 2} ordinary images at "
            f"least, got {len(ordinary)}: give more, or a larger budget"
        )
    likeness = Likeness.measure(first)
    others = likeness(second)
    return likeness, [_radius(likeness(one), others, allowed) for one in examples]


def check_budget(budget: float) -> None:
    """Raise an error unless this is a small share."""
    if not 0.0 < budget < 0.5:
        raise ConfigError(f"the budget is a share of ordinary images above 0 and below 0.5, got {budget}")


def _radius(examples: Tensor, others: Tensor, allowed: int) -> Radius:
    nearest = (others @ examples.T).amax(1).sort(descending=True).values
    # Strictly above the last one that is allowed to be like it, so that equal ones are not.
    least = float(torch.nextafter(nearest[allowed - 1], torch.tensor(2.0)))
    among = examples @ examples.T - 3 * torch.eye(len(examples))
    neighbours = float((among.amax(1) >= least).float().mean()) if len(examples) > 1 else None
    return Radius(least, float((nearest >= least).float().mean()), neighbours)
