"""CLIP's vision model, from the checkpoints of transformers and of the stock safety checker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nsfw_guard.backends.files import weights
from nsfw_guard.backends.files.arguments import check_config
from nsfw_guard.backends.files.bounded import at_most
from nsfw_guard.errors import MissingExtraError, WeightsUnfitError, first_line


class ClipVision(nn.Module):
    """A network from normalised pixels to the projected embedding. Shape: (R, 3, S, S) to (R, width)."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        try:
            from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
        except ModuleNotFoundError:
            raise MissingExtraError("transformers", "diffusers") from None
        check_config(config, weights.CONFIG)
        try:
            settings = {**config.get("vision_config", {}), "projection_dim": config["projection_dim"]}
            self.model: Any = CLIPVisionModelWithProjection(CLIPVisionConfig(**settings))
            self.width = int(config["projection_dim"])
            self.side = int(self.model.config.image_size)
        except WeightsUnfitError:
            raise
        except Exception as error:  # transformers raises errors of any type for an unusable configuration
            raise WeightsUnfitError(
                f"{weights.CONFIG} does not describe a CLIP vision model ({first_line(error)}): fetch it again"
            ) from error

    def forward(self, values: Tensor) -> Tensor:
        """Return the embedding."""
        embedding: Tensor = self.model(pixel_values=values).image_embeds
        return embedding


def config_from(folder: Path) -> dict[str, Any]:
    """Read the configuration of a CLIP model in a folder."""
    return weights.read_config(folder)


def fit_vision(config: Mapping[str, Any], tensors: Mapping[str, Tensor], what: str) -> ClipVision:
    """Return the vision model with these weights, saved with any release of transformers.

    Releases differ in the number of "vision_model." prefixes; the text model and old position buffers are left out.
    """
    with at_most(sum(tensor.numel() for tensor in tensors.values()), repr(what)):
        vision = ClipVision(config)
    by_end = {_bare(name): name for name in vision.model.state_dict()}
    renamed = {
        by_end.get(_bare(name), name): tensor.float()
        for name, tensor in tensors.items()
        if not name.startswith(("text_model.", "text_projection.", "logit_scale")) and not name.endswith("position_ids")
    }
    weights.load_strict(vision.model, renamed, what)
    return vision


def _bare(name: str) -> str:
    while name.startswith("vision_model."):
        name = name.removeprefix("vision_model.")
    return name
