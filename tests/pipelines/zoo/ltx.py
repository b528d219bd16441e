"""LTX and LTX 2: clips, the latter with sound."""

from __future__ import annotations

from typing import Any

import diffusers

from tests.pipelines.zoo.dit import MASK, PLAIN, transformer_parts
from tests.pipelines.zoo.parts import build_model, clip, prompts


def ltx_vae(cls: Any, blocks: int, scaled: int, channels: int, **settings: Any) -> Any:
    """An autoencoder of so many blocks, of which the first ones scale."""
    scaling = (True,) * scaled + (False,) * (blocks - scaled)
    widths, plain = (8,) * blocks, (False,) * blocks
    vae = build_model(
        cls, latent_channels=channels, timestep_conditioning=False, patch_size=1, patch_size_t=1,
        encoder_causal=True, decoder_causal=False, block_out_channels=widths, decoder_block_out_channels=widths,
        spatio_temporal_scaling=scaling, decoder_spatio_temporal_scaling=scaling, upsample_residual=plain,
        upsample_factor=(1,) * blocks, decoder_inject_noise=(False,) * (blocks + 1),
        decoder_layers_per_block=(1,) * (blocks + 1), **settings,
    )  # fmt: skip
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    return vae


def ltx() -> dict[str, Any]:
    return transformer_parts(
        diffusers.LTXVideoTransformer3DModel,
        ltx_vae(diffusers.AutoencoderKLLTXVideo, 4, 2, 8, layers_per_block=(1,) * 5), in_channels=8, out_channels=8,
        patch_size=1, patch_size_t=1, num_attention_heads=4, cross_attention_dim=32,
    )  # fmt: skip


def ltx2_sound() -> dict[str, Any]:
    from diffusers.models.autoencoders.autoencoder_kl_ltx2_audio import AutoencoderKLLTX2Audio
    from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder

    heads = {f"{kind}_connector_{name}": value for kind in ("video", "audio") for name, value in {
        "num_attention_heads": 4, "attention_head_dim": 4, "num_layers": 1, "num_learnable_registers": None,
    }.items()}  # fmt: skip
    connectors = build_model(
        LTX2TextConnectors, text_proj_in_factor=2, connector_rope_base_seq_len=32, rope_theta=10000.0,
        rope_double_precision=False, causal_temporal_positioning=False, rope_type="split", **heads,
    )  # fmt: skip
    audio = build_model(
        AutoencoderKLLTX2Audio, base_channels=4, output_channels=2, ch_mult=(1,), in_channels=2, attn_resolutions=None,
        resolution=32, latent_channels=2, norm_type="pixel", causality_axis="height", mid_block_add_attention=False,
        sample_rate=16000, mel_hop_length=160, is_causal=True, mel_bins=8,
    )  # fmt: skip
    vocoder = build_model(
        LTX2Vocoder, in_channels=16, hidden_channels=32, out_channels=2, upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2], resnet_kernel_sizes=[3], resnet_dilations=[[1, 3, 5]], output_sampling_rate=16000,
    )  # fmt: skip
    return {"connectors": connectors, "audio_vae": audio, "vocoder": vocoder}


def ltx2() -> dict[str, Any]:
    vae = ltx_vae(diffusers.AutoencoderKLLTX2Video, 1, 1, 4, layers_per_block=(1,), downsample_type=("spatial",))
    audio = {"audio_in_channels": 4, "audio_out_channels": 4, "audio_num_attention_heads": 2,
             "audio_attention_head_dim": 4, "audio_cross_attention_dim": 8}  # fmt: skip
    parts = transformer_parts(
        diffusers.LTX2VideoTransformer3DModel, vae, out_channels=4, patch_size=1, patch_size_t=1,
        cross_attention_dim=16, rope_double_precision=False, rope_type="split", **audio,
    )  # fmt: skip
    return {**parts, **ltx2_sound()}


def ltx2_call() -> dict[str, Any]:
    scales = {"stg_scale": 0.0, "modality_scale": 1.0}
    audio = {"audio_guidance_scale": 1.0, "audio_stg_scale": 0.0, "audio_modality_scale": 1.0}
    return prompts(tokens=8, dim=32, mask=MASK, num_frames=5, frame_rate=25.0, **PLAIN, **scales, **audio)


CASES = [
    clip("LTX2Pipeline", "ltx2", 5, ltx2, ltx2_call),
    clip("LTXPipeline", "ltx", 9, ltx, lambda: prompts(mask=MASK, num_frames=9, **PLAIN)),
]
