"""The other picture transformers, most of them with prompts that are embedded already."""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch

from tests.pipelines.zoo.flux import NO_TEXT, NO_TEXTS, embedded
from tests.pipelines.zoo.parts import (
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


def qwen_vae(channels: int = 3) -> Any:
    return d.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
        **({"input_channels": channels} if channels != 3 else {}),
    )


def qwen(cls: Any, channels: int = 3, **more: Any) -> Any:
    net = d.QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
        **more.pop("net", {}),
    )
    return cls(scheduler=flow(), vae=qwen_vae(channels), transformer=net, **NO_TEXT, **more)


def worded(batch: int = 1, **more: Any) -> dict[str, Any]:
    """The arguments of a Qwen-Image call."""
    return embedded(batch, 8, 16, prompt_embeds_mask=ones(batch, 8), true_cfg_scale=1.0, **more)


def sana() -> Any:
    net = d.SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=8,
        sample_size=32,
    )
    autoencoder = d.AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=[1, 1],
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    return d.SanaPipeline(transformer=net, vae=autoencoder, scheduler=flow(shift=7.0), **NO_TEXT)


def pixart(cls: Any) -> Any:
    net = d.PixArtTransformer2DModel(
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=32,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
    )
    return cls(transformer=net, vae=vae(4, 8), scheduler=d.DDIMScheduler(), **NO_TEXT)


def unbinned(batch: int, width: int) -> dict[str, Any]:
    return masked(batch, 8, width, negative_prompt=None, use_resolution_binning=False)


def zimage() -> Any:
    net = d.ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=16,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    with torch.no_grad():  # both are made without values
        net.x_pad_token.fill_(1)
        net.cap_pad_token.fill_(1)
    return d.ZImagePipeline(transformer=net, vae=flow_vae(16, 4, 8), scheduler=flow(), **NO_TEXT)


def listed(_: Any) -> dict[str, Any]:
    """Z-Image takes its embeddings as a list, one of any length a prompt."""
    return embedded(1, 1, 1) | {
        "prompt_embeds": [noise(8, 16), noise(8, 16, seed=2)],
        "negative_prompt_embeds": [noise(8, 16, seed=3), noise(8, 16, seed=4)],
    }


def hunyuan_dit() -> Any:
    net = d.HunyuanDiT2DModel(
        sample_size=16,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        in_channels=4,
        cross_attention_dim=32,
        cross_attention_dim_t5=32,
        pooled_projection_dim=16,
        hidden_size=24,
        activation_fn="gelu-approximate",
        text_len=8,
        text_len_t5=8,
    )
    return d.HunyuanDiTPipeline(
        transformer=net,
        vae=vae(4, 4, 4, 8),
        scheduler=d.DDPMScheduler(),
        **NO_TEXTS,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def twice(_: Any) -> dict[str, Any]:
    """Hunyuan-DiT has two text encoders, each with its mask, each twice."""
    second = {"prompt_embeds_2": noise(2, 8, 32, seed=3), "prompt_attention_mask_2": ones(2, 8)}
    not_wanted = {"negative_prompt_embeds_2": noise(2, 8, 32, seed=4), "negative_prompt_attention_mask_2": ones(2, 8)}
    return masked(2, 8, 32, use_resolution_binning=False, **second, **not_wanted)


def auraflow() -> Any:
    net = d.AuraFlowTransformer2DModel(
        sample_size=32,
        patch_size=2,
        in_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        out_channels=4,
        pos_embed_max_size=256,
    )
    return d.AuraFlowPipeline(transformer=net, vae=vae(), scheduler=flow(), **NO_TEXT)


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


def lumina2() -> Any:
    net = d.Lumina2Transformer2DModel(
        sample_size=4,
        patch_size=2,
        in_channels=4,
        hidden_size=8,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=1,
        num_kv_heads=1,
        multiple_of=16,
        scaling_factor=1.0,
        axes_dim_rope=[4, 2, 2],
        cap_feat_dim=8,
    )
    return d.Lumina2Pipeline(transformer=net, vae=flow_vae(4, 4, 4, 4, 8), scheduler=flow(), **NO_TEXT)


def cogview3() -> Any:
    net = d.CogView3PlusTransformer2DModel(
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=4,
        num_attention_heads=2,
        out_channels=4,
        text_embed_dim=32,
        time_embed_dim=8,
        condition_dim=2,
        pos_embed_max_size=16,
        sample_size=8,
    )
    return d.CogView3PlusPipeline(transformer=net, vae=vae(), scheduler=d.CogVideoXDDIMScheduler(), **NO_TEXT)


def cogview4() -> Any:
    net = d.CogView4Transformer2DModel(
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=4,
        num_attention_heads=4,
        out_channels=4,
        text_embed_dim=32,
        time_embed_dim=8,
        condition_dim=4,
    )
    scheduler = flow(
        base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True, time_shift_type="linear"
    )
    return d.CogView4Pipeline(transformer=net, vae=vae(), scheduler=scheduler, **NO_TEXT)


def unwanted(batch: int, tokens: int, width: int, **more: Any) -> dict[str, Any]:
    """Embeddings, and those of what is not wanted, without masks."""
    return embedded(batch, tokens, width, negative_prompt_embeds=noise(batch, tokens, width, seed=2), **more)


def chroma() -> Any:
    net = silently(
        d.ChromaTransformer2DModel,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=[4, 4, 8],
        approximator_hidden_dim=32,
        approximator_layers=1,
        approximator_num_channels=16,
        about="`FluxPosEmbed` is deprecated",  # it takes its position embedding from where diffusers deprecated it
    )
    return d.ChromaPipeline(transformer=net, vae=flow_vae(1), scheduler=flow(), **NO_TEXT)


def bare(_: Any) -> dict[str, Any]:
    """Chroma hands its masks to the attention as they are: they have to be truth values."""
    given = masked(2, 8, 32)
    return given | {name: value.bool() for name, value in given.items() if name.endswith("_mask")}


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


def ovis() -> Any:
    net = d.OvisImageTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 4, 8),
    )
    return d.OvisImagePipeline(transformer=net, vae=flow_vae(1), scheduler=flow(), **NO_TEXT)


