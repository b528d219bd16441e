"""Video: clips of a few frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers as d
import torch

from tests.pipelines.zoo.dit import masked, ones, unwanted
from tests.pipelines.zoo.flux import NO_TEXT, NO_TEXTS, embedded
from tests.pipelines.zoo.parts import (
    PROMPT,
    Case,
    clip_text,
    clip_tokenizer,
    ddim,
    flow,
    generator,
    noise,
    picture,
    seeded,
    table,
    unet,
    vae,
)
from tests.pipelines.zoo.sd import vision

SMALL = {"height": 16, "width": 16}


def film(
    name: str, family: str, build: Callable[[], Any], call: Callable[[], dict[str, Any]], frames: int, **more: Any
) -> Case:
    return Case(name, family, seeded(build), lambda _: call(), frames=frames, **{"field": "frames", **more})


def wan_vae(**more: Any) -> Any:
    return d.AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True], **more
    )


def wan_net(channels: int = 16, cls: Any = d.WanTransformer3DModel, **more: Any) -> Any:
    return cls(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=channels,
        out_channels=16,
        text_dim=32,
        freq_dim=32,
        ffn_dim=32,
        num_layers=1,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
        **more,
    )


def wan() -> Any:
    return d.WanPipeline(transformer=wan_net(), vae=wan_vae(), scheduler=flow(shift=7.0), **NO_TEXT)


def wan_from_picture() -> Any:
    tower = vision(hidden=4)
    return d.WanImageToVideoPipeline(
        transformer=wan_net(36, image_dim=4),
        vae=wan_vae(),
        scheduler=flow(shift=7.0),
        image_encoder=tower["image_encoder"],
        image_processor=tower["feature_extractor"],
        **NO_TEXT,
    )


def skyreels() -> Any:
    net = wan_net(cls=d.SkyReelsV2Transformer3DModel)
    scheduler = d.UniPCMultistepScheduler(flow_shift=8.0, use_flow_sigmas=True, prediction_type="flow_prediction")
    return d.SkyReelsV2Pipeline(transformer=net, vae=wan_vae(), scheduler=scheduler, **NO_TEXT)


def sana_video() -> Any:
    net = d.SanaVideoTransformer3DModel(
        in_channels=16,
        out_channels=16,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=8,
        sample_size=8,
        patch_size=(1, 2, 2),
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
    scheduler = d.DPMSolverMultistepScheduler(flow_shift=8.0, use_flow_sigmas=True, prediction_type="flow_prediction")
    return d.SanaVideoPipeline(transformer=net, vae=wan_vae(), scheduler=scheduler, **NO_TEXT)


def ltx() -> Any:
    net = d.LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=1,
        caption_channels=32,
    )
    autoencoder = d.AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False, False, False, False, False),
        upsample_residual=(False, False, False, False),
        upsample_factor=(1, 1, 1, 1),
        patch_size=1,
        patch_size_t=1,
    )
    return d.LTXPipeline(transformer=net, vae=autoencoder, scheduler=flow(), **NO_TEXT)


def hunyuan_vae() -> Any:
    down, up = "HunyuanVideoDownBlock3D", "HunyuanVideoUpBlock3D"
    return d.AutoencoderKLHunyuanVideo(
        latent_channels=4,
        down_block_types=(down,) * 4,
        up_block_types=(up,) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
    )


def hunyuan() -> Any:
    net = d.HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=1,
        patch_size_t=1,
        text_embed_dim=16,
        pooled_projection_dim=8,
        rope_axes_dim=(2, 4, 4),
    )
    return d.HunyuanVideoPipeline(transformer=net, vae=hunyuan_vae(), scheduler=flow(shift=7.0), **NO_TEXTS)


def hunyuan15() -> Any:
    net = d.HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_refiner_layers=1,
        mlp_ratio=2.0,
        patch_size=1,
        patch_size_t=1,
        text_embed_dim=16,
        text_embed_2_dim=32,
        image_embed_dim=12,
        rope_axes_dim=(2, 2, 4),
        target_size=16,
        task_type="t2v",
    )
    autoencoder = d.AutoencoderKLHunyuanVideo15(
        latent_channels=4,
        block_out_channels=(16, 16),
        layers_per_block=1,
        spatial_compression_ratio=4,
        temporal_compression_ratio=2,
        downsample_match_channel=False,
        upsample_match_channel=False,
    )
    guider = d.ClassifierFreeGuidance(guidance_scale=1.0)
    return d.HunyuanVideo15Pipeline(
        transformer=net, vae=autoencoder, scheduler=flow(shift=7.0), guider=guider, **NO_TEXTS
    )


def animatediff() -> Any:
    net = unet(
        block_out_channels=(8, 8),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    motion = d.MotionAdapter(
        block_out_channels=(8, 8), motion_layers_per_block=1, motion_norm_num_groups=2, motion_num_attention_heads=4
    )
    return d.AnimateDiffPipeline(
        vae=vae(),
        text_encoder=clip_text(),
        tokenizer=clip_tokenizer(),
        unet=net,
        motion_adapter=motion,
        scheduler=ddim(),
    )


def cogvideox() -> Any:
    net = d.CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=32,
        num_layers=1,
        sample_width=2,
        sample_height=2,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=8,
    )
    autoencoder = d.AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    return d.CogVideoXPipeline(transformer=net, vae=autoencoder, scheduler=d.DDIMScheduler(), **NO_TEXT)


def mochi() -> Any:
    net = d.MochiTransformer3DModel(
        patch_size=2,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        pooled_projection_dim=16,
        in_channels=12,
        text_embed_dim=32,
        time_embed_dim=4,
        max_sequence_length=8,
    )
    with torch.no_grad():  # made without values
        net.pos_frequencies.zero_()
    autoencoder = d.AutoencoderKLMochi(
        latent_channels=12,
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        layers_per_block=(1, 1, 1, 1, 1),
    )
    return d.MochiPipeline(transformer=net, vae=autoencoder, scheduler=flow(), **NO_TEXT)


def allegro() -> Any:
    net = d.AllegroTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        cross_attention_dim=24,
        sample_width=8,
        sample_height=8,
        sample_frames=8,
        caption_channels=24,
    )
    autoencoder = d.AutoencoderKLAllegro(
        down_block_types=("AllegroDownBlock3D",) * 4,
        up_block_types=("AllegroUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    autoencoder.enable_tiling()  # it decodes in no other way
    autoencoder.kernel = autoencoder.stride = (8, 16, 16)  # a clip that is smaller than one tile would come out grey
    return d.AllegroPipeline(transformer=net, vae=autoencoder, scheduler=d.DDIMScheduler(), **NO_TEXT)


def latte() -> Any:
    net = d.LatteTransformer3DModel(
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=32,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        video_length=4,
        norm_elementwise_affine=False,
        norm_eps=1e-6,
    )
    return d.LattePipeline(transformer=net, vae=vae(4, 8), scheduler=d.DDIMScheduler(), **NO_TEXT)


def svd() -> Any:
    net = d.UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=32,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=32,
        num_attention_heads=8,
        projection_class_embeddings_input_dim=96,
        addition_time_embed_dim=32,
    )
    scheduler = d.EulerDiscreteScheduler(
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )
    autoencoder = d.AutoencoderKLTemporalDecoder(
        block_out_channels=[32, 32], down_block_types=["DownEncoderBlock2D"] * 2, layers_per_block=1
    )
    return d.StableVideoDiffusionPipeline(vae=autoencoder, unet=net, scheduler=scheduler, **vision(224))


class Watch(torch.nn.Module):
    """What Cosmos takes for a safety checker where nobody gave another: it lets everything pass.

    Without one, Cosmos asks for NVIDIA's own guardrail, gigabytes of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("here", torch.zeros(1), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.here.device

    @property
    def dtype(self) -> torch.dtype:
        return self.here.dtype

    def check_text_safety(self, _: str) -> bool:
        return True

    def check_video_safety(self, frames: Any) -> Any:
        return frames


