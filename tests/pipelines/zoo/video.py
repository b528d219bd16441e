"""Pipelines that make clips, one of them with sound."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import torch

from tests.pipelines.zoo.flows import NONE, NONE2, attended
from tests.pipelines.zoo.old import vision
from tests.pipelines.zoo.parts import Case, ddim, flow, kl, made, picture, piped, random, seeds, unet

FIELD = {"field": "frames"}
SIZE = {"height": 16, "width": 16}


def steps(count: int = 1) -> dict[str, Any]:
    return {"num_inference_steps": 2, "generator": seeds(count)}


def wan_vae() -> Any:
    return made(
        diffusers.AutoencoderKLWan,
        base_dim=3,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    )


def wan() -> Any:
    body = made(
        diffusers.WanTransformer3DModel,
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=16,
        freq_dim=32,
        ffn_dim=32,
        num_layers=1,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
    return piped(diffusers.WanPipeline, transformer=body, vae=wan_vae(), scheduler=flow(shift=7.0), **NONE)


def ltx_vae(cls: Any, channels: int, **settings: Any) -> Any:
    vae = made(
        cls,
        latent_channels=channels,
        timestep_conditioning=False,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
        **settings,
    )
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    return vae


def ltx() -> Any:
    body = made(
        diffusers.LTXVideoTransformer3DModel,
        in_channels=8,
        out_channels=8,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=1,
        caption_channels=16,
    )
    vae = ltx_vae(
        diffusers.AutoencoderKLLTXVideo,
        8,
        block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
        upsample_factor=(1,) * 4,
        spatio_temporal_scaling=(True, True, False, False),
        upsample_residual=(False,) * 4,
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5,
    )
    return piped(diffusers.LTXPipeline, transformer=body, vae=vae, scheduler=flow(), **NONE)


def hunyuan() -> Any:
    body = made(
        diffusers.HunyuanVideoTransformer3DModel,
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=1,
        patch_size_t=1,
        guidance_embeds=True,
        text_embed_dim=16,
        pooled_projection_dim=8,
        rope_axes_dim=(2, 4, 4),
    )
    vae = made(
        diffusers.AutoencoderKLHunyuanVideo,
        latent_channels=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=(8,) * 4,
        layers_per_block=1,
        norm_num_groups=4,
        spatial_compression_ratio=8,
        temporal_compression_ratio=4,
    )
    return piped(diffusers.HunyuanVideoPipeline, transformer=body, vae=vae, scheduler=flow(shift=7.0), **NONE2)


def animatediff() -> Any:
    adapter = made(
        diffusers.MotionAdapter,
        block_out_channels=(8, 16),
        motion_layers_per_block=1,
        motion_norm_num_groups=2,
        motion_num_attention_heads=2,
    )
    return piped(
        diffusers.AnimateDiffPipeline,
        vae=kl(),
        unet=unet(),
        motion_adapter=adapter,
        scheduler=ddim(),
        feature_extractor=None,
        image_encoder=None,
        **NONE,
    )


def cogvideo() -> Any:
    body = made(
        diffusers.CogVideoXTransformer3DModel,
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=16,
        num_layers=1,
        sample_width=2,
        sample_height=2,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=16,
    )
    vae = made(
        diffusers.AutoencoderKLCogVideoX,
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8,) * 4,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    return piped(diffusers.CogVideoXPipeline, transformer=body, vae=vae, scheduler=ddim(), **NONE)


def mochi() -> Any:
    body = made(
        diffusers.MochiTransformer3DModel,
        patch_size=2,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        pooled_projection_dim=16,
        in_channels=12,
        out_channels=None,
        qk_norm="rms_norm",
        text_embed_dim=16,
        time_embed_dim=4,
        activation_fn="swiglu",
        max_sequence_length=16,
    )
    body.pos_frequencies.data.zero_()
    vae = made(
        diffusers.AutoencoderKLMochi,
        latent_channels=12,
        out_channels=3,
        layers_per_block=(1,) * 5,
        encoder_block_out_channels=(32,) * 4,
        decoder_block_out_channels=(32,) * 4,
    )
    return piped(diffusers.MochiPipeline, transformer=body, vae=vae, scheduler=flow(), **NONE)


def latte() -> Any:
    body = made(
        diffusers.LatteTransformer3DModel,
        sample_size=8,
        video_length=2,
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
    )
    return piped(diffusers.LattePipeline, transformer=body, vae=kl(), scheduler=ddim(), **NONE)


def svd() -> Any:
    from transformers import CLIPImageProcessor

    body = made(
        diffusers.UNetSpatioTemporalConditionModel,
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=16,
        in_channels=8,
        out_channels=4,
        cross_attention_dim=16,
        num_attention_heads=2,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        addition_time_embed_dim=8,
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        projection_class_embeddings_input_dim=24,
    )
    vae = made(
        diffusers.AutoencoderKLTemporalDecoder,
        block_out_channels=[32, 32],
        down_block_types=["DownEncoderBlock2D"] * 2,
        latent_channels=4,
    )
    return piped(
        diffusers.StableVideoDiffusionPipeline,
        vae=vae,
        image_encoder=vision(224),
        unet=body,
        scheduler=diffusers.EulerDiscreteScheduler(
            prediction_type="v_prediction",
            timestep_type="continuous",
            sigma_max=700.0,
            sigma_min=0.002,
            use_karras_sigmas=True,
        ),
        feature_extractor=CLIPImageProcessor(),
    )


class Passes(torch.nn.Module):
    """A checker of Cosmos' kind that lets everything pass, for what is asked of one."""

    device, dtype = torch.device("cpu"), torch.float32

    def check_text_safety(self, prompt: str) -> bool:
        return True

    def check_video_safety(self, frames: np.ndarray) -> np.ndarray:
        return frames


