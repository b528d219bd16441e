"""What the tests of pipelines share: how the shapes pipeline is asked, and images of any kind as arrays."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

PROMPTS = ["a large red disc on white", "a blue star on grey"]

# What numpy, schedulers and pipelines of diffusers say of each other.
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def draw(pipe: Any, *prompts: str, **settings: Any) -> Any:
    """Images of the shapes pipeline, each with a seed of its own."""
    chosen = prompts or PROMPTS
    seeds = [torch.Generator().manual_seed(i) for i in range(len(chosen))]
    return pipe(list(chosen), **{"guidance_scale": 3.0, "num_inference_steps": 2, "generator": seeds, **settings})


def for_threads(pipe: Any, count: int) -> list[Any]:
    """The pipeline, so many times, each with a scheduler and a tokenizer of its own: these two keep state in a call."""
    pipes = [copy.copy(pipe) for _ in range(count)]
    for one in pipes:
        one.scheduler, one.tokenizer = copy.deepcopy(pipe.scheduler), copy.deepcopy(pipe.tokenizer)
    return pipes


def arrays(images: Any) -> list[np.ndarray]:
    """Every image that leaves, whatever it leaves in: lists, clips, arrays, tensors."""
    if isinstance(images, (list, tuple)):
        return [array for part in images for array in arrays(part)]
    array = images.float().cpu().numpy() if isinstance(images, torch.Tensor) else np.asarray(images)
    return list(array.reshape(-1, *array.shape[-3:]))


def stacked(images: Any) -> np.ndarray:
    """Every image that leaves, as one array."""
    return np.stack(arrays(images)).astype(np.float64)
