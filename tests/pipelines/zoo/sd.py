"""Stable Diffusion 1 and 2, SDXL, and what is built on them."""

from __future__ import annotations

from typing import Any

import diffusers

from tests.pipelines.zoo.parts import Case, ddim, hole, kl, made, picture, piped, random, seeds, unet

TEXT = {"text_encoder": None, "tokenizer": None}
SLOT = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def prompts(count: int = 1, width: int = 8) -> dict[str, Any]:
    return {
        "prompt_embeds": random(count, 5, width),
        "generator": seeds(count),
        "num_inference_steps": 2,
        "guidance_scale": 1.0,
    }


def sd(name: str, *, channels: int = 4, **parts: Any) -> Any:
    return piped(getattr(diffusers, name), vae=kl(), unet=unet(channels), scheduler=ddim(), **TEXT, **SLOT, **parts)


def control(cross: int = 8) -> Any:
    return made(
        diffusers.ControlNetModel,
        block_out_channels=(8, 16),
        layers_per_block=1,
        in_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        cross_attention_dim=cross,
        conditioning_embedding_out_channels=(4, 8),
        norm_num_groups=2,
        attention_head_dim=4,
    )


def upscaler() -> Any:
    return piped(
        diffusers.StableDiffusionUpscalePipeline,
        vae=kl(blocks=(8, 8, 8)),
        unet=unet(7, num_class_embeds=1000),
        low_res_scheduler=diffusers.DDPMScheduler(),
        scheduler=ddim(),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        **TEXT,
    )


def latent_consistency() -> Any:
    return piped(
        diffusers.LatentConsistencyModelPipeline,
        vae=kl(),
        unet=unet(time_cond_proj_dim=8),
        scheduler=diffusers.LCMScheduler(),
        **TEXT,
        **SLOT,
    )


def adapter() -> Any:
    part = made(
        diffusers.T2IAdapter,
        in_channels=3,
        channels=[8, 16],
        num_res_blocks=1,
        downscale_factor=2,
        adapter_type="full_adapter",
    )
    blocks = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    return piped(
        diffusers.StableDiffusionAdapterPipeline,
        vae=kl(),
        unet=unet(**blocks),
        scheduler=ddim(),
        adapter=part,
        **TEXT,
        **SLOT,
    )


def perturbed() -> Any:
    return sd("StableDiffusionPAGPipeline", pag_applied_layers="mid")


def instruct() -> dict[str, Any]:
    return {
        **prompts(),
        "negative_prompt_embeds": random(1, 5, 8, seed=1),
        "image": picture(),
        "guidance_scale": 2.0,
        "image_guidance_scale": 1.5,
    }


XL = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 64}


def xl(name: str, *, channels: int = 4, cross: int = 8, **parts: Any) -> Any:
    return piped(
        getattr(diffusers, name),
        vae=kl(),
        unet=unet(channels, cross=cross, **XL),
        scheduler=diffusers.EulerDiscreteScheduler(),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        add_watermarker=False,
        **parts,
    )


def xl_prompts(count: int = 1) -> dict[str, Any]:
    return {**prompts(count), "pooled_prompt_embeds": random(count, 16), "height": 32, "width": 32}


CROP = {"padding_mask_crop": 4, "height": 32, "width": 32, "strength": 1.0}
PAINT = {"image": picture(), "mask_image": hole(), "strength": 1.0, "height": 32, "width": 32}

CASES = [
    Case(
        "StableDiffusionPipeline", "sd", lambda: sd("StableDiffusionPipeline"), lambda p: prompts(2), count=2, slot=True
    ),
    Case(
        "StableDiffusionImg2ImgPipeline",
        "sd",
        lambda: sd("StableDiffusionImg2ImgPipeline"),
        lambda p: {**prompts(2), "image": [picture(), picture(seed=1)], "strength": 1.0},
        count=2,
        slot=True,
    ),
    Case(
        "StableDiffusionInpaintPipeline",
        "sd",
        lambda: sd("StableDiffusionInpaintPipeline", channels=9),
        lambda p: {**prompts(), **PAINT},
        slot=True,
    ),
    Case(
        "StableDiffusionInpaintPipeline/crop",
        "sd",
        lambda: sd("StableDiffusionInpaintPipeline", channels=9),
        lambda p: {**prompts(), "image": picture(64), "mask_image": hole(64), **CROP},
        kinds=("pil",),
        slot=True,
    ),
    Case(
        "StableDiffusionInstructPix2PixPipeline",
        "sd",
        lambda: sd("StableDiffusionInstructPix2PixPipeline", channels=8),
        lambda p: instruct(),
        slot=True,
    ),
    Case(
        "StableDiffusionControlNetPipeline",
        "controlnet",
        lambda: sd("StableDiffusionControlNetPipeline", controlnet=control()),
        lambda p: {**prompts(), "image": picture()},
        slot=True,
    ),
    Case(
        "StableDiffusionControlNetInpaintPipeline",
        "controlnet",
        lambda: sd("StableDiffusionControlNetInpaintPipeline", controlnet=control()),
        lambda p: {**prompts(), **PAINT, "control_image": picture(seed=1)},
        slot=True,
    ),
    Case(
        "StableDiffusionUpscalePipeline",
        "upscale",
        upscaler,
        lambda p: {**prompts(), "image": picture(16), "noise_level": 2},
        slot=True,
    ),
    Case(
        "LatentConsistencyModelPipeline",
        "lcm",
        latent_consistency,
        lambda p: {**prompts(2), "height": 32, "width": 32},
        count=2,
        slot=True,
    ),
    Case(
        "StableDiffusionAdapterPipeline",
        "t2i_adapter",
        adapter,
        lambda p: {**prompts(), "image": picture()},
        kinds=("pil", "np", "latent"),
        slot=True,
    ),
    Case("StableDiffusionPAGPipeline", "pag", perturbed, lambda p: {**prompts(), "pag_scale": 0.9}, slot=True),
    Case(
        "StableDiffusionXLPipeline", "sdxl", lambda: xl("StableDiffusionXLPipeline"), lambda p: xl_prompts(2), count=2
    ),
    Case(
        "StableDiffusionXLImg2ImgPipeline",
        "sdxl",
        lambda: xl("StableDiffusionXLImg2ImgPipeline"),
        lambda p: (
            {k: v for k, v in xl_prompts().items() if k not in {"height", "width"}}
            | {"image": picture(), "strength": 1.0}
        ),
    ),
    Case(
        "StableDiffusionXLInpaintPipeline",
        "sdxl",
        lambda: xl("StableDiffusionXLInpaintPipeline", channels=9),
        lambda p: {**xl_prompts(), **PAINT},
    ),
]
