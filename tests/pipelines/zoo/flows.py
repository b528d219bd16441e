"""Pictures by transformers: SD3, FLUX and its kin, Qwen, Sana, PixArt and many more."""

from __future__ import annotations

from typing import Any

import diffusers
import torch

from tests.pipelines.zoo.parts import (
    Case,
    ddim,
    flat_kl,
    flow,
    hole,
    kl,
    made,
    picture,
    piped,
    random,
    seeds,
)

SIZE = {"height": 32, "width": 32}
NONE = {"text_encoder": None, "tokenizer": None}
NONE2 = {**NONE, "text_encoder_2": None, "tokenizer_2": None}
PAINT = {"image": picture(), "mask_image": hole(), "strength": 1.0}


def steps(count: int = 1) -> dict[str, Any]:
    return {"num_inference_steps": 2, "generator": seeds(count)}


def sd3(name: str, channels: int = 4) -> Any:
    body = made(
        diffusers.SD3Transformer2DModel,
        sample_size=16,
        patch_size=1,
        in_channels=channels,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        out_channels=4,
    )
    return piped(
        getattr(diffusers, name),
        transformer=body,
        vae=flat_kl(4),
        scheduler=flow(),
        text_encoder_3=None,
        tokenizer_3=None,
        **NONE2,
    )


def sd3_call(count: int = 1) -> dict[str, Any]:
    return {
        "prompt_embeds": random(count, 5, 16),
        "pooled_prompt_embeds": random(count, 16),
        "guidance_scale": 1.0,
        **steps(count),
        **SIZE,
    }


def flux(name: str, *, channels: int = 4, out: int = 4, latent: int = 1, **parts: Any) -> Any:
    body = made(
        diffusers.FluxTransformer2DModel,
        patch_size=1,
        in_channels=channels,
        out_channels=out,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=[4, 4, 8],
    )
    return piped(getattr(diffusers, name), transformer=body, vae=flat_kl(latent), scheduler=flow(), **NONE2, **parts)


def flux_call(count: int = 1) -> dict[str, Any]:
    return {"prompt_embeds": random(count, 5, 16), "pooled_prompt_embeds": random(count, 16), **steps(count), **SIZE}


