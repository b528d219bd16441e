"""Pipelines from before there were image processors: Kandinsky, Cascade, DeepFloyd IF, latent diffusion, pixels."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel

from tests.pipelines.zoo.parts import (
    DECODED,
    PROMPT,
    build_model,
    case,
    ddim,
    image,
    kl,
    no_texts,
    prompts,
    random,
    steps,
    unet,
    words,
)
from tests.pipelines.zoo.sd import SLOT
from tests.pipelines.zoo.texts import clip_text, clip_tokenizer, roberta_tokenizer, vision, vision_processor

SIZE = {"height": 32, "width": 32}
PLAIN = {"guidance_scale": 1.0}


def movq() -> Any:
    """The autoencoder of the Kandinsky family."""
    blocks = {
        "down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        "blocks": (32, 32),  # spatial norms come in 32 groups
    }
    sizes = {"num_vq_embeddings": 12, "vq_embed_dim": 4, "norm_num_groups": 8, "norm_type": "spatial"}
    model = kl(4, diffusers.VQModel, **blocks, **sizes)
    model.decoder.conv_out.weight.data.mul_(0.2)  # so that what it decodes is about as large as an image
    return model


def simple_unet(channels: int = 4, out: int = 8, width: int = 16, **settings: Any) -> Any:
    """The U-Net of Kandinsky and DeepFloyd IF: it predicts a variance too."""
    blocks = {
        "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "block_out_channels": (32, 64),
    }
    more = {"encoder_hid_dim": width, "norm_num_groups": 32, "resnet_time_scale_shift": "scale_shift", **settings}
    return unet(channels, out=out, cross=width, **blocks, **more)


def kandinsky(kind: str = "image") -> dict[str, Any]:
    net = simple_unet(sample_size=None, addition_embed_type=kind, encoder_hid_dim_type=f"{kind}_proj")
    return {"unet": net, "movq": movq(), "scheduler": ddim()}


def kandinsky_words() -> dict[str, Any]:
    """Kandinsky 2.1, whose text model speaks many languages."""
    from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP

    config = MCLIPConfig(
        numDims=16, transformerDimensions=16, hidden_size=16, intermediate_size=16, num_attention_heads=2,
        num_hidden_layers=1, vocab_size=64,
    )  # fmt: skip
    texts = {"text_encoder": build_model(MultilingualCLIP, config=config), "tokenizer": roberta_tokenizer()}
    return {**kandinsky("text_image"), **texts}


def kandinsky_combined() -> dict[str, Any]:
    """Both halves of Kandinsky 2.2: from words to an image embedding, and from that to an image."""
    prior = build_model(diffusers.PriorTransformer, embedding_dim=16, num_embeddings=77)
    prior.clip_std = torch.nn.Parameter(torch.ones_like(prior.clip_std))  # as built it is zero, and so is the answer
    scheduler = diffusers.UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample")
    texts = {"prior_text_encoder": clip_text(), "prior_tokenizer": clip_tokenizer()}
    images = {"prior_image_encoder": vision(), "prior_image_processor": vision_processor()}
    return {**kandinsky(), "prior_prior": prior, "prior_scheduler": scheduler, **texts, **images}


def kandinsky_call(count: int = 1, side: int = 32, **more: Any) -> dict[str, Any]:
    embeds = {"image_embeds": random(count, 16), "negative_image_embeds": random(count, 16, seed=1)}
    return steps(count, **embeds, height=side, width=side, **{"guidance_scale": 1.5, **more})


def kandinsky3() -> dict[str, Any]:
    sizes = {"in_channels": 4, "time_embedding_dim": 4, "groups": 2, "cross_attention_dim": 4, "encoder_hid_dim": 16}
    net = build_model(diffusers.Kandinsky3UNet, attention_head_dim=4, layers_per_block=3, **sizes)
    return {"unet": net, "scheduler": diffusers.DDPMScheduler(), "movq": movq(), **no_texts()}


def cascade() -> dict[str, Any]:
    first = ["SDCascadeResBlock", "SDCascadeTimestepBlock"]
    net = build_model(
        diffusers.StableCascadeUNet, in_channels=4, out_channels=4, conditioning_dim=16, num_attention_heads=[-1, 2],
        down_blocks_repeat_mappers=[1, 1], up_blocks_repeat_mappers=[1, 1], switch_level=None,
        block_types_per_layer=[first, [*first, "SDCascadeAttnBlock"]], clip_text_pooled_in_channels=16,
        effnet_in_channels=4, dropout=[0.0, 0.0],
    )  # fmt: skip
    vqgan = build_model(PaellaVQModel, bottleneck_blocks=1, num_vq_embeddings=2)
    texts = {"text_encoder": clip_text(), "tokenizer": clip_tokenizer()}
    return {"decoder": net, "vqgan": vqgan, "scheduler": diffusers.DDPMWuerstchenScheduler(), **texts}


def cascade_combined() -> dict[str, Any]:
    prior = build_model(
        diffusers.StableCascadeUNet, in_channels=4, out_channels=4, conditioning_dim=16, block_out_channels=(16, 16),
        num_attention_heads=(2, 2), switch_level=(False,), clip_image_in_channels=16, clip_text_in_channels=16,
        clip_text_pooled_in_channels=16, dropout=(0.0, 0.0),
    )  # fmt: skip
    texts = {"prior_text_encoder": clip_text(), "prior_tokenizer": clip_tokenizer()}
    return {**cascade(), "prior_prior": prior, "prior_scheduler": diffusers.DDPMWuerstchenScheduler(), **texts}


def cascade_call() -> dict[str, Any]:
    embeds = {"image_embeddings": random(2, 4, 4, 4), "prompt_embeds_pooled": random(2, 1, 16)}
    return prompts(2, side=0, **embeds, **PLAIN)


def floyd() -> dict[str, Any]:
    text = {"addition_embed_type": "text", "addition_embed_type_num_heads": 2, "cross_attention_norm": "group_norm"}
    net = simple_unet(3, 6, 32, sample_size=32, attention_head_dim=8, act_fn="gelu", **text)
    scheduler = diffusers.DDPMScheduler(variance_type="learned_range")
    return {"unet": net, "scheduler": scheduler, "watermarker": None, **no_texts(), **SLOT}


def pixel_unet(channels: int = 3) -> Any:
    return build_model(
        diffusers.UNet2DModel, in_channels=channels, out_channels=3, norm_num_groups=4, attention_head_dim=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def pixels(scheduler: Any) -> dict[str, Any]:
    return {"unet": pixel_unet(), "scheduler": scheduler}


def pixels_call() -> dict[str, Any]:
    return steps(batch_size=2)


def latent_text() -> dict[str, Any]:
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

    config = LDMBertConfig(
        vocab_size=64, max_position_embeddings=80, encoder_layers=1, encoder_ffn_dim=16, encoder_attention_heads=2,
        head_dim=8, d_model=8,
    )  # fmt: skip
    bert = build_model(LDMBertModel, config=config)
    return {"vqvae": kl(), "bert": bert, "tokenizer": clip_tokenizer(), "unet": unet(), "scheduler": ddim()}


def superresolution() -> dict[str, Any]:
    vq = kl(3, diffusers.VQModel, blocks=(8, 16), norm_num_groups=4)
    return {"vqvae": vq, "unet": pixel_unet(6), "scheduler": ddim()}


CASES = [
    case("KandinskyPipeline", "kandinsky", kandinsky_words,
         lambda: kandinsky_call(side=64, prompt=PROMPT, guidance_scale=4.0, num_images_per_prompt=2),
         kinds=DECODED, count=2),
    case("KandinskyV22Pipeline", "kandinsky", kandinsky, lambda: kandinsky_call(2), count=2),
    case("KandinskyV22CombinedPipeline", "kandinsky", kandinsky_combined,
         lambda: words(prior_num_inference_steps=2, **SIZE)),
    case("KandinskyV22Img2ImgCombinedPipeline", "kandinsky22", kandinsky_combined,
         lambda: words(image=image(64), prior_num_inference_steps=2, strength=0.9, num_inference_steps=3,
                       height=64, width=64)),
    case("Kandinsky3Pipeline", "kandinsky", kandinsky3, lambda: prompts(mask="attention_mask", negative=True)),
    case("StableCascadeDecoderPipeline", "stable_cascade", cascade, cascade_call, count=2),
    case("StableCascadeCombinedPipeline", "cascade", cascade_combined,
         lambda: words(prior_num_inference_steps=2, height=128, width=128)),
    case("IFPipeline", "deepfloyd_if", floyd, lambda: prompts(2, dim=32, side=0, **PLAIN),
         kinds=DECODED, count=2, slot=True),
    case("DDPMPipeline", "ddpm", lambda: pixels(diffusers.DDPMScheduler()), pixels_call, kinds=DECODED, count=2),
    case("DDIMPipeline", "ddim", lambda: pixels(ddim()), pixels_call, kinds=DECODED, count=2),
    case("ConsistencyModelPipeline", "consistency",
         lambda: pixels(diffusers.CMStochasticIterativeScheduler()), pixels_call, kinds=DECODED, count=2),
    case("LDMTextToImagePipeline", "latent_diffusion", latent_text,
         lambda: steps(2, prompt=["a disc", "a ring"], **SIZE, **PLAIN), kinds=DECODED, count=2),
    case("LDMSuperResolutionPipeline", "latent_diffusion", superresolution, lambda: steps(image=image()),
         kinds=DECODED),
]  # fmt: skip