def cosmos() -> Any:
    body = made(
        diffusers.CosmosTransformer3DModel,
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        mlp_ratio=2,
        text_embed_dim=16,
        adaln_lora_dim=4,
        max_size=(4, 32, 32),
        patch_size=(1, 2, 2),
        rope_scale=(2.0, 1.0, 1.0),
        concat_padding_mask=True,
        extra_pos_embed_type="learnable",
    )
    vae = made(
        diffusers.AutoencoderKLCosmos,
        latent_channels=4,
        encoder_block_out_channels=(8,) * 4,
        decode_block_out_channels=(8,) * 4,
        attention_resolutions=(8,),
        resolution=64,
        num_layers=1,
        patch_size=4,
        patch_type="haar",
        scaling_factor=1.0,
        spatial_compression_ratio=4,
        temporal_compression_ratio=4,
    )
    scheduler = diffusers.EDMEulerScheduler(sigma_max=80, sigma_data=0.5, final_sigmas_type="sigma_min")
    return piped(
        diffusers.CosmosTextToWorldPipeline,
        transformer=body,
        vae=vae,
        scheduler=scheduler,
        safety_checker=Passes(),
        **NONE,
    )


def sana_video() -> Any:
    body = made(
        diffusers.SanaVideoTransformer3DModel,
        in_channels=16,
        out_channels=16,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=16,
        mlp_ratio=2.5,
        sample_size=8,
        patch_size=(1, 2, 2),
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
    return piped(diffusers.SanaVideoPipeline, transformer=body, vae=wan_vae(), scheduler=flow(), **NONE)


def ltx2() -> Any:
    from diffusers.models.autoencoders.autoencoder_kl_ltx2_audio import AutoencoderKLLTX2Audio
    from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder

    body = made(
        diffusers.LTX2VideoTransformer3DModel,
        in_channels=4,
        out_channels=4,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=4,
        num_layers=1,
        audio_cross_attention_dim=8,
        caption_channels=16,
        rope_double_precision=False,
        rope_type="split",
    )
    connectors = made(
        LTX2TextConnectors,
        caption_channels=16,
        text_proj_in_factor=2,
        video_connector_num_attention_heads=4,
        video_connector_attention_head_dim=4,
        video_connector_num_layers=1,
        audio_connector_num_attention_heads=4,
        video_connector_num_learnable_registers=None,
        audio_connector_attention_head_dim=4,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None,
        connector_rope_base_seq_len=32,
        rope_theta=10000.0,
        rope_double_precision=False,
        causal_temporal_positioning=False,
        rope_type="split",
    )
    vae = ltx_vae(
        diffusers.AutoencoderKLLTX2Video,
        4,
        block_out_channels=(8,),
        decoder_block_out_channels=(8,),
        layers_per_block=(1,),
        decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        downsample_type=("spatial",),
        upsample_residual=(False,),
        upsample_factor=(1,),
    )
    audio = made(
        AutoencoderKLLTX2Audio,
        base_channels=4,
        output_channels=2,
        ch_mult=(1,),
        num_res_blocks=1,
        in_channels=2,
        attn_resolutions=None,
        resolution=32,
        latent_channels=2,
        norm_type="pixel",
        causality_axis="height",
        mid_block_add_attention=False,
        sample_rate=16000,
        mel_hop_length=160,
        is_causal=True,
        mel_bins=8,
    )
    vocoder = made(
        LTX2Vocoder,
        in_channels=16,
        hidden_channels=32,
        out_channels=2,
        upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 3, 5]],
        output_sampling_rate=16000,
    )
    return piped(
        diffusers.LTX2Pipeline,
        transformer=body,
        connectors=connectors,
        vae=vae,
        audio_vae=audio,
        vocoder=vocoder,
        scheduler=flow(),
        **NONE,
    )


