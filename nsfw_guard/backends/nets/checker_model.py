"""The stock checker of Stable Diffusion for a batch of images: the same flags, and the scores that it discards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.files import weights
from nsfw_guard.backends.nets.clip_vision import ClipVision, config_from, fit_vision
from nsfw_guard.backends.nets.network import Net, NetBackend
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import WeightsUnfitError

EMBEDS = ("concept_embeds", "special_care_embeds", "concept_embeds_weights", "special_care_embeds_weights")
SPECIAL_CARE_MARGIN = 0.01  # added to every later score after a hit among the special-care concepts
# A margin is a difference of cosines rounded to three places; the stock checker flags what is above 0. As a
# probability, half a step below the first flagged margin is 0.5, and margins keep their order.
STEP, SPAN = 0.0005, 4.0


class CheckerNet(Net):
    """CLIP's image embedding compared with the concepts of the checkpoint."""

    def __init__(self, vision: ClipVision, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.vision = vision
        # Parameters, as in the checkpoint, so that they follow the network's dtype.
        self.own = nn.ParameterDict({name: nn.Parameter(tensors[name].float(), requires_grad=False) for name in EMBEDS})
        self.width = vision.width
        self.concepts, cares = len(tensors["concept_embeds"]), len(tensors["special_care_embeds"])
        self.extra_score_names = tuple(
            [f"concept {i}" for i in range(self.concepts)] + [f"special care {i}" for i in range(cares)]
        )

    def forward_with_embedding(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the margins of concepts and special-care concepts, and the projected embedding."""
        embedding = self.vision(values)
        return self._margins(embedding), embedding

    def forward(self, values: Tensor) -> Tensor:
        """Return the margins. There is no other forward to compare with; tests compare it with diffusers' own."""
        return self._margins(self.vision(values))

    def to_probabilities(self, numbers: Tensor) -> Tensor:
        """Return the worst concept as a probability: the stock checker flags 0.5 and more."""
        worst = numbers[:, : self.concepts].amax(1, keepdim=True)
        return (0.5 + (worst - STEP) / SPAN).clamp(0, 1)

    def extra_scores(self, numbers: Tensor) -> Tensor:
        """Return every margin."""
        return numbers

    def _margins(self, embedding: Tensor) -> Tensor:
        """In float32 from the cosines on, step by step as NumPy 2 counts it: a margin may sit on the edge."""
        care = _cosines(embedding, self.own["special_care_embeds"]) - self.own["special_care_embeds_weights"].float()
        concepts = _cosines(embedding, self.own["concept_embeds"]) - self.own["concept_embeds_weights"].float()
        # One after the other: the first hit raises those that come after it.
        raised, margins = torch.zeros_like(care[:, :1]), []
        for i in range(care.shape[1]):
            margins.append(_three_places(care[:, i : i + 1] + raised))
            raised = torch.where(margins[-1] > 0, SPECIAL_CARE_MARGIN, raised)
        return torch.cat([_three_places(concepts + raised), *margins], 1)


def _cosines(embedding: Tensor, concepts: Tensor) -> Tensor:
    return (functional.normalize(embedding) @ functional.normalize(concepts).t()).float()


def _three_places(values: Tensor) -> Tensor:
    return (values * 1000).round() / 1000


def load_files(spec: ModelSpec, folder: Path, options: Options) -> NetBackend:
    """Load the checkpoint from a folder in diffusers' layout."""
    config = config_from(folder)
    tensors = weights.read_weights(folder / weights.WEIGHTS, spec.sha256)
    missing = [name for name in EMBEDS if name not in tensors]
    if missing:
        raise WeightsUnfitError(
            f"the weights of {spec.name!r} lack {', '.join(missing)}: use the checkpoint of a safety checker"
        )
    concepts: dict[str, Any] = {name: tensors.pop(name) for name in EMBEDS}
    return NetBackend(CheckerNet(fit_vision(config, tensors, spec.name), concepts), spec, options)
