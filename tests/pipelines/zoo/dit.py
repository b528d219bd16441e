"""Images by other transformers: Qwen, Sana, PixArt, Lumina, CogView, Hunyuan and many more."""

from __future__ import annotations

from typing import Any

import diffusers
import torch

from tests.pipelines.zoo.parts import (
    DECODED,
    Case,
    build_model,
    build_pipeline,
    case,
    ddim,
    flat_kl,
    flow,
    image,
    kl,
    no_texts,
    prompts,
    random,
    seeds,
    steps,
)

MASK = "prompt_attention_mask"
UNBINNED = {"mask": MASK, "use_resolution_binning": False}
PLAIN = {"guidance_scale": 1.0}
DIT = {
    "attention_bias": True, "activation_fn": "gelu-approximate", "num_embeds_ada_norm": 1000,
    "norm_elementwise_affine": False,
}  # fmt: skip


def transformer_parts(cls: Any, vae: Any, scheduler: Any = None, *, texts: int = 1, **settings: Any) -> dict[str, Any]:
    """A transformer of four channels, unless the settings say otherwise, and what it needs."""
    net = build_model(cls, **{"in_channels": 4, **settings})
    return {"transformer": net, "vae": vae, "scheduler": scheduler or flow(), **no_texts(texts)}


class Typed(torch.nn.Module):
    """Stands where a pipeline asks a model for no more than its type and its place."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("anchor", torch.zeros(1), persistent=False)

    device = property(lambda self: self.anchor.device)
    dtype = property(lambda self: self.anchor.dtype)


class Chat:
    """What Qwen-Image 2.1 asks of a processor when its words come embedded already."""

    def __init__(self) -> None:
        self.tokenizer = self

    def apply_chat_template(self, *_: Any, **__: Any) -> list[list[int]]:
        return [[1, 2, 3]]

    def encode(self, _: str) -> list[int]:
        return [4]


def qwen_vae(cls: Any, latent: int, halvings: int, **settings: Any) -> Any:
    blocks = {"dim_mult": [1] * (halvings + 1), "temperal_downsample": [False] * halvings}
    spread = {"latents_mean": [0.0] * latent, "latents_std": [1.0] * latent}
    return build_model(cls, z_dim=latent, **blocks, **spread, **settings)


def qwen(latent: int = 4, vae: Any = None, **settings: Any) -> dict[str, Any]:
    return transformer_parts(
        diffusers.QwenImageTransformer2DModel, vae or qwen_vae(diffusers.AutoencoderKLQwenImage, latent, 2),
        patch_size=2, in_channels=4 * latent, out_channels=latent, attention_head_dim=16, axes_dims_rope=(8, 4, 4),
        **settings,
    )  # fmt: skip


def qwen_layered() -> dict[str, Any]:
    vae = qwen_vae(diffusers.AutoencoderKLQwenImage, 8, 4, input_channels=4)
    layered = qwen(8, vae, use_additional_t_cond=True, use_layer3d_rope=True)
    return {**layered, "processor": None, "text_encoder": Typed()}


def qwen21() -> dict[str, Any]:
    sizes = {"in_channels": 8, "out_channels": 8, "attention_head_dim": 16, "context_in_dim": 16}
    vae = qwen_vae(diffusers.AutoencoderKLQwenImage21, 8, 3)
    parts = transformer_parts(diffusers.QwenImage21Transformer2DModel, vae, texts=0, **sizes, axes_dims_rope=(4, 6, 6))
    return {**parts, "text_encoder": None, "processor": Chat()}


def qwen_call(count: int = 1, **more: Any) -> dict[str, Any]:
    return prompts(count, mask="prompt_embeds_mask", true_cfg_scale=1.0, **more)


def sana() -> dict[str, Any]:
    blocks = ("ResBlock", "EfficientViTBlock")
    vae = build_model(
        diffusers.AutoencoderDC, in_channels=3, attention_head_dim=2, scaling_factor=0.4,
        encoder_block_types=blocks, encoder_block_out_channels=(8, 8), encoder_layers_per_block=(1, 1),
        decoder_block_types=blocks, decoder_block_out_channels=(8, 8), decoder_layers_per_block=[1, 1],
        encoder_qkv_multiscales=((), (5,)), downsample_block_type="conv", decoder_norm_types="rms_norm",
        decoder_qkv_multiscales=((), (5,)), upsample_block_type="interpolate", decoder_act_fns="silu",
    )  # fmt: skip
    return transformer_parts(
        diffusers.SanaTransformer2DModel, vae, flow(shift=7.0), patch_size=1, out_channels=4, sample_size=32,
        attention_head_dim=4, cross_attention_head_dim=4,
    )  # fmt: skip


def pixart() -> dict[str, Any]:
    return transformer_parts(
        diffusers.PixArtTransformer2DModel, kl(), ddim(), patch_size=2, out_channels=8, cross_attention_dim=16,
        norm_type="ada_norm_single", norm_eps=1e-6, use_additional_conditions=False, **DIT,
    )  # fmt: skip


def zimage() -> dict[str, Any]:
    return transformer_parts(
        diffusers.ZImageTransformer2DModel, flat_kl(4), all_patch_size=(2,), all_f_patch_size=(1,), dim=32, n_layers=1,
        n_refiner_layers=1, n_heads=2, n_kv_heads=2, axes_dims=[8, 4, 4], axes_lens=[256, 32, 32],
    )  # fmt: skip


def aura() -> dict[str, Any]:
    layers = {"num_mmdit_layers": 1, "num_single_dit_layers": 1}
    net = diffusers.AuraFlowTransformer2DModel
    return transformer_parts(net, kl(), patch_size=2, out_channels=4, pos_embed_max_size=256, **layers)


def lumina() -> dict[str, Any]:
    settings = {"qk_norm": True, "learn_sigma": True, "scaling_factor": 1.0}
    vae = kl(blocks=(8,) * 4)
    return transformer_parts(diffusers.LuminaNextDiT2DModel, vae, sample_size=4, patch_size=2, **settings)


def lumina2() -> dict[str, Any]:
    return transformer_parts(
        diffusers.Lumina2Transformer2DModel, flat_kl(4), sample_size=4, patch_size=2, num_refiner_layers=2,
        num_attention_heads=1, axes_dim_rope=[4, 2, 2],
    )  # fmt: skip


def cogview4() -> dict[str, Any]:
    shift = {"base_shift": 0.25, "max_shift": 0.75, "base_image_seq_len": 256, "use_dynamic_shifting": True}
    return transformer_parts(
        diffusers.CogView4Transformer2DModel, kl(), flow(**shift, time_shift_type="linear"), patch_size=2,
        attention_head_dim=4, num_attention_heads=4, out_channels=4, time_embed_dim=8, condition_dim=4,
    )  # fmt: skip


def cogview3() -> dict[str, Any]:
    return transformer_parts(
        diffusers.CogView3PlusTransformer2DModel, kl(), diffusers.CogVideoXDDIMScheduler(), patch_size=2,
        attention_head_dim=4, out_channels=4, time_embed_dim=8, condition_dim=2, pos_embed_max_size=16,
    )  # fmt: skip


def chroma() -> dict[str, Any]:
    approximator = {"approximator_hidden_dim": 32, "approximator_layers": 1, "approximator_num_channels": 16}
    return transformer_parts(
        diffusers.ChromaTransformer2DModel, flat_kl(1), patch_size=1, attention_head_dim=16, **approximator
    )


def ovis() -> dict[str, Any]:
    net = diffusers.OvisImageTransformer2DModel
    return transformer_parts(net, flat_kl(1), patch_size=1, out_channels=4, attention_head_dim=16)


def hunyuan_dit() -> dict[str, Any]:
    parts = transformer_parts(
        diffusers.HunyuanDiT2DModel, kl(blocks=(8,) * 4), diffusers.DDPMScheduler(), texts=2, patch_size=2,
        num_layers=2, num_attention_heads=3, hidden_size=24, cross_attention_dim=16, cross_attention_dim_t5=16,
        text_len=5, text_len_t5=5, activation_fn="gelu-approximate",
    )  # fmt: skip
    return {**parts, "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def hunyuan_image() -> dict[str, Any]:
    vae = build_model(
        diffusers.AutoencoderKLHunyuanImage, in_channels=3, out_channels=3, block_out_channels=(32, 64, 64, 64),
        scaling_factor=0.5, spatial_compression_ratio=8, sample_size=128,
    )  # fmt: skip
    parts = transformer_parts(
        diffusers.HunyuanImageTransformer2DModel, vae, flow(shift=7.0), texts=2, patch_size=(1, 1), out_channels=4,
        num_attention_heads=4, guidance_embeds=False, text_embed_2_dim=16, rope_axes_dim=(4, 4),
    )  # fmt: skip
    return {**parts, "guider": None, "ocr_guider": None}


def twice(mask: str, **more: Any) -> dict[str, Any]:
    """Prompts for two text encoders."""
    one = prompts(mask=mask)
    return {**one, **{f"{name}_2": one[name] for name in ("prompt_embeds", mask)}, **more}


def dit() -> dict[str, Any]:
    settings = {"patch_size": 4, "out_channels": 8, "norm_type": "ada_norm_zero"}
    return transformer_parts(diffusers.DiTTransformer2DModel, kl(), ddim(), texts=0, **settings, **DIT)


def hidream() -> Any:
    parts = transformer_parts(
        diffusers.HiDreamImageTransformer2DModel, kl(shift_factor=0.1159), texts=4, patch_size=2, out_channels=4,
        num_attention_heads=4, caption_channels=[32, 16], text_emb_dim=64, num_routed_experts=4,
        num_activated_experts=2, axes_dims_rope=(4, 2, 2), max_resolution=(32, 32), llama_layers=(0, 1),
    )  # fmt: skip
    pipe = build_pipeline("HiDreamImagePipeline", **parts)
    pipe.default_sample_size = 16  # whatever size one asks for, it takes one of about this area
    return pipe


def hidream_call() -> dict[str, Any]:
    """T5, a pooled CLIP, and one embedding a Llama layer; and the same for what is not wanted."""
    shapes = {"prompt_embeds_t5": (1, 8, 32), "prompt_embeds_llama3": (2, 1, 8, 16), "pooled_prompt_embeds": (1, 64)}
    wanted = {name: random(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    unwanted = {f"negative_{name}": random(*shape, seed=3 + i) for i, (name, shape) in enumerate(shapes.items())}
    return steps(**wanted, **unwanted, height=32, width=32, guidance_scale=5.0)


def bria() -> dict[str, Any]:
    vae = kl(blocks=(8,), shift_factor=0, scaling_factor=0.13025)
    net, axes = diffusers.BriaTransformer2DModel, [0, 4, 4]
    return transformer_parts(net, vae, patch_size=1, in_channels=16, pooled_projection_dim=None, axes_dims_rope=axes)


def prx(channels: int, patch: int) -> dict[str, Any]:
    sizes = {"in_channels": channels, "patch_size": patch, "context_in_dim": 16, "axes_dim": [2, 2]}
    depth = {"num_heads": 2, "depth": 1, "mlp_ratio": 2.0}
    return transformer_parts(diffusers.PRXTransformer2DModel, flat_kl(4), **sizes, **depth)


def prx_pixel() -> dict[str, Any]:
    """The same without a VAE: it draws pixels."""
    parts = prx(3, 4)
    del parts["vae"]
    return {**parts, "noise_scale": 1.0}


def prx_call() -> dict[str, Any]:
    return prompts(tokens=8, negative=True, negative_prompt=None, **UNBINNED)


def kandinsky5_net() -> Any:
    return build_model(
        diffusers.Kandinsky5Transformer3DModel, in_visual_dim=4, in_text_dim=16, in_text_dim2=16, time_dim=16,
        out_visual_dim=4, patch_size=(1, 2, 2), model_dim=16, ff_dim=32, axes_dims=(1, 1, 2), visual_cond=False,
        attention_type="regular",
    )  # fmt: skip


def kandinsky5() -> dict[str, Any]:
    return {"transformer": kandinsky5_net(), "vae": flat_kl(4), "scheduler": flow(shift=7.0), **no_texts(2)}


def kandinsky5_call(tokens: int = 5, **more: Any) -> dict[str, Any]:
    embeds = {"prompt_embeds_qwen": random(1, tokens, 16), "prompt_embeds_clip": random(1, 16)}
    ends = torch.tensor([0, tokens], dtype=torch.int32)
    return steps(**embeds, prompt_cu_seqlens=ends, height=32, width=32, guidance_scale=1.0, **more)


CASES = [
    case("QwenImagePipeline", "qwen", qwen, qwen_call),
    case("QwenImageLayeredPipeline", "qwen", qwen_layered,
         lambda: qwen_call(side=0, image=image(64).convert("RGBA"), layers=2, prompt="shapes"),
         kinds=("np",), parts=2),
    case("QwenImage21Pipeline", "qwen21", qwen21, lambda: qwen_call(2, tokens=8, side=128, generator=seeds()),
         count=2),
    case("SanaPipeline", "sana", sana, lambda: prompts(2, **UNBINNED, **PLAIN), count=2),
    case("PixArtAlphaPipeline", "pixart", pixart, lambda: prompts(negative_prompt=None, **UNBINNED, **PLAIN)),
    case("PixArtSigmaPipeline", "pixart", pixart, lambda: prompts(2, negative_prompt=None, **UNBINNED, **PLAIN),
         count=2),
    case("ZImagePipeline", "z_image", zimage, lambda: prompts(prompt_embeds=[random(5, 16)], guidance_scale=0.0)),
    case("AuraFlowPipeline", "aura_flow", aura, lambda: prompts(mask=MASK, **PLAIN)),
    case("LuminaPipeline", "lumina", lumina, lambda: prompts(tokens=8, dim=8, mask=MASK, negative=True)),
    case("Lumina2Pipeline", "lumina", lumina2, lambda: prompts(mask=MASK, **PLAIN)),
    case("CogView4Pipeline", "cogview4", cogview4, lambda: prompts(tokens=16, **PLAIN)),
    case("CogView3PlusPipeline", "cogview3", cogview3, lambda: prompts(**PLAIN)),
    case("ChromaPipeline", "chroma", chroma,
         lambda: prompts(prompt_attention_mask=torch.ones(1, 5, dtype=torch.bool), **PLAIN)),
    case("OvisImagePipeline", "ovis", ovis, lambda: prompts(**PLAIN)),
    case("HunyuanDiTPipeline", "hunyuan_dit", hunyuan_dit,
         lambda: twice(MASK, use_resolution_binning=False, **PLAIN), slot=True),
    case("HunyuanImagePipeline", "hunyuan_image", hunyuan_image, lambda: twice("prompt_embeds_mask")),
    case("DiTPipeline", "dit", dit, lambda: steps(2, class_labels=[1, 2], **PLAIN), kinds=DECODED, count=2),
    Case("HiDreamImagePipeline", "hidream", hidream, lambda _: hidream_call()),
    case("BriaPipeline", "bria", bria,
         lambda: prompts(2, tokens=8, negative=True, generator=seeds()), count=2),
    case("PRXPipeline", "prx", lambda: prx(4, 1), prx_call),
    case("PRXPixelPipeline", "prx", prx_pixel, prx_call),
    case("Kandinsky5T2IPipeline", "kandinsky5", kandinsky5, kandinsky5_call,
         kinds=("pil", "pt", "latent"), field="image"),
]  # fmt: skip
