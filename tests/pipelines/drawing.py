"""What the tests of pipelines share: how the shapes pipeline is asked, and pictures of any kind as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

PROMPTS = ["a large red disc on white", "a blue star on grey"]

# What numpy, schedulers and pipelines of diffusers say of each other.
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def draw(pipe: Any, *prompts: str, **settings: Any) -> Any:
    """Pictures of the shapes pipeline, each with a seed of its own."""
    chosen = prompts or PROMPTS
    seeds = [torch.Generator().manual_seed(i) for i in range(len(chosen))]
    return pipe(list(chosen), **{"guidance_scale": 3.0, "num_inference_steps": 2, "generator": seeds, **settings})


def arrays(pictures: Any) -> list[np.ndarray]:
    """Every picture that leaves, whatever it leaves in: lists, clips, arrays, tensors."""
    if isinstance(pictures, (list, tuple)):
        return [array for part in pictures for array in arrays(part)]
    array = pictures.float().cpu().numpy() if isinstance(pictures, torch.Tensor) else np.asarray(pictures)
    return list(array.reshape(-1, *array.shape[-3:]))


def stacked(pictures: Any) -> np.ndarray:
    """Every picture that leaves, as one array."""
    return np.stack(arrays(pictures)).astype(np.float64)