def cosmos_net(channels: int, out: int) -> Any:
    return d.CosmosTransformer3DModel(
        in_channels=channels,
        out_channels=out,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        mlp_ratio=2,
        text_embed_dim=32,
        adaln_lora_dim=4,
        max_size=(4, 32, 32),
        patch_size=(1, 2, 2),
        rope_scale=(2.0, 1.0, 1.0),
        concat_padding_mask=True,
        extra_pos_embed_type="learnable",
    )


def cosmos() -> Any:
    autoencoder = d.AutoencoderKLCosmos(
        latent_channels=4,
        encoder_block_out_channels=(8, 8, 8, 8),
        decode_block_out_channels=(8, 8, 8, 8),
        attention_resolutions=(8,),
        resolution=64,
        num_layers=1,
        patch_size=4,
        scaling_factor=1.0,
        spatial_compression_ratio=4,
        temporal_compression_ratio=4,
    )
    scheduler = d.EDMEulerScheduler(
        sigma_min=0.002, sigma_max=80, sigma_data=0.5, prediction_type="epsilon", final_sigmas_type="sigma_min"
    )
    return d.CosmosTextToWorldPipeline(
        transformer=cosmos_net(4, 4), vae=autoencoder, scheduler=scheduler, safety_checker=Watch(), **NO_TEXT
    )