def embeds(**rest: Any) -> dict[str, Any]:
    return {"prompt_embeds": random(1, 5, 16), **steps(), **rest}


CASES = [
    Case(
        "LTX2Pipeline",
        "ltx2",
        ltx2,
        lambda p: {
            **attended(length=8, width=32),
            **steps(),
            "num_frames": 5,
            "guidance_scale": 1.0,
            "stg_scale": 0.0,
            "modality_scale": 1.0,
            "audio_guidance_scale": 1.0,
            "audio_stg_scale": 0.0,
            "audio_modality_scale": 1.0,
            "height": 32,
            "width": 32,
            "frame_rate": 25.0,
        },
        frames=5,
        **FIELD,
    ),
    Case("WanPipeline", "wan", wan, lambda p: embeds(num_frames=5, guidance_scale=1.0, **SIZE), frames=5, **FIELD),
    Case(
        "LTXPipeline",
        "ltx",
        ltx,
        lambda p: {**attended(), **steps(), "num_frames": 9, "guidance_scale": 1.0, "height": 32, "width": 32},
        frames=9,
        **FIELD,
    ),
    Case(
        "HunyuanVideoPipeline",
        "hunyuan_video",
        hunyuan,
        lambda p: {**attended(), "pooled_prompt_embeds": random(1, 8), **steps(), "num_frames": 5, **SIZE},
        frames=5,
        **FIELD,
    ),
    Case(
        "AnimateDiffPipeline",
        "animatediff",
        animatediff,
        lambda p: {
            "prompt_embeds": random(2, 5, 8),
            **steps(2),
            "num_frames": 3,
            "guidance_scale": 1.0,
            "height": 32,
            "width": 32,
        },
        count=2,
        frames=3,
        **FIELD,
    ),
    Case(
        "CogVideoXPipeline",
        "cogvideo",
        cogvideo,
        lambda p: {
            "prompt_embeds": random(1, 16, 16),
            **steps(),
            "num_frames": 8,
            "guidance_scale": 1.0,
            "max_sequence_length": 16,
            **SIZE,
        },
        frames=8,
        **FIELD,
    ),
    Case(
        "MochiPipeline",
        "mochi",
        mochi,
        lambda p: {**attended(length=16), **steps(), "num_frames": 7, "guidance_scale": 1.0, **SIZE},
        frames=7,
        **FIELD,
    ),
    Case(
        "LattePipeline",
        "latte",
        latte,
        lambda p: {
            "prompt_embeds": random(1, 5, 16),
            "negative_prompt": None,
            **steps(),
            "video_length": 2,
            "guidance_scale": 1.0,
            "mask_feature": False,
            **SIZE,
        },
        frames=2,
        **FIELD,
    ),
    Case(
        "StableVideoDiffusionPipeline",
        "svd",
        svd,
        lambda p: {
            "image": picture(),
            **steps(),
            "num_frames": 2,
            "min_guidance_scale": 1.0,
            "max_guidance_scale": 1.0,
            "height": 32,
            "width": 32,
        },
        frames=2,
        **FIELD,
    ),
    Case(
        "CosmosTextToWorldPipeline",
        "cosmos",
        cosmos,
        lambda p: {"prompt": None, **embeds(num_frames=9, guidance_scale=1.0, height=32, width=32)},
        frames=9,
        slot=True,
        **FIELD,
    ),
    Case(
        "SanaVideoPipeline",
        "sana_video",
        sana_video,
        lambda p: {
            **attended(),
            **steps(),
            "frames": 9,
            "guidance_scale": 1.0,
            "height": 32,
            "width": 32,
            "use_resolution_binning": False,
        },
        frames=9,
        **FIELD,
    ),
]
