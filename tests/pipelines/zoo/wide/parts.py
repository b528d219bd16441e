"""The parts that these cases share: seeded weights, pictures, text encoders, autoencoders."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tests.pipelines.zoo.parts import Case

PROMPT = "a red disc on white"
VISIBLE = ("pil", "np", "pt")


def table(*cases: Case) -> dict[str, Case]:
    """Cases by name, no name twice."""
    found = {case.name: case for case in cases}
    assert len(found) == len(cases), "two cases share a name"
    return found


def seeded(build: Callable[[], Any]) -> Callable[[], Any]:
    """A builder whose weights are the same every time and which leaves the global random state alone."""

    def made() -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return quiet(build())

    return made


def quiet(pipe: Any) -> Any:
    """The pipeline in eval mode, without progress bars."""
    for part in getattr(pipe, "components", {}).values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    for step in (pipe, *(getattr(pipe, name, None) for name in ("prior_pipe", "decoder_pipe", "generation_pipe"))):
        if step is not None:
            step.set_progress_bar_config(disable=True)
    return pipe


def silently(build: Callable[..., Any], *args: Any, about: str, **given: Any) -> Any:
    """What `build` makes, without the one FutureWarning that diffusers gives about its own code."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", about, FutureWarning)
        return build(*args, **given)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    """Normal noise, the same for the same seed."""
    return torch.randn(*shape, generator=generator(seed))


def some(*shape: int, seed: int = 1) -> torch.Tensor:
    """Uniform values in [0, 1], the same for the same seed."""
    return torch.rand(*shape, generator=generator(seed))


def picture(side: int = 32, *, seed: int = 2) -> Image.Image:
    """A smooth picture of coloured blobs."""
    rough = some(1, 3, 4, 4, seed=seed)
    wide = torch.nn.functional.interpolate(rough, (side, side), mode="bilinear")[0]
    return Image.fromarray((wide * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def mask(side: int = 32) -> Image.Image:
    """White in the middle, black around it."""
    drawn = np.zeros((side, side), dtype=np.uint8)
    drawn[side // 4 : side // 2, side // 4 : side // 2] = 255
    return Image.fromarray(drawn)


def clip_tokenizer(length: int = 77) -> Any:
    """A real CLIP tokenizer that knows the letters of the prompts."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["<|startoftext|>", "!", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocab = {word: place for place, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=length)


def clip_text(hidden: int = 32, *, projection: int | None = None, layers: int = 2) -> Any:
    """A tiny CLIP text encoder, with a projection where its width is given."""
    config = CLIPTextConfig(
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
        hidden_size=hidden,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=layers,
        vocab_size=100,
        projection_dim=projection or 32,
    )
    return CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)


def vae(*blocks: int, latents: int = 4, groups: int = 2, **settings: Any) -> Any:
    """A tiny AutoencoderKL: one block halves nothing, two halve the side once, and so on."""
    blocks = blocks or (4, 8)
    return AutoencoderKL(
        block_out_channels=blocks,
        down_block_types=["DownEncoderBlock2D"] * len(blocks),
        up_block_types=["UpDecoderBlock2D"] * len(blocks),
        latent_channels=latents,
        norm_num_groups=groups,
        sample_size=32,
        **settings,
    )


def flow_vae(latents: int, *blocks: int) -> Any:
    """The autoencoder of the flow-matching families: no quantisation layers, shifted latents."""
    still = {"use_quant_conv": False, "use_post_quant_conv": False}
    return vae(*(blocks or (4,)), latents=latents, groups=1, shift_factor=0.0609, scaling_factor=1.5035, **still)


def unet(channels: int = 4, out: int = 4, *, cross: int = 32, **settings: Any) -> Any:
    """A tiny conditional U-Net."""
    given = {
        "block_out_channels": (4, 8),
        "layers_per_block": 1,
        "sample_size": 32,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "norm_num_groups": 2,
        **settings,
    }
    return UNet2DConditionModel(in_channels=channels, out_channels=out, cross_attention_dim=cross, **given)


def ddim(**settings: Any) -> Any:
    """The scheduler of the first latent-diffusion models."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        **settings,
    )


def flow(**settings: Any) -> Any:
    """The scheduler of the flow-matching models."""
    return FlowMatchEulerDiscreteScheduler(**settings)