def cosmos2(cls: Any, channels: int = 16) -> Callable[[], Any]:
    def built() -> Any:
        scheduler = flow(use_karras_sigmas=True)
        return cls(
            transformer=cosmos_net(channels, 16), vae=wan_vae(), scheduler=scheduler, safety_checker=Watch(), **NO_TEXT
        )

    return built


def seen(batch: int, width: int, **more: Any) -> dict[str, Any]:
    """A small clip from embeddings, with what is not wanted."""
    return unwanted(batch, 8, width, **SMALL, **more)


VIDEO = table(
    film("WanPipeline", "wan", wan, lambda: unwanted(2, 8, 32, num_frames=5) | SMALL, 5, count=2),
    film(
        "WanImageToVideoPipeline",
        "wan",
        wan_from_picture,
        lambda: unwanted(1, 8, 32, image=picture(), num_frames=5) | SMALL,
        5,
    ),
    film("SkyReelsV2Pipeline", "skyreels", skyreels, lambda: unwanted(1, 8, 32, num_frames=5) | SMALL, 5),
    film(
        "SanaVideoPipeline",
        "sana_video",
        sana_video,
        lambda: masked(1, 8, 8, negative_prompt=None, frames=5, use_resolution_binning=False),
        5,
    ),
    film("LTXPipeline", "ltx", ltx, lambda: masked(2, 8, 32, num_frames=5), 5, count=2),
    film(
        "HunyuanVideoPipeline",
        "hunyuan_video",
        hunyuan,
        lambda: (
            embedded(1, 8, 16, pooled_prompt_embeds=noise(1, 8), prompt_attention_mask=ones(1, 8), num_frames=5) | SMALL
        ),
        5,
    ),
    film(
        "HunyuanVideo15Pipeline",
        "hunyuan_video15",
        hunyuan15,
        lambda: (
            embedded(
                1,
                8,
                16,
                prompt_embeds_mask=ones(1, 8),
                prompt_embeds_2=noise(1, 8, 32),
                prompt_embeds_mask_2=ones(1, 8),
                num_frames=5,
            )
            | SMALL
        ),
        5,
    ),
    film(
        "AnimateDiffPipeline",
        "animatediff",
        animatediff,
        lambda: {
            "prompt": [PROMPT] * 2,
            "num_frames": 4,
            "generator": generator(),
            "num_inference_steps": 2,
            "height": 32,
            "width": 32,
        },
        4,
        count=2,
    ),
    film("CogVideoXPipeline", "cogvideox", cogvideox, lambda: unwanted(1, 8, 32, num_frames=9) | SMALL, 9),
    film("MochiPipeline", "mochi", mochi, lambda: masked(1, 8, 32, num_frames=7) | SMALL, 7),
    film(
        "AllegroPipeline", "allegro", allegro, lambda: masked(1, 8, 24, negative_prompt=None, num_frames=8) | SMALL, 8
    ),
    film("LattePipeline", "latte", latte, lambda: unwanted(1, 8, 32, negative_prompt=None, video_length=4), 4),
    film(
        "StableVideoDiffusionPipeline",
        "svd",
        svd,
        lambda: {
            "image": picture(),
            "num_frames": 2,
            "generator": generator(),
            "num_inference_steps": 2,
            "height": 32,
            "width": 32,
        },
        2,
    ),
    film("CosmosTextToWorldPipeline", "cosmos", cosmos, lambda: unwanted(1, 8, 32, num_frames=5), 5, slot=True),
    film(
        "Cosmos2VideoToWorldPipeline",
        "cosmos",
        cosmos2(d.Cosmos2VideoToWorldPipeline, 17),
        lambda: unwanted(1, 8, 32, image=picture(), num_frames=5),
        5,
        slot=True,
    ),
    Case(
        "Cosmos2TextToImagePipeline",
        "cosmos",
        seeded(cosmos2(d.Cosmos2TextToImagePipeline)),
        lambda _: unwanted(1, 8, 32),
        slot=True,
    ),
)
