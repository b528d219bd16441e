"""Stable Diffusion 1 and 2, SDXL, and what is built on them."""

from __future__ import annotations

from typing import Any

import diffusers
from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

from tests.pipelines.zoo.parts import (
    PROMPT,
    Case,
    build_model,
    build_pipeline,
    case,
    ddim,
    hole,
    image,
    kl,
    no_texts,
    prompts,
    random,
    seeds,
    steps,
    unet,
    words,
)
from tests.pipelines.zoo.texts import clip_texts, vision, vision_processor

PUBLISHED = {"beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
NO_CHECKER = {"safety_checker": None, "feature_extractor": None}
SLOT = {**NO_CHECKER, "requires_safety_checker": False}
CROSSED = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
PAINT = {"image": image(), "mask_image": hole(), "strength": 1.0, "height": 32, "width": 32}
CROP = {**PAINT, "image": image(64), "mask_image": hole(64), "padding_mask_crop": 4}


def sd(channels: int = 4, cross: int = 8, **parts: Any) -> dict[str, Any]:
    """Stable Diffusion without text models, without a checker in its slot."""
    net = {"vae": kl(), "unet": unet(channels, cross=cross), "scheduler": ddim()}
    return {**net, **no_texts(), **SLOT, **parts}


def sd_words(channels: int = 4, **parts: Any) -> dict[str, Any]:
    """The same with text models, and with the steps of the published scheduler."""
    scheduler = ddim(**PUBLISHED, set_alpha_to_one=False)
    return sd(channels, 16, scheduler=scheduler, **clip_texts(projected=False)) | parts


def sd_call(count: int = 1, **more: Any) -> dict[str, Any]:
    return prompts(count, dim=8, **{"side": 0, "guidance_scale": 1.0, **more})


def control_net(cross: int = 8, **settings: Any) -> Any:
    heads = {"num_attention_heads": None, "attention_head_dim": 4}
    down = ("DownBlock2D", "CrossAttnDownBlock2D")
    settings = {**heads, "down_block_types": down, "in_channels": 4, **settings}
    return build_model(diffusers.ControlNetModel, cross_attention_dim=cross, **settings)


def adapter(factor: int, kind: str) -> Any:
    settings = {"channels": [8, 16], "downscale_factor": factor, "adapter_type": kind}
    return build_model(diffusers.T2IAdapter, in_channels=3, **settings)


def upscale() -> dict[str, Any]:
    net = {"vae": kl(blocks=(8, 8, 8)), "unet": unet(7, num_class_embeds=1000)}
    schedulers = {"low_res_scheduler": diffusers.DDPMScheduler(), "scheduler": ddim()}
    return {**net, **schedulers, **NO_CHECKER, "watermarker": None, **no_texts()}


def latent_upscale() -> dict[str, Any]:
    down, up = "KCrossAttnDownBlock2D", "KCrossAttnUpBlock2D"
    net = unet(
        8, out=5, cross=16, sample_size=None, attention_head_dim=8, block_out_channels=(32, 32, 64, 64),
        layers_per_block=2, down_block_types=("KDownBlock2D", down, down, down), mid_block_type=None,
        up_block_types=(up, up, up, "KUpBlock2D"), norm_num_groups=None, conv_in_kernel=1, conv_out_kernel=1,
        only_cross_attention=False, act_fn="gelu", resnet_time_scale_shift="scale_shift", time_cond_proj_dim=144,
        time_embedding_type="fourier", timestep_post_act="gelu",
    )  # fmt: skip
    scheduler = diffusers.EulerDiscreteScheduler(prediction_type="sample")
    return {"unet": net, "vae": kl(blocks=(8,) * 4), "scheduler": scheduler, **clip_texts(projected=False)}


def variation() -> dict[str, Any]:
    parts = sd(cross=16, scheduler=ddim(**PUBLISHED, set_alpha_to_one=False))
    del parts["text_encoder"], parts["tokenizer"]
    return parts | {"image_encoder": vision(), "feature_extractor": vision_processor()}


def depth() -> dict[str, Any]:
    config = DPTConfig(
        image_size=32, patch_size=8, hidden_size=8, num_hidden_layers=4, backbone_out_indices=(0, 1, 2, 3),
        neck_hidden_sizes=[8] * 4, fusion_hidden_size=8, num_attention_heads=2, intermediate_size=16,
    )  # fmt: skip
    parts = {name: part for name, part in sd_words(5).items() if name not in SLOT}
    estimator = build_model(DPTForDepthEstimation, config=config)
    return parts | {"depth_estimator": estimator, "feature_extractor": DPTImageProcessor(size=32)}


def edited() -> Any:
    scheduler = diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", solver_order=2, steps_offset=1)
    return build_pipeline("LEditsPPPipelineStableDiffusion", **sd_words(scheduler=scheduler))


def edit(pipe: Any) -> dict[str, Any]:
    """LEdits++ inverts the image first, and then edits what that gave."""
    pipe.invert(image=image(), source_prompt="", num_inversion_steps=4, skip=0.5, generator=seeds())
    asked = {"editing_prompt": ["a disc"], "edit_guidance_scale": [3.0], "use_intersect_mask": False}
    return {**asked, "generator": seeds()}


# six numbers of eight each, and 16 of the pooled prompt
TIMES = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 64}
# what two text encoders of 16 ask for
CROSS_XL = {"cross": 32, "attention_head_dim": (2, 4), "use_linear_projection": True, **TIMES}