def flux2(name: str) -> Any:
    body = made(
        diffusers.Flux2Transformer2DModel,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        timestep_guidance_channels=256,
        axes_dims_rope=[4, 4, 4, 4],
    )
    vae = made(
        diffusers.AutoencoderKLFlux2,
        sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=1,
        norm_num_groups=2,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return piped(getattr(diffusers, name), transformer=body, vae=vae, scheduler=flow(), **NONE)


def qwen_body(latent: int = 4, **settings: Any) -> Any:
    return made(
        diffusers.QwenImageTransformer2DModel,
        patch_size=2,
        in_channels=4 * latent,
        out_channels=latent,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
        **settings,
    )


def qwen_vae(latent: int = 4, halvings: int = 2, **settings: Any) -> Any:
    return made(
        diffusers.AutoencoderKLQwenImage,
        base_dim=4,
        z_dim=latent,
        dim_mult=[1] * (halvings + 1),
        num_res_blocks=1,
        temperal_downsample=[False] * halvings,
        latents_mean=[0.0] * latent,
        latents_std=[1.0] * latent,
        **settings,
    )


def qwen() -> Any:
    return piped(diffusers.QwenImagePipeline, transformer=qwen_body(), vae=qwen_vae(), scheduler=flow(), **NONE)


class Typed(torch.nn.Module):
    """Stands where some pipelines ask a text model for no more than its type."""

    dtype, device = torch.float32, torch.device("cpu")


def qwen_layered() -> Any:
    return piped(
        diffusers.QwenImageLayeredPipeline,
        transformer=qwen_body(8, use_additional_t_cond=True, use_layer3d_rope=True),
        vae=qwen_vae(8, 4, input_channels=4),
        scheduler=flow(),
        processor=None,
        tokenizer=None,
        text_encoder=Typed(),
    )


def masked(count: int = 1, length: int = 5, width: int = 16) -> dict[str, Any]:
    return {
        "prompt_embeds": random(count, length, width),
        "prompt_embeds_mask": torch.ones(count, length, dtype=torch.int64),
    }


def attended(count: int = 1, length: int = 5, width: int = 16, mask: str = "prompt_attention_mask") -> dict[str, Any]:
    return {"prompt_embeds": random(count, length, width), mask: torch.ones(count, length, dtype=torch.int64)}


def sana() -> Any:
    body = made(
        diffusers.SanaTransformer2DModel,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=16,
        sample_size=32,
    )
    vae = made(
        diffusers.AutoencoderDC,
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
        scaling_factor=0.4,
    )
    return piped(diffusers.SanaPipeline, transformer=body, vae=vae, scheduler=flow(shift=7.0), **NONE)


def pixart(name: str) -> Any:
    body = made(
        diffusers.PixArtTransformer2DModel,
        sample_size=16,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=16,
        in_channels=4,
        cross_attention_dim=16,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        use_additional_conditions=False,
    )
    return piped(getattr(diffusers, name), transformer=body, vae=kl(), scheduler=ddim(), **NONE)


def zimage() -> Any:
    body = made(
        diffusers.ZImageTransformer2DModel,
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    return piped(diffusers.ZImagePipeline, transformer=body, vae=flat_kl(4), scheduler=flow(), **NONE)


def aura() -> Any:
    body = made(
        diffusers.AuraFlowTransformer2DModel,
        sample_size=16,
        patch_size=2,
        in_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=16,
        out_channels=4,
        pos_embed_max_size=256,
    )
    return piped(diffusers.AuraFlowPipeline, transformer=body, vae=kl(), scheduler=flow(), **NONE)


def lumina2() -> Any:
    body = made(
        diffusers.Lumina2Transformer2DModel,
        sample_size=4,
        patch_size=2,
        in_channels=4,
        hidden_size=8,
        num_layers=1,
        num_attention_heads=1,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=[4, 2, 2],
        cap_feat_dim=16,
    )
    return piped(diffusers.Lumina2Pipeline, transformer=body, vae=flat_kl(4), scheduler=flow(), **NONE)


def cogview4() -> Any:
    body = made(
        diffusers.CogView4Transformer2DModel,
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=4,
        num_attention_heads=4,
        out_channels=4,
        text_embed_dim=16,
        time_embed_dim=8,
        condition_dim=4,
    )
    scheduler = flow(
        base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True, time_shift_type="linear"
    )
    return piped(diffusers.CogView4Pipeline, transformer=body, vae=kl(), scheduler=scheduler, **NONE)


def cogview3() -> Any:
    body = made(
        diffusers.CogView3PlusTransformer2DModel,
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=4,
        num_attention_heads=2,
        out_channels=4,
        text_embed_dim=16,
        time_embed_dim=8,
        condition_dim=2,
        pos_embed_max_size=16,
        sample_size=16,
    )
    return piped(
        diffusers.CogView3PlusPipeline, transformer=body, vae=kl(), scheduler=diffusers.CogVideoXDDIMScheduler(), **NONE
    )


def chroma() -> Any:
    body = made(
        diffusers.ChromaTransformer2DModel,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=[4, 4, 8],
        approximator_hidden_dim=32,
        approximator_layers=1,
        approximator_num_channels=16,
    )
    return piped(diffusers.ChromaPipeline, transformer=body, vae=flat_kl(1), scheduler=flow(), **NONE)


def hunyuan_dit() -> Any:
    body = made(
        diffusers.HunyuanDiT2DModel,
        sample_size=16,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        in_channels=4,
        cross_attention_dim=16,
        cross_attention_dim_t5=16,
        pooled_projection_dim=16,
        hidden_size=24,
        activation_fn="gelu-approximate",
        text_len=5,
        text_len_t5=5,
    )
    return piped(
        diffusers.HunyuanDiTPipeline,
        transformer=body,
        vae=kl(blocks=(8,) * 4),
        scheduler=diffusers.DDPMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **NONE2,
    )


def hunyuan_dit_call() -> dict[str, Any]:
    both = attended() | {f"{k}_2": v for k, v in attended().items()}
    return {**both, **steps(), **SIZE, "guidance_scale": 1.0, "use_resolution_binning": False}


def hunyuan_image() -> Any:
    body = made(
        diffusers.HunyuanImageTransformer2DModel,
        in_channels=4,
        out_channels=4,
        num_attention_heads=4,
        attention_head_dim=8,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=(1, 1),
        guidance_embeds=False,
        text_embed_dim=16,
        text_embed_2_dim=16,
        rope_axes_dim=(4, 4),
    )
    vae = made(
        diffusers.AutoencoderKLHunyuanImage,
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32, 64, 64, 64),
        layers_per_block=1,
        scaling_factor=0.5,
        spatial_compression_ratio=8,
        sample_size=128,
    )
    return piped(
        diffusers.HunyuanImagePipeline,
        transformer=body,
        vae=vae,
        scheduler=flow(shift=7.0),
        guider=None,
        ocr_guider=None,
        **NONE2,
    )


def ovis() -> Any:
    body = made(
        diffusers.OvisImageTransformer2DModel,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 4, 8),
    )
    return piped(diffusers.OvisImagePipeline, transformer=body, vae=flat_kl(1), scheduler=flow(), **NONE)


