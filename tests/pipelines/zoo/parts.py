"""Tiny parts with random weights, and what a case of the zoo is. No text models: prompts come as embeddings."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image

ALL = ("pil", "np", "pt", "latent")
DECODED = ("pil", "np", "pt")


@dataclass(frozen=True)
class Case:
    """One real pipeline class, tiny, and one call of it.

    Args:
        name: the class, or "Class/variant"; family: what it belongs to.
        build: makes the pipeline anew; call: the arguments of one call, but for output_type and return_dict.
        kinds: the output types it knows.
        count: pictures, or clips, that leave; frames: of a clip, 0 for pictures; parts: pictures in an entry.
        slot: it has one for a safety checker; field: where its pictures are; modular: it is a modular pipeline.
    """

    name: str
    family: str
    build: Callable[[], Any]
    call: Callable[[Any], dict[str, Any]]
    kinds: tuple[str, ...] = ALL
    count: int = 1
    frames: int = 0
    parts: int = 1
    slot: bool = False
    field: str = "images"
    modular: bool = False


def made(cls: Any, **settings: Any) -> Any:
    """A model with the same random weights every time."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tiny sizes are unusual, and some models say so
        torch.manual_seed(0)
        model = cls(**settings).eval()
        for name, weights in model.named_parameters():
            if weights.ndim > 1 and not bool(weights.any()):  # what is zero at first would draw nothing
                torch.nn.init.normal_(weights, std=0.02)
            elif name.endswith("conv_out.weight"):
                torch.nn.init.normal_(weights, std=0.05)
    return model


def piped(cls: Any, **parts: Any) -> Any:
    """A pipeline of these parts, quiet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = cls(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seeds(count: int = 1) -> Any:
    """A generator, or several."""
    one = [torch.Generator().manual_seed(7 + i) for i in range(count)]
    return one[0] if count == 1 else one


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    """Numbers that are always the same."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def picture(side: int = 32, *, seed: int = 0) -> Image.Image:
    """A smooth picture, as a user would hand one in."""
    rough = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(rough, (side, side), mode="bilinear")[0]
    return Image.fromarray(smooth.mul(255).byte().permute(1, 2, 0).numpy())


def hole(side: int = 32) -> Image.Image:
    """A mask with a square in its middle."""
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : -side // 4, side // 4 : -side // 4] = 255
    return Image.fromarray(mask)


def kl(channels: int = 4, *, blocks: tuple[int, ...] = (8, 8), **settings: Any) -> Any:
    """A small AutoencoderKL; with two blocks it halves the sides once."""
    return made(
        diffusers.AutoencoderKL,
        block_out_channels=blocks,
        down_block_types=["DownEncoderBlock2D"] * len(blocks),
        up_block_types=["UpDecoderBlock2D"] * len(blocks),
        latent_channels=channels,
        norm_num_groups=2,
        sample_size=32,
        **settings,
    )


def flat_kl(channels: int) -> Any:
    """An AutoencoderKL as the flow models have it: shifted, without the convolutions in the middle."""
    return kl(channels, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5)


def unet(channels: int = 4, *, out: int = 4, cross: int = 8, **settings: Any) -> Any:
    """A small UNet2DConditionModel."""
    return made(
        diffusers.UNet2DConditionModel,
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=16,
        in_channels=channels,
        out_channels=out,
        cross_attention_dim=cross,
        norm_num_groups=2,
        attention_head_dim=4,
        **{
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            **settings,
        },
    )


def ddim() -> Any:
    """A scheduler of the first kind."""
    return diffusers.DDIMScheduler(clip_sample=False, beta_schedule="scaled_linear")


def flow(**settings: Any) -> Any:
    """A scheduler of flow matching."""
    return diffusers.FlowMatchEulerDiscreteScheduler(**settings)
