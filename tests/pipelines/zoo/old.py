"""Pipelines from before there were image processors: Kandinsky, Cascade, DeepFloyd IF, latent diffusion, pixels."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from tests.pipelines.zoo.parts import DECODED, Case, ddim, kl, made, picture, piped, random, seeds, unet
from tests.pipelines.zoo.sd import SLOT

STEPS = {"num_inference_steps": 2}


def movq() -> Any:
    model = made(
        diffusers.VQModel,
        block_out_channels=[32, 32],
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
        num_vq_embeddings=12,
        vq_embed_dim=4,
        norm_type="spatial",
    )
    model.decoder.conv_out.weight.data.mul_(0.02)  # so that what it decodes is about as large as a picture
    return model


def kandinsky_unet(**settings: Any) -> Any:
    return made(
        diffusers.UNet2DConditionModel,
        in_channels=4,
        out_channels=8,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        cross_attention_dim=16,
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        encoder_hid_dim=16,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
        class_embed_type=None,
        **settings,
    )


def kandinsky22(name: str, **parts: Any) -> Any:
    body = kandinsky_unet(addition_embed_type="image", encoder_hid_dim_type="image_proj")
    return piped(getattr(diffusers, name), unet=body, movq=movq(), scheduler=ddim(), **parts)


def kandinsky22_call(count: int = 1) -> dict[str, Any]:
    return {
        "image_embeds": random(count, 16),
        "negative_image_embeds": random(count, 16, seed=1),
        **STEPS,
        "generator": seeds(count),
        "height": 32,
        "width": 32,
        "guidance_scale": 1.5,
    }


def words() -> Any:
    """A tokenizer that knows the names of a few shapes."""
    letters = [
        "<|startoftext|>",
        "<|endoftext|>",
        *"abcdefghijklmnopqrstuvwxyz",
        *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz"),
    ]
    return CLIPTokenizer(vocab={c: i for i, c in enumerate(letters)}, merges=[], model_max_length=16)


def clip_text(width: int = 16) -> Any:
    config = CLIPTextConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return made(CLIPTextModelWithProjection, config=config)


def prior_parts() -> dict[str, Any]:
    prior = made(
        diffusers.PriorTransformer,
        num_attention_heads=2,
        attention_head_dim=8,
        embedding_dim=16,
        num_layers=1,
        num_embeddings=16,
    )
    prior.clip_std = torch.nn.Parameter(torch.ones_like(prior.clip_std))
    scheduler = diffusers.UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample")
    return {
        "prior_prior": prior,
        "prior_text_encoder": clip_text(),
        "prior_tokenizer": words(),
        "prior_scheduler": scheduler,
        "prior_image_encoder": vision(),
        "prior_image_processor": None,
    }


def vision(side: int = 32) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=16,
        image_size=side,
        patch_size=side // 2,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=1,
        projection_dim=16,
    )
    return made(CLIPVisionModelWithProjection, config=config)


def kandinsky3() -> Any:
    body = made(
        diffusers.Kandinsky3UNet,
        in_channels=4,
        time_embedding_dim=4,
        groups=2,
        attention_head_dim=4,
        layers_per_block=3,
        block_out_channels=(8, 16),
        cross_attention_dim=4,
        encoder_hid_dim=16,
    )
    return piped(
        diffusers.Kandinsky3Pipeline,
        tokenizer=None,
        text_encoder=None,
        unet=body,
        scheduler=diffusers.DDPMScheduler(),
        movq=movq(),
    )


def kandinsky3_call() -> dict[str, Any]:
    mask = torch.ones(1, 5, dtype=torch.int64)
    return {
        "prompt_embeds": random(1, 5, 16),
        "negative_prompt_embeds": random(1, 5, 16, seed=1),
        "attention_mask": mask,
        "negative_attention_mask": mask,
        "generator": seeds(),
        **STEPS,
        "height": 32,
        "width": 32,
    }


def cascade() -> Any:
    body = made(
        diffusers.StableCascadeUNet,
        in_channels=4,
        out_channels=4,
        conditioning_dim=16,
        block_out_channels=[8, 16],
        num_attention_heads=[-1, 2],
        down_num_layers_per_block=[1, 1],
        up_num_layers_per_block=[1, 1],
        down_blocks_repeat_mappers=[1, 1],
        up_blocks_repeat_mappers=[1, 1],
        switch_level=None,
        block_types_per_layer=[
            ["SDCascadeResBlock", "SDCascadeTimestepBlock"],
            ["SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"],
        ],
        clip_text_pooled_in_channels=16,
        effnet_in_channels=4,
        dropout=[0.0, 0.0],
    )
    return piped(
        diffusers.StableCascadeDecoderPipeline,
        decoder=body,
        text_encoder=clip_text(),
        tokenizer=words(),
        vqgan=made(PaellaVQModel, bottleneck_blocks=1, num_vq_embeddings=2),
        scheduler=diffusers.DDPMWuerstchenScheduler(),
    )


def cascade_call() -> dict[str, Any]:
    return {
        "image_embeddings": random(2, 4, 4, 4),
        "prompt_embeds": random(2, 5, 16),
        "generator": seeds(2),
        **STEPS,
        "prompt_embeds_pooled": random(2, 1, 16),
        "guidance_scale": 1.0,
    }


def floyd() -> Any:
    body = made(
        diffusers.UNet2DConditionModel,
        sample_size=32,
        layers_per_block=1,
        block_out_channels=[32, 64],
        down_block_types=["ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"],
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        in_channels=3,
        out_channels=6,
        cross_attention_dim=32,
        up_block_types=["SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"],
        encoder_hid_dim=32,
        act_fn="gelu",
        attention_head_dim=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
    )
    return piped(
        diffusers.IFPipeline,
        tokenizer=None,
        text_encoder=None,
        unet=body,
        watermarker=None,
        scheduler=diffusers.DDPMScheduler(variance_type="learned_range"),
        **SLOT,
    )


def floyd_call() -> dict[str, Any]:
    return {"prompt_embeds": random(2, 5, 32), "generator": seeds(2), **STEPS, "guidance_scale": 1.0}


def pixels(name: str, scheduler: Any) -> Any:
    body = made(
        diffusers.UNet2DModel,
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=16,
        in_channels=3,
        out_channels=3,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    return piped(getattr(diffusers, name), unet=body, scheduler=scheduler)


def pixels_call() -> dict[str, Any]:
    return {"batch_size": 2, "generator": seeds(), **STEPS}


def latent_text() -> Any:
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

    config = LDMBertConfig(
        vocab_size=64,
        max_position_embeddings=80,
        encoder_layers=1,
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        head_dim=8,
        d_model=8,
    )
    tokenizer = words()
    tokenizer.model_max_length = 77
    return piped(
        diffusers.LDMTextToImagePipeline,
        vqvae=kl(),
        bert=made(LDMBertModel, config=config),
        tokenizer=tokenizer,
        unet=unet(),
        scheduler=ddim(),
    )


def superresolution() -> Any:
    body = made(
        diffusers.UNet2DModel,
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=16,
        in_channels=6,
        out_channels=3,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    vq = made(
        diffusers.VQModel,
        block_out_channels=[8, 16],
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=3,
        norm_num_groups=4,
    )
    return piped(diffusers.LDMSuperResolutionPipeline, vqvae=vq, unet=body, scheduler=ddim())


COMBINED = {"prompt": "a blue disc", "prior_num_inference_steps": 2, **STEPS, "height": 32, "width": 32}

CASES = [
    Case(
        "KandinskyV22Pipeline",
        "kandinsky",
        lambda: kandinsky22("KandinskyV22Pipeline"),
        lambda p: kandinsky22_call(2),
        count=2,
    ),
    Case(
        "KandinskyV22CombinedPipeline",
        "kandinsky",
        lambda: kandinsky22("KandinskyV22CombinedPipeline", **prior_parts()),
        lambda p: {**COMBINED, "generator": seeds()},
    ),
    Case("Kandinsky3Pipeline", "kandinsky", kandinsky3, lambda p: kandinsky3_call()),
    Case("StableCascadeDecoderPipeline", "stable_cascade", cascade, lambda p: cascade_call(), count=2),
    Case("IFPipeline", "deepfloyd_if", floyd, lambda p: floyd_call(), kinds=DECODED, count=2, slot=True),
    Case(
        "DDPMPipeline",
        "ddpm",
        lambda: pixels("DDPMPipeline", diffusers.DDPMScheduler()),
        lambda p: pixels_call(),
        kinds=DECODED,
        count=2,
    ),
    Case(
        "DDIMPipeline", "ddim", lambda: pixels("DDIMPipeline", ddim()), lambda p: pixels_call(), kinds=DECODED, count=2
    ),
    Case(
        "ConsistencyModelPipeline",
        "consistency",
        lambda: pixels("ConsistencyModelPipeline", diffusers.CMStochasticIterativeScheduler()),
        lambda p: pixels_call(),
        kinds=DECODED,
        count=2,
    ),
    Case(
        "LDMTextToImagePipeline",
        "latent_diffusion",
        latent_text,
        lambda p: {
            "prompt": ["a disc", "a ring"],
            "generator": seeds(2),
            **STEPS,
            "guidance_scale": 1.0,
            "height": 32,
            "width": 32,
        },
        kinds=DECODED,
        count=2,
    ),
    Case(
        "LDMSuperResolutionPipeline",
        "latent_diffusion",
        superresolution,
        lambda p: {"image": picture(32), "generator": seeds(), **STEPS},
        kinds=DECODED,
    ),
]