def xl(channels: int = 4, **parts: Any) -> dict[str, Any]:
    """SDXL without text models and without a watermark: with one, invisible-watermark would have to be there."""
    net = {"vae": kl(), "unet": unet(channels, **TIMES), "scheduler": diffusers.EulerDiscreteScheduler()}
    return {**net, **no_texts(2), "add_watermarker": False, **parts}


def xl_words(**parts: Any) -> dict[str, Any]:
    """The same with text models, and with the steps of the published scheduler."""
    kind = {"beta_schedule": "scaled_linear", "timestep_spacing": "leading"}
    scheduler = diffusers.EulerDiscreteScheduler(**PUBLISHED, **kind)
    texts = {**clip_texts(projected=False), **clip_texts("_2")}
    return xl(unet=unet(**CROSS_XL), scheduler=scheduler, **texts) | parts


def xl_adapted() -> dict[str, Any]:
    parts = xl_words(adapter=adapter(4, "full_adapter_xl"))
    del parts["add_watermarker"]
    return parts


def xl_call(count: int = 1, **more: Any) -> dict[str, Any]:
    return sd_call(count, **{"pooled": 16, "side": 32, **more})


CASES = [
    case("StableDiffusionPipeline", "sd", sd, lambda: sd_call(2), count=2, slot=True),
    case("StableDiffusionImg2ImgPipeline", "sd", sd,
         lambda: sd_call(2, image=[image(), image(seed=1)], strength=1.0), count=2, slot=True),
    case("StableDiffusionInpaintPipeline", "sd", lambda: sd(9), lambda: sd_call(**PAINT), slot=True),
    case("StableDiffusionInpaintPipeline/crop", "sd", lambda: sd(9), lambda: sd_call(**CROP),
         kinds=("pil",), slot=True),
    case("StableDiffusionInstructPix2PixPipeline", "sd", lambda: sd(8),
         lambda: sd_call(negative=True, image=image(), guidance_scale=2.0, image_guidance_scale=1.5), slot=True),
    case("StableDiffusionControlNetPipeline", "controlnet", lambda: sd(controlnet=control_net()),
         lambda: sd_call(image=image()), slot=True),
    case("StableDiffusionControlNetInpaintPipeline", "controlnet", lambda: sd(controlnet=control_net()),
         lambda: sd_call(**PAINT, control_image=image(seed=1)), slot=True),
    case("StableDiffusionControlNetImg2ImgPipeline", "sd", lambda: sd_words(controlnet=control_net(16)),
         lambda: words(image=image(), control_image=image(seed=1)), slot=True),
    case("StableDiffusionUpscalePipeline", "upscale", upscale,
         lambda: sd_call(image=image(16), noise_level=2), slot=True),
    case("StableDiffusionLatentUpscalePipeline", "sd_upscale", latent_upscale,
         lambda: words(image=random(2, 4, 8, 8).sigmoid(), prompt=[PROMPT] * 2), count=2),
    case("StableDiffusionImageVariationPipeline", "sd", variation,
         lambda: steps(image=image(), height=64, width=64), slot=True),
    case("StableDiffusionDepth2ImgPipeline", "sd", depth,
         lambda: words(image=[image(), image(seed=1)], prompt=[PROMPT] * 2), count=2),
    case("LatentConsistencyModelPipeline", "lcm",
         lambda: sd(unet=unet(time_cond_proj_dim=8), scheduler=diffusers.LCMScheduler()),
         lambda: sd_call(2, side=32), count=2, slot=True),
    case("StableDiffusionAdapterPipeline", "t2i_adapter",
         lambda: sd(unet=unet(**CROSSED), adapter=adapter(2, "full_adapter")),
         lambda: sd_call(image=image()), kinds=("pil", "np", "latent"), slot=True),
    case("StableDiffusionPAGPipeline", "pag", lambda: sd(pag_applied_layers="mid"),
         lambda: sd_call(pag_scale=0.9), slot=True),
    Case("LEditsPPPipelineStableDiffusion", "ledits", edited, edit, slot=True),
    case("StableDiffusionXLPipeline", "sdxl", xl, lambda: xl_call(2), count=2),
    case("StableDiffusionXLImg2ImgPipeline", "sdxl", xl, lambda: xl_call(side=0, image=image(), strength=1.0)),
    case("StableDiffusionXLInpaintPipeline", "sdxl", lambda: xl(9), lambda: xl_call(**PAINT)),
    case("StableDiffusionXLImg2ImgPipeline/refiner", "sdxl", xl_words,
         lambda: words(image=random(1, 4, 16, 16), denoising_start=0.5, num_inference_steps=4)),
    case("StableDiffusionXLControlNetPipeline", "sdxl", lambda: xl_words(controlnet=control_net(**CROSS_XL)),
         lambda: words(image=image(), num_images_per_prompt=2), count=2),
    case("StableDiffusionXLAdapterPipeline", "t2i_adapter", xl_adapted,
         lambda: words(image=random(1, 3, 32, 32).sigmoid(), height=32, width=32)),
]  # fmt: skip
