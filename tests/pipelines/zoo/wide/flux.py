"""FLUX.1, FLUX.2 and the families built like them: packed latents, explicit prompt embeddings."""

from __future__ import annotations

from typing import Any

import diffusers as d

from tests.pipelines.zoo.wide.parts import (
    Case,
    flow,
    flow_vae,
    generator,
    mask,
    noise,
    picture,
    seeded,
    silently,
    table,
)

NO_TEXT = {"text_encoder": None, "tokenizer": None}
NO_TEXTS = {**NO_TEXT, "text_encoder_2": None, "tokenizer_2": None}
SIDES = {"height": 32, "width": 32}


def transformer(channels: int = 4, out: int | None = None, cls: Any = d.FluxTransformer2DModel, **more: Any) -> Any:
    """A tiny FLUX transformer, or a control net of the same make."""
    given = {"out_channels": out} if out else {}
    return cls(
        patch_size=1,
        in_channels=channels,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=[4, 4, 8],
        **{"pooled_projection_dim": 32, **given, **more},
    )


def core(channels: int = 4, out: int | None = None, latents: int = 1) -> dict[str, Any]:
    return {"transformer": transformer(channels, out), "vae": flow_vae(latents), "scheduler": flow(), **NO_TEXTS}


def plain(cls: Any, *sizes: Any, **more: Any) -> Any:
    return seeded(lambda: cls(**core(*sizes), **more))


def told(batch: int = 1, **more: Any) -> dict[str, Any]:
    """The arguments of a call with a batch of prompts that are embedded already."""
    return {
        "prompt_embeds": noise(batch, 4, 32),
        "pooled_prompt_embeds": noise(batch, 32, seed=2),
        "generator": generator(),
        "num_inference_steps": 2,
        **SIDES,
        **more,
    }


def controlled() -> Any:
    # The control net takes its position embedding from where diffusers itself deprecated it.
    net = silently(transformer, 16, cls=d.FluxControlNetModel, about="`FluxPosEmbed` is deprecated")
    return d.FluxControlNetPipeline(**core(16, None, 4), controlnet=net)


def second(guided: bool) -> dict[str, Any]:
    """FLUX.2 and its small sister Klein."""
    net = d.Flux2Transformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=[4, 4, 4, 4],
        guidance_embeds=guided,
    )
    autoencoder = d.AutoencoderKLFlux2(
        sample_size=32,
        block_out_channels=(4,),
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        layers_per_block=1,
        latent_channels=1,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return {"transformer": net, "vae": autoencoder, "scheduler": flow(), **NO_TEXT}


def embedded(batch: int, tokens: int, width: int, **more: Any) -> dict[str, Any]:
    """The arguments of a call that needs no pooled embedding."""
    return {
        "prompt_embeds": noise(batch, tokens, width),
        "generator": generator(),
        "num_inference_steps": 2,
        **{**SIDES, **more},
    }


FLUX = table(
    Case(
        "FluxInpaintPipeline",
        "flux",
        plain(d.FluxInpaintPipeline),
        lambda _: told(image=picture(), mask_image=mask(), strength=0.9),
    ),
    Case(
        "FluxControlNetPipeline",
        "flux",
        seeded(controlled),
        lambda _: told(control_image=picture(), num_images_per_prompt=2),
        count=2,
    ),
    Case(
        "Flux2KleinPipeline",
        "flux2",
        seeded(lambda: d.Flux2KleinPipeline(**second(guided=False))),
        lambda _: embedded(1, 8, 16, guidance_scale=1.0, image=picture(64)),
    ),
)