def hunyuan_image() -> Any:
    net = d.HunyuanImageTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=4,
        attention_head_dim=8,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=(1, 1),
        guidance_embeds=True,
        text_embed_dim=32,
        text_embed_2_dim=32,
        rope_axes_dim=(4, 4),
    )
    autoencoder = d.AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        scaling_factor=0.476986,
        spatial_compression_ratio=2,
        sample_size=32,
    )
    return d.HunyuanImagePipeline(transformer=net, vae=autoencoder, scheduler=flow(shift=7.0), **NO_TEXTS)


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


DIT = table(
    Case("QwenImagePipeline", "qwen", seeded(lambda: qwen(d.QwenImagePipeline)), lambda _: worded(2), count=2),
    Case("SanaPipeline", "sana", seeded(sana), lambda _: unbinned(2, 8), count=2),
    Case(
        "PixArtAlphaPipeline",
        "pixart",
        seeded(lambda: pixart(d.PixArtAlphaPipeline)),
        lambda _: unbinned(2, 32),
        count=2,
    ),
    Case("PixArtSigmaPipeline", "pixart", seeded(lambda: pixart(d.PixArtSigmaPipeline)), lambda _: unbinned(1, 32)),
    Case("ZImagePipeline", "zimage", seeded(zimage), listed, count=2),
    Case("HunyuanDiTPipeline", "hunyuan_dit", seeded(hunyuan_dit), twice, count=2, slot=True),
    Case("AuraFlowPipeline", "auraflow", seeded(auraflow), lambda _: masked(2, 8, 32), count=2),
    Case("LuminaPipeline", "lumina", seeded(lumina), lambda _: masked(1, 8, 8)),
    Case("Lumina2Pipeline", "lumina2", seeded(lumina2), lambda _: masked(2, 8, 8), count=2),
    Case("CogView3PlusPipeline", "cogview3", seeded(cogview3), lambda _: unwanted(2, 8, 32), count=2),
    Case("CogView4Pipeline", "cogview4", seeded(cogview4), lambda _: unwanted(1, 16, 32)),
    Case("ChromaPipeline", "chroma", seeded(chroma), bare, count=2),
    Case("HiDreamImagePipeline", "hidream", seeded(hidream), four_ways),
    Case("BriaPipeline", "bria", seeded(bria), lambda _: unwanted(2, 8, 32), count=2),
    Case("OvisImagePipeline", "ovis", seeded(ovis), lambda _: unwanted(1, 8, 32, negative_prompt=None)),
    Case(
        "HunyuanImagePipeline",
        "hunyuan_image",
        seeded(hunyuan_image),
        lambda _: embedded(
            1, 8, 32, prompt_embeds_mask=ones(1, 8), prompt_embeds_2=noise(1, 8, 32), prompt_embeds_mask_2=ones(1, 8)
        ),
    ),
    Case("PRXPipeline", "prx", seeded(prx), lambda _: unbinned(1, 8)),
)
