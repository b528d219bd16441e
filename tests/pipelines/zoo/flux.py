"""FLUX.1, FLUX.2 and Stable Diffusion 3, plain and from images."""

from __future__ import annotations

from typing import Any

import diffusers

from tests.pipelines.zoo.parts import (
    PROMPT,
    build_model,
    case,
    flat_kl,
    flow,
    hole,
    image,
    kl,
    no_texts,
    prompts,
    steps,
    words,
)
from tests.pipelines.zoo.texts import clip_texts, t5_texts

FULL = {"image": image(), "strength": 1.0}
PAINT = {**FULL, "mask_image": hole()}
CROP = {"image": image(64), "mask_image": hole(64), "padding_mask_crop": 4}
ONE_BLOCK: dict[str, Any] = {"blocks": (8,)}  # it halves nothing


def sd3(channels: int = 4, **settings: Any) -> dict[str, Any]:
    sizes = {"patch_size": 1, "in_channels": channels, "out_channels": channels}
    net = build_model(diffusers.SD3Transformer2DModel, **sizes, **settings)
    return {"transformer": net, "vae": flat_kl(channels), "scheduler": flow(), **no_texts(3)}


def sd3_words() -> dict[str, Any]:
    """SD3 with two text models and without its T5: that one is optional."""
    parts = sd3(16, sample_size=32, joint_attention_dim=32, pooled_projection_dim=32)
    return {**parts, "vae": flat_kl(16, **ONE_BLOCK), **clip_texts(), **clip_texts("_2")}


def sd3_call(count: int = 1, **more: Any) -> dict[str, Any]:
    return prompts(count, pooled=16, guidance_scale=1.0, **more)


def flux_net(channels: int, out: int | None, cls: Any = None, **settings: Any) -> Any:
    """A FLUX transformer, or a control net of the same make."""
    settings |= {} if out is None else {"out_channels": out}
    cls = cls or diffusers.FluxTransformer2DModel
    return build_model(cls, patch_size=1, in_channels=channels, attention_head_dim=16, **settings)


def flux(
    channels: int = 4, out: int | None = 4, latent: int = 1, *, blocks: tuple[int, ...] = (8, 8), **parts: Any
) -> dict[str, Any]:
    net = {"transformer": flux_net(channels, out), "vae": flat_kl(latent, blocks=blocks), "scheduler": flow()}
    return {**net, **no_texts(2), **parts}


def flux_call(count: int = 1, **more: Any) -> dict[str, Any]:
    return prompts(count, pooled=16, **more)


def flux_controlled() -> dict[str, Any]:
    return flux(16, None, 4, **ONE_BLOCK, controlnet=flux_net(16, None, diffusers.FluxControlNetModel))


def flux2(blocks: tuple[int, ...], **settings: Any) -> dict[str, Any]:
    net = build_model(
        diffusers.Flux2Transformer2DModel,
        patch_size=1, in_channels=4, attention_head_dim=16, axes_dims_rope=[4, 4, 4, 4], **settings,
    )  # fmt: skip
    vae = kl(1, diffusers.AutoencoderKLFlux2, blocks=blocks, use_quant_conv=False, use_post_quant_conv=False)
    return {"transformer": net, "vae": vae, "scheduler": flow(), **no_texts()}


def cloze() -> dict[str, Any]:
    """VisualCloze draws a grid of images, and cuts out those that were asked for."""
    return flux(12, **ONE_BLOCK, **clip_texts(projected=False), **t5_texts("_2"), resolution=32)


def grid() -> dict[str, Any]:
    images = [[image(), image(seed=1)], [image(seed=2), None]]
    return steps(task_prompt=PROMPT, content_prompt=PROMPT, image=images, max_sequence_length=16)


CASES = [
    case("StableDiffusion3Pipeline", "sd3", sd3, lambda: sd3_call(2), count=2),
    case("StableDiffusion3Img2ImgPipeline", "sd3", sd3, lambda: sd3_call(**FULL)),
    case("StableDiffusion3InpaintPipeline", "sd3", sd3_words,
         lambda: words(**PAINT | {"strength": 0.9}, num_images_per_prompt=2, height=32, width=32), count=2),
    case("StableDiffusion3InpaintPipeline/crop", "sd3", sd3_words,
         lambda: words(**CROP, strength=0.9, height=32, width=32), kinds=("pil",)),
    case("FluxPipeline", "flux", flux, lambda: flux_call(2), count=2),
    case("FluxImg2ImgPipeline", "flux", flux, lambda: flux_call(**FULL)),
    case("FluxInpaintPipeline", "flux", lambda: flux(out=None, **ONE_BLOCK),
         lambda: flux_call(tokens=4, **PAINT | {"strength": 0.9})),
    case("FluxInpaintPipeline/crop", "flux", flux, lambda: flux_call(**CROP, strength=1.0), kinds=("pil",)),
    case("FluxFillPipeline", "flux", lambda: flux(24), lambda: flux_call(**PAINT)),
    case("FluxControlPipeline", "flux", lambda: flux(8), lambda: flux_call(control_image=image())),
    case("FluxControlNetPipeline", "flux", flux_controlled,
         lambda: flux_call(tokens=4, control_image=image(), num_images_per_prompt=2), count=2),
    case("FluxKontextPipeline", "flux", flux,
         lambda: flux_call(image=image(), max_area=32 * 32, _auto_resize=False)),
    case("Flux2Pipeline", "flux2", lambda: flux2((8, 8), timestep_guidance_channels=256),
         lambda: prompts(2), count=2),
    case("Flux2KleinPipeline", "flux2", lambda: flux2((8,), guidance_embeds=False),
         lambda: prompts(tokens=8, guidance_scale=1.0, image=image(64))),
    case("VisualClozeGenerationPipeline", "visualcloze", cloze, grid),
]  # fmt: skip
