"""Video: clips of a few frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers as d
import torch

from tests.pipelines.zoo.wide.dit import masked, ones, unwanted
from tests.pipelines.zoo.wide.flux import NO_TEXT, NO_TEXTS, embedded
from tests.pipelines.zoo.wide.parts import (
    Case,
    flow,
    noise,
    picture,
    seeded,
    table,
)
from tests.pipelines.zoo.wide.sd import vision

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


def cosmos2(cls: Any, channels: int = 16) -> Callable[[], Any]:
    def built() -> Any:
        scheduler = flow(use_karras_sigmas=True)
        return cls(
            transformer=cosmos_net(channels, 16), vae=wan_vae(), scheduler=scheduler, safety_checker=Watch(), **NO_TEXT
        )

    return built


VIDEO = table(
    film(
        "WanImageToVideoPipeline",
        "wan",
        wan_from_picture,
        lambda: unwanted(1, 8, 32, image=picture(), num_frames=5) | SMALL,
        5,
    ),
    film("SkyReelsV2Pipeline", "skyreels", skyreels, lambda: unwanted(1, 8, 32, num_frames=5) | SMALL, 5),
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
        "AllegroPipeline", "allegro", allegro, lambda: masked(1, 8, 24, negative_prompt=None, num_frames=8) | SMALL, 8
    ),
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
