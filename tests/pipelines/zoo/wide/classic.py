"""Families of their own make: pixel diffusion, Kandinsky, Stable Cascade, DeepFloyd IF, latent diffusion."""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch
from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from tests.pipelines.zoo.wide.parts import (
    PROMPT,
    Case,
    clip_text,
    clip_tokenizer,
    ddim,
    generator,
    noise,
    picture,
    seeded,
    table,
)


def steps(**more: Any) -> dict[str, Any]:
    return {"generator": generator(), "num_inference_steps": 2, **more}


def movq() -> Any:
    """The autoencoder of the Kandinsky family."""
    net = d.VQModel(
        block_out_channels=[32, 32],  # spatial norms come in 32 groups
        down_block_types=["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
        up_block_types=["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
    )
    net.decoder.conv_out.weight.data.mul_(0.2)  # else it draws far outside of what a decoder gives
    return net


def simple_unet(channels: int, out: int, **more: Any) -> Any:
    """The U-Net of Kandinsky and DeepFloyd IF: it predicts a variance too."""
    return d.UNet2DConditionModel(
        sample_size=32,
        in_channels=channels,
        out_channels=out,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        encoder_hid_dim=32,
        cross_attention_dim=32,
        resnet_time_scale_shift="scale_shift",
        **{"attention_head_dim": 4, **more},
    )


def decoder() -> dict[str, Any]:
    net = simple_unet(4, 8, addition_embed_type="image", encoder_hid_dim_type="image_proj")
    return {"unet": net, "scheduler": ddim(), "movq": movq()}


def prior() -> dict[str, Any]:
    """The first half of Kandinsky 2.2: from words to an image embedding."""
    net = d.PriorTransformer(num_attention_heads=2, attention_head_dim=12, embedding_dim=32, num_layers=1)
    net.clip_std = torch.nn.Parameter(torch.ones(net.clip_std.shape))  # as made it is zero, and so would be the answer
    tower = CLIPVisionConfig(
        hidden_size=32,
        projection_dim=32,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=1,
        image_size=32,
        patch_size=16,
    )
    return {
        "prior_prior": net,
        "prior_image_encoder": CLIPVisionModelWithProjection(tower),
        "prior_text_encoder": clip_text(projection=32),
        "prior_tokenizer": clip_tokenizer(),
        "prior_scheduler": d.UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample=True, clip_sample_range=10.0
        ),
        "prior_image_processor": CLIPImageProcessor(size=32, crop_size=32),
    }


def third() -> Any:
    net = d.Kandinsky3UNet(
        in_channels=4,
        time_embedding_dim=4,
        groups=2,
        attention_head_dim=4,
        layers_per_block=3,
        block_out_channels=(8, 16),
        cross_attention_dim=4,
        encoder_hid_dim=32,
    )
    scheduler = d.DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    return d.Kandinsky3Pipeline(tokenizer=None, text_encoder=None, unet=net, scheduler=scheduler, movq=movq())


def cascade() -> dict[str, Any]:
    net = d.StableCascadeUNet(
        in_channels=4,
        out_channels=4,
        conditioning_dim=32,
        block_out_channels=(16, 32),
        num_attention_heads=(-1, 1),
        down_num_layers_per_block=(1, 1),
        up_num_layers_per_block=(1, 1),
        down_blocks_repeat_mappers=(1, 1),
        up_blocks_repeat_mappers=(1, 1),
        block_types_per_layer=(
            ("SDCascadeResBlock", "SDCascadeTimestepBlock"),
            ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),
        ),
        switch_level=None,
        clip_text_pooled_in_channels=32,
        dropout=(0.0, 0.0),
    )
    return {
        "decoder": net,
        "tokenizer": clip_tokenizer(),
        "text_encoder": clip_text(projection=32),
        "scheduler": d.DDPMWuerstchenScheduler(),
        "vqgan": PaellaVQModel(bottleneck_blocks=1, num_vq_embeddings=2, embed_dim=16),
    }


def cascade_prior() -> dict[str, Any]:
    net = d.StableCascadeUNet(
        conditioning_dim=32,
        block_out_channels=(32, 32),
        num_attention_heads=(2, 2),
        down_num_layers_per_block=(1, 1),
        up_num_layers_per_block=(1, 1),
        switch_level=(False,),
        clip_image_in_channels=768,
        clip_text_in_channels=32,
        clip_text_pooled_in_channels=32,
        dropout=(0.0, 0.0),
    )
    return {
        "prior_prior": net,
        "prior_text_encoder": clip_text(projection=32),
        "prior_tokenizer": clip_tokenizer(),
        "prior_scheduler": d.DDPMWuerstchenScheduler(),
    }


def embeddings(_: Any) -> dict[str, Any]:
    return steps(
        image_embeds=noise(1, 32),
        negative_image_embeds=noise(1, 32, seed=2),
        num_images_per_prompt=2,
        height=64,
        width=64,
    )


CLASSIC = table(
    Case(
        "KandinskyV22Img2ImgCombinedPipeline",
        "kandinsky22",
        seeded(lambda: d.KandinskyV22Img2ImgCombinedPipeline(**decoder(), **prior())),
        lambda _: steps(
            prompt=PROMPT,
            image=picture(64),
            prior_num_inference_steps=2,
            strength=0.9,
            num_inference_steps=3,
            height=64,
            width=64,
        ),
    ),
    Case(
        "StableCascadeCombinedPipeline",
        "cascade",
        seeded(lambda: d.StableCascadeCombinedPipeline(**cascade(), **cascade_prior())),
        lambda _: steps(prompt=PROMPT, prior_num_inference_steps=2, height=128, width=128),
    ),
)
