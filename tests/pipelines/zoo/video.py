"""Pipelines that make clips."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np

from tests.pipelines.zoo.dit import DIT, MASK, PLAIN, Typed, kandinsky5_call, kandinsky5_net, transformer_parts
from tests.pipelines.zoo.parts import (
    Case,
    build_model,
    build_pipeline,
    case,
    clip,
    ddim,
    flow,
    image,
    kl,
    no_texts,
    prompts,
    steps,
    unet,
)
from tests.pipelines.zoo.texts import vision, vision_processor


def kl3d(cls: Any, kind: str, first: str = "", **settings: Any) -> Any:
    """An autoencoder of four blocks of one kind; the first may be of another."""
    ways = {f"{way.lower()}_block_types": way for way in ("Down", "Up")}
    types = {name: [f"{first or kind}{way}Block3D", *[f"{kind}{way}Block3D"] * 3] for name, way in ways.items()}
    return build_model(cls, block_out_channels=(8,) * 4, **types, **settings)


def wan_vae() -> Any:
    blocks = {"dim_mult": [1, 1, 1, 1], "temperal_downsample": [False, True, True]}
    return build_model(diffusers.AutoencoderKLWan, base_dim=3, z_dim=16, **blocks)


def wan(channels: int = 16, cls: Any = None, scheduler: Any = None, **settings: Any) -> dict[str, Any]:
    return transformer_parts(
        cls or diffusers.WanTransformer3DModel, wan_vae(), scheduler or flow(shift=7.0), patch_size=(1, 2, 2),
        attention_head_dim=12, in_channels=channels, out_channels=16, cross_attn_norm=True,
        qk_norm="rms_norm_across_heads", **settings,
    )  # fmt: skip


def wan_from_image() -> dict[str, Any]:
    return {**wan(36, image_dim=16), "image_encoder": vision(), "image_processor": vision_processor()}


def skyreels() -> dict[str, Any]:
    scheduler = diffusers.UniPCMultistepScheduler(
        flow_shift=8.0, use_flow_sigmas=True, prediction_type="flow_prediction"
    )
    return wan(cls=diffusers.SkyReelsV2Transformer3DModel, scheduler=scheduler)


def sana_video() -> dict[str, Any]:
    cross = {"cross_attention_head_dim": 12, "cross_attention_dim": 24}
    return transformer_parts(
        diffusers.SanaVideoTransformer3DModel, wan_vae(), in_channels=16, out_channels=16, attention_head_dim=12,
        mlp_ratio=2.5, sample_size=8, patch_size=(1, 2, 2), qk_norm="rms_norm_across_heads", **cross,
    )  # fmt: skip


def hunyuan_vae() -> Any:
    return kl3d(diffusers.AutoencoderKLHunyuanVideo, "HunyuanVideo", norm_num_groups=4)


def hunyuan() -> dict[str, Any]:
    return transformer_parts(
        diffusers.HunyuanVideoTransformer3DModel, hunyuan_vae(), flow(shift=7.0), texts=2, out_channels=4,
        attention_head_dim=10, patch_size=1, patch_size_t=1, guidance_embeds=True, pooled_projection_dim=8,
        rope_axes_dim=(2, 4, 4),
    )  # fmt: skip


def hunyuan15() -> dict[str, Any]:
    vae = build_model(
        diffusers.AutoencoderKLHunyuanVideo15, block_out_channels=(16, 16), spatial_compression_ratio=4,
        temporal_compression_ratio=2, downsample_match_channel=False, upsample_match_channel=False,
    )  # fmt: skip
    parts = transformer_parts(
        diffusers.HunyuanVideo15Transformer3DModel, vae, flow(shift=7.0), texts=2, in_channels=9, out_channels=4,
        mlp_ratio=2.0, patch_size=1, patch_size_t=1, text_embed_2_dim=32, image_embed_dim=12,
        rope_axes_dim=(2, 2, 4), target_size=16, task_type="t2v",
    )  # fmt: skip
    return {**parts, "guider": diffusers.ClassifierFreeGuidance(guidance_scale=1.0)}


def hunyuan15_call() -> dict[str, Any]:
    first, second = (prompts(tokens=8, dim=dim, mask="prompt_embeds_mask", side=16) for dim in (16, 32))
    return {**first, **{f"{name}_2": second[name] for name in ("prompt_embeds", "prompt_embeds_mask")}, "num_frames": 5}


def animatediff() -> dict[str, Any]:
    adapter = build_model(
        diffusers.MotionAdapter, motion_layers_per_block=1, motion_norm_num_groups=2, motion_num_attention_heads=2
    )
    images = {"feature_extractor": None, "image_encoder": None}
    return {"vae": kl(), "unet": unet(), "motion_adapter": adapter, "scheduler": ddim(), **images, **no_texts()}


def cogvideo() -> dict[str, Any]:
    vae = kl3d(diffusers.AutoencoderKLCogVideoX, "CogVideoX", temporal_compression_ratio=4)
    return transformer_parts(
        diffusers.CogVideoXTransformer3DModel, vae, ddim(), num_attention_heads=4, out_channels=4, time_embed_dim=2,
        sample_width=2, sample_height=2, sample_frames=9, patch_size=2, temporal_compression_ratio=4,
        max_text_seq_length=16,
    )  # fmt: skip


def mochi() -> dict[str, Any]:
    widths = {"encoder_block_out_channels": (32,) * 4, "decoder_block_out_channels": (32,) * 4}
    vae = build_model(
        diffusers.AutoencoderKLMochi, latent_channels=12, out_channels=3, layers_per_block=(1,) * 5, **widths
    )
    parts = transformer_parts(
        diffusers.MochiTransformer3DModel, vae, patch_size=2, in_channels=12, out_channels=None, qk_norm="rms_norm",
        time_embed_dim=4, activation_fn="swiglu", max_sequence_length=16,
    )  # fmt: skip
    parts["transformer"].pos_frequencies.data.zero_()
    return parts


def latte() -> dict[str, Any]:
    return transformer_parts(
        diffusers.LatteTransformer3DModel, kl(), ddim(), sample_size=8, video_length=2, patch_size=2, out_channels=8,
        cross_attention_dim=16, norm_type="ada_norm_single", **DIT,
    )  # fmt: skip


def svd() -> dict[str, Any]:
    net = build_model(
        diffusers.UNetSpatioTemporalConditionModel, block_out_channels=(32, 64), in_channels=8, out_channels=4,
        cross_attention_dim=16, addition_time_embed_dim=8, projection_class_embeddings_input_dim=24,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    )  # fmt: skip
    vae = build_model(
        diffusers.AutoencoderKLTemporalDecoder,
        block_out_channels=[32, 32],
        down_block_types=["DownEncoderBlock2D"] * 2,
    )
    scheduler = diffusers.EulerDiscreteScheduler(
        prediction_type="v_prediction", timestep_type="continuous", sigma_max=700.0, sigma_min=0.002,
        use_karras_sigmas=True,
    )  # fmt: skip
    images = {"image_encoder": vision(224), "feature_extractor": vision_processor(224)}
    return {"unet": net, "vae": vae, "scheduler": scheduler, **images}


class Passes(Typed):
    """A checker of Cosmos' kind that lets everything pass: without one, Cosmos asks for NVIDIA's own guardrail."""

    def check_text_safety(self, _: str) -> bool:
        return True

    def check_video_safety(self, frames: np.ndarray) -> np.ndarray:
        return frames


def cosmos(vae: Any, scheduler: Any, channels: int, out: int, **settings: Any) -> dict[str, Any]:
    parts = transformer_parts(
        diffusers.CosmosTransformer3DModel, vae, scheduler, in_channels=channels, out_channels=out,
        attention_head_dim=16, mlp_ratio=2, patch_size=(1, 2, 2), rope_scale=(2.0, 1.0, 1.0),
        concat_padding_mask=True, extra_pos_embed_type="learnable", **settings,
    )  # fmt: skip
    return {**parts, "safety_checker": Passes()}


def cosmos1() -> dict[str, Any]:
    vae = build_model(
        diffusers.AutoencoderKLCosmos, encoder_block_out_channels=(8,) * 4, decode_block_out_channels=(8,) * 4,
        attention_resolutions=(8,), resolution=64, patch_size=4, patch_type="haar", scaling_factor=1.0,
        spatial_compression_ratio=4, temporal_compression_ratio=4,
    )  # fmt: skip
    scheduler = diffusers.EDMEulerScheduler(sigma_max=80, sigma_data=0.5, final_sigmas_type="sigma_min")
    return cosmos(vae, scheduler, 4, 4)


def cosmos2(channels: int) -> dict[str, Any]:
    return cosmos(wan_vae(), flow(use_karras_sigmas=True), channels, 16)


def allegro() -> dict[str, Any]:
    vae = kl3d(diffusers.AutoencoderKLAllegro, "Allegro", sample_size=320, temporal_compression_ratio=4)
    vae.enable_tiling()  # it decodes in no other way
    vae.kernel = vae.stride = (8, 16, 16)  # a clip that is smaller than one tile would come out grey
    return transformer_parts(
        diffusers.AllegroTransformer3DModel, vae, diffusers.DDIMScheduler(), attention_head_dim=12, out_channels=4,
        cross_attention_dim=24, sample_width=8, sample_height=8, sample_frames=8, caption_channels=24,
    )  # fmt: skip


def easyanimate() -> dict[str, Any]:
    vae = kl3d(diffusers.AutoencoderKLMagvit, "SpatialTemporal", "Spatial", spatial_group_norm=False)
    return transformer_parts(
        diffusers.EasyAnimateTransformer3DModel, vae, attention_head_dim=16, out_channels=4, time_embed_dim=2,
        sample_width=16, sample_height=16, patch_size=2,
    )  # fmt: skip


def kandinsky5() -> Any:
    parts = {"transformer": kandinsky5_net(), "vae": hunyuan_vae(), "scheduler": flow(shift=7.0), **no_texts(2)}
    pipe = build_pipeline("Kandinsky5T2VPipeline", **parts)
    pipe.resolutions = [(128, 128)]  # it takes the nearest of its own sizes
    return pipe


def unwanted(**more: Any) -> dict[str, Any]:
    return prompts(tokens=8, negative=True, **more)


CASES = [
    clip("WanPipeline", "wan", 5, wan, lambda: prompts(side=16, num_frames=5, **PLAIN)),
    clip("WanImageToVideoPipeline", "wan", 5, wan_from_image, lambda: unwanted(side=16, image=image(), num_frames=5)),
    clip("SkyReelsV2Pipeline", "skyreels", 5, skyreels, lambda: unwanted(side=16, num_frames=5)),
    clip("HunyuanVideoPipeline", "hunyuan_video", 5, hunyuan,
         lambda: prompts(side=16, pooled=8, mask=MASK, num_frames=5)),
    clip("HunyuanVideo15Pipeline", "hunyuan_video15", 5, hunyuan15, hunyuan15_call),
    clip("AnimateDiffPipeline", "animatediff", 3, animatediff, lambda: prompts(2, dim=8, num_frames=3, **PLAIN),
         count=2),
    clip("CogVideoXPipeline", "cogvideo", 8, cogvideo,
         lambda: prompts(tokens=16, side=16, num_frames=8, max_sequence_length=16, **PLAIN)),
    clip("MochiPipeline", "mochi", 7, mochi, lambda: prompts(tokens=16, side=16, mask=MASK, num_frames=7, **PLAIN)),
    clip("LattePipeline", "latte", 2, latte,
         lambda: prompts(side=16, negative_prompt=None, video_length=2, mask_feature=False, **PLAIN)),
    clip("StableVideoDiffusionPipeline", "svd", 2, svd,
         lambda: steps(image=image(), num_frames=2, min_guidance_scale=1.0, max_guidance_scale=1.0,
                       height=32, width=32)),
    clip("CosmosTextToWorldPipeline", "cosmos", 9, cosmos1, lambda: prompts(prompt=None, num_frames=9, **PLAIN),
         slot=True),
    clip("Cosmos2VideoToWorldPipeline", "cosmos", 5, lambda: cosmos2(17),
         lambda: unwanted(image=image(), num_frames=5), slot=True),
    case("Cosmos2TextToImagePipeline", "cosmos", lambda: cosmos2(16), unwanted, slot=True),
    clip("SanaVideoPipeline", "sana_video", 9, sana_video,
         lambda: prompts(mask=MASK, frames=9, use_resolution_binning=False, **PLAIN)),
    clip("AllegroPipeline", "allegro", 8, allegro,
         lambda: unwanted(dim=24, side=16, mask=MASK, negative_prompt=None, num_frames=8)),
    clip("EasyAnimatePipeline", "easyanimate", 5, easyanimate, lambda: unwanted(side=16, mask=MASK, num_frames=5)),
    Case("Kandinsky5T2VPipeline", "kandinsky5", kandinsky5, lambda _: kandinsky5_call(8, num_frames=5),
         frames=5, field="frames"),
]  # fmt: skip