def dit() -> Any:
    body = made(
        diffusers.DiTTransformer2DModel,
        sample_size=16,
        num_layers=1,
        patch_size=4,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_zero",
        norm_elementwise_affine=False,
    )
    return piped(diffusers.DiTPipeline, transformer=body, vae=kl(), scheduler=ddim())


def kandinsky5() -> Any:
    body = made(
        diffusers.Kandinsky5Transformer3DModel,
        in_visual_dim=4,
        in_text_dim=16,
        in_text_dim2=16,
        time_dim=16,
        out_visual_dim=4,
        patch_size=(1, 2, 2),
        model_dim=16,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=(1, 1, 2),
        visual_cond=False,
        attention_type="regular",
    )
    return piped(diffusers.Kandinsky5T2IPipeline, transformer=body, vae=flat_kl(4), scheduler=flow(shift=7.0), **NONE2)


def kandinsky5_call() -> dict[str, Any]:
    return {
        "prompt_embeds_qwen": random(1, 5, 16),
        "prompt_embeds_clip": random(1, 16),
        "guidance_scale": 1.0,
        "prompt_cu_seqlens": torch.tensor([0, 5], dtype=torch.int32),
        **steps(),
        "height": 32,
        "width": 32,
    }


CASES = [
    Case("StableDiffusion3Pipeline", "sd3", lambda: sd3("StableDiffusion3Pipeline"), lambda p: sd3_call(2), count=2),
    Case(
        "StableDiffusion3Img2ImgPipeline",
        "sd3",
        lambda: sd3("StableDiffusion3Img2ImgPipeline"),
        lambda p: {**sd3_call(), "image": picture(), "strength": 1.0},
    ),
    Case("FluxPipeline", "flux", lambda: flux("FluxPipeline"), lambda p: flux_call(2), count=2),
    Case(
        "FluxImg2ImgPipeline",
        "flux",
        lambda: flux("FluxImg2ImgPipeline"),
        lambda p: {**flux_call(), "image": picture(), "strength": 1.0},
    ),
    Case(
        "FluxInpaintPipeline/crop",
        "flux",
        lambda: flux("FluxInpaintPipeline"),
        lambda p: {
            **flux_call(),
            "image": picture(64),
            "mask_image": hole(64),
            "strength": 1.0,
            "padding_mask_crop": 4,
        },
        kinds=("pil",),
    ),
    Case("FluxFillPipeline", "flux", lambda: flux("FluxFillPipeline", channels=24), lambda p: {**flux_call(), **PAINT}),
    Case(
        "FluxControlPipeline",
        "flux",
        lambda: flux("FluxControlPipeline", channels=8),
        lambda p: {**flux_call(), "control_image": picture()},
    ),
    Case(
        "FluxKontextPipeline",
        "flux",
        lambda: flux("FluxKontextPipeline"),
        lambda p: {**flux_call(), "image": picture(), "max_area": 32 * 32, "_auto_resize": False},
    ),
    Case(
        "Flux2Pipeline",
        "flux2",
        lambda: flux2("Flux2Pipeline"),
        lambda p: {"prompt_embeds": random(2, 5, 16), **steps(2), **SIZE},
        count=2,
    ),
    Case("QwenImagePipeline", "qwen", qwen, lambda p: {**masked(), **steps(), **SIZE, "true_cfg_scale": 1.0}),
    Case(
        "QwenImageLayeredPipeline",
        "qwen",
        qwen_layered,
        lambda p: {
            **masked(),
            "image": picture(64).convert("RGBA"),
            "layers": 2,
            **steps(),
            "true_cfg_scale": 1.0,
            "prompt": "shapes",
        },
        kinds=("np",),
        parts=2,
    ),
    Case(
        "SanaPipeline",
        "sana",
        sana,
        lambda p: {**attended(2), **steps(2), **SIZE, "guidance_scale": 1.0, "use_resolution_binning": False},
        count=2,
    ),
    Case(
        "PixArtAlphaPipeline",
        "pixart",
        lambda: pixart("PixArtAlphaPipeline"),
        lambda p: {
            **attended(),
            "negative_prompt": None,
            **steps(),
            **SIZE,
            "guidance_scale": 1.0,
            "use_resolution_binning": False,
        },
    ),
    Case(
        "PixArtSigmaPipeline",
        "pixart",
        lambda: pixart("PixArtSigmaPipeline"),
        lambda p: {
            **attended(2),
            "negative_prompt": None,
            **steps(2),
            **SIZE,
            "guidance_scale": 1.0,
            "use_resolution_binning": False,
        },
        count=2,
    ),
    Case(
        "ZImagePipeline",
        "z_image",
        zimage,
        lambda p: {"prompt_embeds": [random(5, 16)], **steps(), **SIZE, "guidance_scale": 0.0},
    ),
    Case("AuraFlowPipeline", "aura_flow", aura, lambda p: {**attended(), **steps(), **SIZE, "guidance_scale": 1.0}),
    Case("Lumina2Pipeline", "lumina", lumina2, lambda p: {**attended(), **steps(), **SIZE, "guidance_scale": 1.0}),
    Case(
        "CogView4Pipeline",
        "cogview4",
        cogview4,
        lambda p: {"prompt_embeds": random(1, 16, 16), **steps(), **SIZE, "guidance_scale": 1.0},
    ),
    Case(
        "CogView3PlusPipeline",
        "cogview3",
        cogview3,
        lambda p: {"prompt_embeds": random(1, 5, 16), **steps(), **SIZE, "guidance_scale": 1.0},
    ),
    Case(
        "ChromaPipeline",
        "chroma",
        chroma,
        lambda p: {
            "prompt_embeds": random(1, 5, 16),
            "prompt_attention_mask": torch.ones(1, 5, dtype=torch.bool),
            **steps(),
            **SIZE,
            "guidance_scale": 1.0,
        },
    ),
    Case("HunyuanDiTPipeline", "hunyuan_dit", hunyuan_dit, lambda p: hunyuan_dit_call(), slot=True),
    Case(
        "HunyuanImagePipeline",
        "hunyuan_image",
        hunyuan_image,
        lambda p: {
            **masked(),
            "prompt_embeds_2": random(1, 5, 16),
            "prompt_embeds_mask_2": torch.ones(1, 5, dtype=torch.int64),
            **steps(),
            **SIZE,
        },
    ),
    Case(
        "OvisImagePipeline",
        "ovis",
        ovis,
        lambda p: {"prompt_embeds": random(1, 5, 16), **steps(), **SIZE, "guidance_scale": 1.0},
    ),
    Case(
        "DiTPipeline",
        "dit",
        dit,
        lambda p: {"class_labels": [1, 2], **steps(2), "guidance_scale": 1.0},
        kinds=("pil", "np", "pt"),
        count=2,
    ),
    Case(
        "Kandinsky5T2IPipeline",
        "kandinsky5",
        kandinsky5,
        lambda p: kandinsky5_call(),
        kinds=("pil", "pt", "latent"),
        field="image",
    ),
]
