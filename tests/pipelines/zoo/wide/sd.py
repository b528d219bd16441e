"""Stable Diffusion 1 and 2, and what grew out of it: the families that have a slot."""

from __future__ import annotations

from typing import Any

import diffusers as d
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from tests.pipelines.zoo.wide.parts import (
    PROMPT,
    Case,
    clip_text,
    clip_tokenizer,
    ddim,
    generator,
    picture,
    seeded,
    some,
    table,
    unet,
    vae,
)

NO_CHECKER = {"safety_checker": None, "feature_extractor": None}


def core(channels: int = 4, **unet_settings: Any) -> dict[str, Any]:
    """What every Stable Diffusion 1 pipeline needs. Its autoencoder halves the side once."""
    return {
        "unet": unet(channels, **unet_settings),
        "scheduler": ddim(),
        "vae": vae(),
        "text_encoder": clip_text(),
        "tokenizer": clip_tokenizer(),
    }


def slotted(cls: Any, **more: Any) -> Any:
    """A pipeline with an empty slot, and without the warning about that."""
    return cls(**NO_CHECKER, **more, requires_safety_checker=False)


def controlnet() -> Any:
    return d.ControlNetModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        cross_attention_dim=32,
        conditioning_embedding_out_channels=(4, 8),
        norm_num_groups=2,
    )


def vision(side: int = 32, hidden: int = 32) -> dict[str, Any]:
    """A tiny CLIP tower for pipelines that start from a picture."""
    config = CLIPVisionConfig(
        hidden_size=hidden,
        projection_dim=hidden,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=side,
        patch_size=side // 4,
    )
    return {
        "image_encoder": CLIPVisionModelWithProjection(config),
        "feature_extractor": CLIPImageProcessor(crop_size=side, size=side),
    }


def told(**more: Any) -> dict[str, Any]:
    """The arguments of a call that starts from words."""
    return {"prompt": PROMPT, "generator": generator(), "num_inference_steps": 2, **more}


def controlled(cls: Any) -> Any:
    return seeded(lambda: slotted(cls, **core(), controlnet=controlnet()))


def variation() -> Any:
    parts = core()
    return d.StableDiffusionImageVariationPipeline(
        vae=parts["vae"],
        unet=parts["unet"],
        scheduler=parts["scheduler"],
        safety_checker=None,
        requires_safety_checker=False,
        **vision(),
    )


def latent_upscale() -> Any:
    down, up = "KCrossAttnDownBlock2D", "KCrossAttnUpBlock2D"
    net = d.UNet2DConditionModel(
        act_fn="gelu",
        attention_head_dim=8,
        norm_num_groups=None,
        block_out_channels=[32, 32, 64, 64],
        time_cond_proj_dim=160,
        conv_in_kernel=1,
        conv_out_kernel=1,
        cross_attention_dim=32,
        down_block_types=("KDownBlock2D", down, down, down),
        up_block_types=(up, up, up, "KUpBlock2D"),
        in_channels=8,
        mid_block_type=None,
        only_cross_attention=False,
        out_channels=5,
        resnet_time_scale_shift="scale_shift",
        time_embedding_type="fourier",
        timestep_post_act="gelu",
    )
    return d.StableDiffusionLatentUpscalePipeline(
        unet=net,
        vae=vae(4, 4, 4, 8),
        scheduler=d.EulerDiscreteScheduler(prediction_type="sample"),
        text_encoder=clip_text(),
        tokenizer=clip_tokenizer(),
    )


def adapted() -> Any:
    adapter = d.T2IAdapter(
        in_channels=3, channels=[4, 8], num_res_blocks=1, downscale_factor=2, adapter_type="full_adapter"
    )
    crossing = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 2,
    }
    return d.StableDiffusionAdapterPipeline(
        **core(**crossing), **NO_CHECKER, adapter=adapter, requires_safety_checker=False
    )


def edited() -> Any:
    parts = core()
    parts["scheduler"] = d.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", solver_order=2, steps_offset=1)
    return slotted(d.LEditsPPPipelineStableDiffusion, **parts)


def edit(pipe: Any) -> dict[str, Any]:
    """LEdits++ inverts the picture first, and then edits what it found."""
    pipe.invert(image=picture(), source_prompt="", num_inversion_steps=4, skip=0.5, generator=generator())
    return {
        "editing_prompt": ["a disc"],
        "edit_guidance_scale": [3.0],
        "use_intersect_mask": False,
        "generator": generator(),
    }


SD = table(
    Case(
        "StableDiffusionControlNetImg2ImgPipeline",
        "sd",
        controlled(d.StableDiffusionControlNetImg2ImgPipeline),
        lambda _: told(image=picture(), control_image=picture(seed=3)),
        slot=True,
    ),
    Case(
        "StableDiffusionImageVariationPipeline",
        "sd",
        seeded(variation),
        lambda _: {"image": picture(), "generator": generator(), "num_inference_steps": 2},
        slot=True,
    ),
    Case(
        "StableDiffusionLatentUpscalePipeline",
        "sd_upscale",
        seeded(latent_upscale),
        lambda _: told(image=some(2, 4, 8, 8), prompt=[PROMPT] * 2),
        count=2,
    ),
    Case("LEditsPPPipelineStableDiffusion", "ledits", seeded(edited), edit, slot=True),
)
