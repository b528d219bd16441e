"""The other picture transformers, most of them with prompts that are embedded already."""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch

from tests.pipelines.zoo.wide.flux import NO_TEXT, NO_TEXTS, embedded
from tests.pipelines.zoo.wide.parts import (
    Case,
    flow,
    flow_vae,
    noise,
    seeded,
    silently,
    table,
    vae,
)


def ones(batch: int, tokens: int) -> torch.Tensor:
    return torch.ones(batch, tokens, dtype=torch.long)


def masked(batch: int, tokens: int, width: int, **more: Any) -> dict[str, Any]:
    """Embeddings with their mask, and the same for what is not wanted."""
    return embedded(
        batch,
        tokens,
        width,
        prompt_attention_mask=ones(batch, tokens),
        negative_prompt_embeds=noise(batch, tokens, width, seed=2),
        negative_prompt_attention_mask=ones(batch, tokens),
        **more,
    )


def worded(batch: int = 1, **more: Any) -> dict[str, Any]:
    """The arguments of a Qwen-Image call."""
    return embedded(batch, 8, 16, prompt_embeds_mask=ones(batch, 8), true_cfg_scale=1.0, **more)


def unbinned(batch: int, width: int) -> dict[str, Any]:
    return masked(batch, 8, width, negative_prompt=None, use_resolution_binning=False)


def lumina() -> Any:
    net = d.LuminaNextDiT2DModel(
        sample_size=4,
        patch_size=2,
        in_channels=4,
        hidden_size=8,
        num_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        qk_norm=True,
        learn_sigma=True,
        cross_attention_dim=8,
        scaling_factor=1.0,
    )
    return d.LuminaPipeline(transformer=net, vae=vae(4, 4, 4, 8), scheduler=flow(), **NO_TEXT)


def unwanted(batch: int, tokens: int, width: int, **more: Any) -> dict[str, Any]:
    """Embeddings, and those of what is not wanted, without masks."""
    return embedded(batch, tokens, width, negative_prompt_embeds=noise(batch, tokens, width, seed=2), **more)


def hidream() -> Any:
    net = d.HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_channels=[32, 16],
        text_emb_dim=64,
        num_routed_experts=4,
        num_activated_experts=2,
        axes_dims_rope=(4, 2, 2),
        max_resolution=(32, 32),
        llama_layers=(0, 1),
    )
    more = {"text_encoder_3": None, "tokenizer_3": None, "text_encoder_4": None, "tokenizer_4": None}
    pipe = d.HiDreamImagePipeline(transformer=net, vae=vae(shift_factor=0.1159), scheduler=flow(), **NO_TEXTS, **more)
    pipe.default_sample_size = 16  # whatever size one asks for, it takes one of about this area
    return pipe


def four_ways(_: Any) -> dict[str, Any]:
    """HiDream: T5, a pooled CLIP, and one embedding a Llama layer."""
    given = embedded(1, 1, 1) | {"guidance_scale": 5.0}
    del given["prompt_embeds"]
    return given | {
        "prompt_embeds_t5": noise(1, 8, 32),
        "prompt_embeds_llama3": noise(2, 1, 8, 16, seed=2),
        "negative_prompt_embeds_t5": noise(1, 8, 32, seed=3),
        "negative_prompt_embeds_llama3": noise(2, 1, 8, 16, seed=4),
        "pooled_prompt_embeds": noise(1, 64, seed=5),
        "negative_pooled_prompt_embeds": noise(1, 64, seed=6),
    }


def bria() -> Any:
    net = d.BriaTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=None,
        axes_dims_rope=[0, 4, 4],
    )
    autoencoder = vae(4, shift_factor=0, scaling_factor=0.13025)
    return d.BriaPipeline(transformer=net, vae=autoencoder, scheduler=flow(), **NO_TEXT)


def prx() -> Any:
    net = d.PRXTransformer2DModel(
        patch_size=1,
        in_channels=4,
        context_in_dim=8,
        hidden_size=8,
        mlp_ratio=2.0,
        num_heads=2,
        depth=1,
        axes_dim=[2, 2],
    )
    return silently(
        d.PRXPipeline,
        transformer=net,
        vae=flow_vae(4, 4, 8),
        scheduler=flow(),
        **NO_TEXT,
        about="`LoraLoaderMixin` is deprecated",  # one of its own base classes
    )


def prx_pixel() -> Any:
    """The same without a VAE: it draws pixels."""
    net = d.PRXTransformer2DModel(
        patch_size=4,
        in_channels=3,
        context_in_dim=8,
        hidden_size=8,
        mlp_ratio=2.0,
        num_heads=2,
        depth=1,
        axes_dim=[2, 2],
    )
    return d.PRXPixelPipeline(transformer=net, scheduler=flow(), text_encoder=None, tokenizer=None, noise_scale=1.0)


DIT = table(
    Case("LuminaPipeline", "lumina", seeded(lumina), lambda _: masked(1, 8, 8)),
    Case("HiDreamImagePipeline", "hidream", seeded(hidream), four_ways),
    Case("BriaPipeline", "bria", seeded(bria), lambda _: unwanted(2, 8, 32), count=2),
    Case("PRXPipeline", "prx", seeded(prx), lambda _: unbinned(1, 8)),
    Case("PRXPixelPipeline", "prx", seeded(prx_pixel), lambda _: unbinned(1, 8)),
)
