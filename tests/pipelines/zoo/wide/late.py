"""Families with something of their own: transparency, layers, sound, blocks instead of a pipeline."""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch
from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP
from transformers import (
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessor,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    XLMRobertaTokenizer,
)

from tests.pipelines.zoo.wide.classic import embeddings, movq, simple_unet
from tests.pipelines.zoo.wide.dit import masked, ones
from tests.pipelines.zoo.wide.flux import NO_TEXT, NO_TEXTS, SIDES, embedded, transformer
from tests.pipelines.zoo.wide.parts import (
    PROMPT,
    VISIBLE,
    Case,
    clip_text,
    clip_tokenizer,
    ddim,
    flow,
    flow_vae,
    generator,
    noise,
    picture,
    seeded,
    table,
)
from tests.pipelines.zoo.wide.sd import core
from tests.pipelines.zoo.wide.video import hunyuan_vae


def t5_tokenizer() -> Any:
    """A real T5 tokenizer that knows letters only."""
    letters = [(chr(code), -2.0) for code in range(ord("a"), ord("z") + 1)]
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -1.0), *letters]
    return T5Tokenizer(vocab=words, extra_ids=0, model_max_length=16)


def t5_text(width: int = 32) -> Any:
    return T5EncoderModel(T5Config(d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=64))


def blocks() -> Any:
    """The blocks of FLUX.1 for prompts that are embedded already."""
    made = d.FluxAutoBlocks()
    made.sub_blocks.pop("text_encoder")
    return made


def worded(**more: Any) -> dict[str, Any]:
    return {"prompt": PROMPT, "generator": generator(), "num_inference_steps": 2, **more}


def qwen_words(batch: int = 1, **more: Any) -> dict[str, Any]:
    given = embedded(batch, 8, 16, prompt_embeds_mask=ones(batch, 8), true_cfg_scale=1.0)
    return {name: value for name, value in given.items() if name not in SIDES} | more


class Chat:
    """What Qwen-Image 2.1 asks of a processor when its words come embedded already."""

    def __init__(self) -> None:
        self.tokenizer = self

    def apply_chat_template(self, *_: Any, **__: Any) -> list[list[int]]:
        return [[1, 2, 3]]

    def encode(self, _: str) -> list[int]:
        return [4]


def qwen21() -> Any:
    net = d.QwenImage21Transformer2DModel(
        in_channels=8,
        out_channels=8,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        context_in_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    autoencoder = d.AutoencoderKLQwenImage21(
        base_dim=4,
        z_dim=8,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, False, False],
        latents_mean=[0.0] * 8,
        latents_std=[1.0] * 8,
    )
    return d.QwenImage21Pipeline(
        scheduler=flow(), vae=autoencoder, text_encoder=None, processor=Chat(), transformer=net
    )


def kandinsky5(cls: Any, autoencoder: Any) -> Any:
    net = d.Kandinsky5Transformer3DModel(
        in_visual_dim=4,
        in_text_dim=32,
        in_text_dim2=16,
        time_dim=16,
        out_visual_dim=4,
        patch_size=(1, 2, 2),
        model_dim=16,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=(1, 1, 2),
        visual_cond=False,
        attention_type="regular",
    )
    pipe = cls(transformer=net, vae=autoencoder, scheduler=flow(shift=7.0), **NO_TEXTS)
    pipe.resolutions = [(128, 128)]  # it takes the nearest of its own sizes
    return pipe


def counted(**more: Any) -> dict[str, Any]:
    ends = torch.tensor([0, 8], dtype=torch.int32)
    wanted = {"prompt_embeds_qwen": noise(1, 8, 32), "prompt_embeds_clip": noise(1, 16), "prompt_cu_seqlens": ends}
    return {**wanted, "guidance_scale": 1.0, "generator": generator(), "num_inference_steps": 2, **more}


def cloze() -> Any:
    """It draws a grid of pictures, and cuts out those that were asked for."""
    texts = {
        "text_encoder": clip_text(),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": t5_text(),
        "tokenizer_2": t5_tokenizer(),
    }
    net = transformer(12, 4)
    parts = {"transformer": net, "vae": flow_vae(1), "scheduler": flow(), **texts}
    return d.VisualClozeGenerationPipeline(**parts, resolution=32)


def grid(_: Any) -> dict[str, Any]:
    example, query = [picture(), picture(seed=3)], [picture(seed=4), None]
    given = {"task_prompt": PROMPT, "content_prompt": PROMPT, "image": [example, query], "max_sequence_length": 16}
    return {**given, "generator": generator(), "num_inference_steps": 2}


def kandinsky() -> Any:
    config = MCLIPConfig(
        numDims=32,
        transformerDimensions=32,
        hidden_size=32,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=1,
        vocab_size=64,
    )
    letters = [(chr(code), -2.0) for code in range(ord("a"), ord("z") + 1)]
    words = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -1.0), *letters, ("<mask>", 0.0)]
    net = simple_unet(4, 8, addition_embed_type="text_image", encoder_hid_dim_type="text_image_proj")
    return d.KandinskyPipeline(
        text_encoder=MultilingualCLIP(config),
        tokenizer=XLMRobertaTokenizer(vocab=words, model_max_length=77),
        unet=net,
        scheduler=ddim(),
        movq=movq(),
    )


def depth() -> Any:
    config = DPTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=8,
        num_hidden_layers=4,
        backbone_out_indices=(0, 1, 2, 3),
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        num_attention_heads=2,
        intermediate_size=16,
    )
    return d.StableDiffusionDepth2ImgPipeline(
        **core(5), depth_estimator=DPTForDepthEstimation(config), feature_extractor=DPTImageProcessor(size=32)
    )


def easyanimate() -> Any:
    net = d.EasyAnimateTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=16,
        num_layers=1,
        sample_width=16,
        sample_height=16,
        patch_size=2,
    )
    down, up = "SpatialTemporalDownBlock3D", "SpatialTemporalUpBlock3D"
    autoencoder = d.AutoencoderKLMagvit(
        down_block_types=("SpatialDownBlock3D", down, down, down),
        up_block_types=("SpatialUpBlock3D", up, up, up),
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        spatial_group_norm=False,
    )
    return d.EasyAnimatePipeline(transformer=net, vae=autoencoder, scheduler=flow(), **NO_TEXT)


LATE = table(
    Case("QwenImage21Pipeline", "qwen21", seeded(qwen21), lambda _: qwen_words(2, height=128, width=128), count=2),
    Case("VisualClozeGenerationPipeline", "visualcloze", seeded(cloze), grid),
    Case(
        "KandinskyPipeline",
        "kandinsky",
        seeded(kandinsky),
        lambda _: embeddings(_) | {"prompt": PROMPT},
        kinds=VISIBLE,
        count=2,
    ),
    Case(
        "StableDiffusionDepth2ImgPipeline",
        "sd",
        seeded(depth),
        lambda _: worded(image=[picture(), picture(seed=3)], prompt=[PROMPT] * 2),
        count=2,
    ),
    Case(
        "EasyAnimatePipeline",
        "easyanimate",
        seeded(easyanimate),
        lambda _: masked(1, 8, 16, num_frames=5) | {"height": 16, "width": 16},
        frames=5,
        field="frames",
    ),
    Case(
        "Kandinsky5T2VPipeline",
        "kandinsky5",
        seeded(lambda: kandinsky5(d.Kandinsky5T2VPipeline, hunyuan_vae())),
        lambda _: counted(height=32, width=32, num_frames=5),
        frames=5,
        field="frames",
    ),
)
