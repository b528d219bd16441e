"""Stable Diffusion XL and 3: no slot, two or three text encoders, latents handed from pipeline to pipeline."""

from __future__ import annotations

from typing import Any

import diffusers as d

from tests.pipelines.zoo.wide.parts import (
    Case,
    clip_text,
    clip_tokenizer,
    flow,
    flow_vae,
    mask,
    noise,
    picture,
    seeded,
    some,
    table,
    unet,
    vae,
)
from tests.pipelines.zoo.wide.sd import told

TIMES = {
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 80,  # six numbers of eight each, and 32 of the pooled prompt
    "cross_attention_dim": 64,
}


def core(channels: int = 4) -> dict[str, Any]:
    """What every XL pipeline needs."""
    settings = {**TIMES, "transformer_layers_per_block": (1, 1)}
    cross = settings.pop("cross_attention_dim")
    return {
        "unet": unet(channels, cross=cross, **settings),
        "scheduler": d.EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        ),
        "vae": vae(),
        "text_encoder": clip_text(),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": clip_text(projection=32),
        "tokenizer_2": clip_tokenizer(),
    }


def plain(cls: Any) -> Any:
    # Without a watermark: with one, invisible-watermark would have to be there.
    return seeded(lambda: cls(**core(), add_watermarker=False))


def controlled() -> Any:
    net = d.ControlNetModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        conditioning_embedding_out_channels=(4, 8),
        norm_num_groups=2,
        **{**TIMES, "transformer_layers_per_block": (1, 1)},
    )
    return d.StableDiffusionXLControlNetPipeline(**core(), controlnet=net, add_watermarker=False)


def adapted() -> Any:
    adapter = d.T2IAdapter(
        in_channels=3, channels=[4, 8], num_res_blocks=1, downscale_factor=4, adapter_type="full_adapter_xl"
    )
    return d.StableDiffusionXLAdapterPipeline(**core(), adapter=adapter)


def third(channels: int = 4) -> dict[str, Any]:
    """Stable Diffusion 3 without its T5: that one is optional."""
    return {
        "transformer": d.SD3Transformer2DModel(
            sample_size=32,
            patch_size=1,
            in_channels=channels,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=64,
            pooled_projection_dim=64,
            out_channels=channels,
        ),
        "scheduler": flow(),
        "vae": flow_vae(channels),
        "text_encoder": clip_text(projection=32),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": clip_text(projection=32),
        "tokenizer_2": clip_tokenizer(),
        "text_encoder_3": None,
        "tokenizer_3": None,
    }


SIDES = {"height": 32, "width": 32}

SDXL = table(
    Case(
        "StableDiffusionXLImg2ImgPipeline/refiner",
        "sdxl",
        plain(d.StableDiffusionXLImg2ImgPipeline),
        lambda _: told(image=noise(1, 4, 16, 16), denoising_start=0.5, num_inference_steps=4),
    ),
    Case(
        "StableDiffusionXLControlNetPipeline",
        "sdxl",
        seeded(controlled),
        lambda _: told(image=picture(), num_images_per_prompt=2),
        count=2,
    ),
    Case(
        "StableDiffusionXLAdapterPipeline",
        "t2i_adapter",
        seeded(adapted),
        lambda _: told(image=some(1, 3, 32, 32), **SIDES),
    ),
    Case(
        "StableDiffusion3InpaintPipeline",
        "sd3",
        seeded(lambda: d.StableDiffusion3InpaintPipeline(**third(16))),
        lambda _: told(image=picture(), mask_image=mask(), strength=0.9, num_images_per_prompt=2, **SIDES),
        count=2,
    ),
    Case(
        "StableDiffusion3InpaintPipeline/crop",
        "sd3",
        seeded(lambda: d.StableDiffusion3InpaintPipeline(**third(16))),
        lambda _: told(image=picture(64), mask_image=mask(64), strength=0.9, padding_mask_crop=4, **SIDES),
        kinds=("pil",),
    ),
)
