"""What a case of the zoo is, and what cases share: tiny models with random weights, images, schedulers, arguments."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image

ALL = ("pil", "np", "pt", "latent")
DECODED = ("pil", "np", "pt")
PROMPT = "a red disc on white"

# Every model of the zoo takes these, of those settings that it knows, unless a case says otherwise.
TINY: dict[str, Any] = {
    "num_layers": 1, "num_single_layers": 1, "num_refiner_layers": 1, "layers_per_block": 1, "num_res_blocks": 1,
    "down_num_layers_per_block": (1, 1), "up_num_layers_per_block": (1, 1), "num_text_blocks": 1,
    "num_visual_blocks": 1, "num_attention_heads": 2, "num_cross_attention_heads": 2, "num_kv_heads": 1,
    "attention_head_dim": 8, "hidden_size": 8, "cross_attention_dim": 8, "joint_attention_dim": 16,
    "pooled_projection_dim": 16, "caption_projection_dim": 16, "caption_channels": 16, "cap_feat_dim": 16,
    "text_embed_dim": 16, "text_dim": 16, "block_out_channels": (8, 16), "norm_num_groups": 2, "latent_channels": 4,
    "base_dim": 4, "multiple_of": 16, "conditioning_embedding_out_channels": (4, 8), "sample_size": 16,
    "axes_dims_rope": (4, 4, 8), "rope_max_seq_len": 32, "freq_dim": 32, "ffn_dim": 32, "adaln_lora_dim": 4,
    "max_size": (4, 32, 32),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One real pipeline class, tiny, and one call of it.

    Args:
        name: the class, or "Class/variant"; family: what it belongs to.
        build: makes the pipeline anew; call: the arguments of one call, but for output_type and return_dict.
        kinds: the output types it knows.
        count: images, or clips, that leave; frames: of a clip, 0 for images; parts: images in an entry.
        slot: it has one for a safety checker; field: where its images are; modular: it is a modular pipeline.
    """

    name: str
    family: str
    build: Callable[[], Any]
    call: Callable[[Any], dict[str, Any]]
    kinds: tuple[str, ...] = ALL
    count: int = 1
    frames: int = 0
    parts: int = 1
    slot: bool = False
    field: str = "images"
    modular: bool = False


def case(
    name: str, family: str, components: Callable[[], dict[str, Any]], call: Callable[[], dict[str, Any]], **fields: Any
) -> Case:
    """A case whose pipeline is made of these components."""
    cls = name.split("/", maxsplit=1)[0]
    return Case(name, family, lambda: build_pipeline(cls, **components()), lambda _: call(), **fields)


def clip(
    name: str, family: str, frames: int, components: Any, call: Callable[[], dict[str, Any]], **fields: Any
) -> Case:
    """A case of a pipeline that makes clips."""
    return case(name, family, components, call, frames=frames, field="frames", **fields)


def build_model(cls: Any, **settings: Any) -> Any:
    """A tiny model with the same random weights every time."""
    known = inspect.signature(cls.__init__).parameters
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tiny sizes are unusual, and some models say so
        torch.manual_seed(0)
        model = cls(**{name: value for name, value in TINY.items() if name in known} | settings).eval()
        for name, weights in model.named_parameters():
            if weights.ndim > 1 and not bool(weights.any()):  # what is zero at first would draw nothing
                torch.nn.init.normal_(weights, std=0.02)
            elif name.endswith("conv_out.weight"):
                torch.nn.init.normal_(weights, std=0.05)
    return model


def build_pipeline(name: str, **parts: Any) -> Any:
    """A pipeline of these parts, quiet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = getattr(diffusers, name)(**parts)
    for step in (pipe, *(getattr(pipe, part, None) for part in ("prior_pipe", "decoder_pipe"))):
        if step is not None:
            step.set_progress_bar_config(disable=True)
    return pipe


def no_texts(count: int = 1) -> dict[str, None]:
    """Text encoders and tokenizers that are left out, as prompts come as embeddings."""
    ends = ("", "_2", "_3", "_4")[:count]
    return {f"{part}{end}": None for end in ends for part in ("text_encoder", "tokenizer")}


def seeds(count: int = 1) -> Any:
    """A generator, or several."""
    one = [torch.Generator().manual_seed(7 + i) for i in range(count)]
    return one[0] if count == 1 else one


def steps(count: int = 1, **more: Any) -> dict[str, Any]:
    return {"num_inference_steps": 2, "generator": seeds(count), **more}


def words(**more: Any) -> dict[str, Any]:
    """The arguments of a call that starts from words."""
    return steps(**{"prompt": PROMPT, **more})


def prompts(
    count: int = 1,
    tokens: int = 5,
    dim: int = 16,
    *,
    side: int = 32,
    pooled: int = 0,
    mask: str = "",
    negative: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """The arguments of a call whose prompts are embedded already.

    Args:
        dim: width of an embedding; side: of the square that is asked for, 0 to ask for none.
        pooled: width of a pooled embedding; mask: name of the argument for the attention mask, if any.
        negative: the same again for what is not wanted.
    """
    given = {"prompt_embeds": random(count, tokens, dim), **steps(count)}
    given |= {"height": side, "width": side} if side else {}
    given |= {"pooled_prompt_embeds": random(count, pooled)} if pooled else {}
    given |= {"negative_prompt_embeds": random(count, tokens, dim, seed=1)} if negative else {}
    for name in (mask, f"negative_{mask}")[: 1 + negative] if mask else ():
        given[name] = torch.ones(count, tokens, dtype=torch.int64)
    return given | more


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    """Numbers that are always the same."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def image(side: int = 32, *, seed: int = 0) -> Image.Image:
    """A smooth image, as a user would hand one in."""
    rough = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(rough, (side, side), mode="bilinear")[0]
    return Image.fromarray(smooth.mul(255).byte().permute(1, 2, 0).numpy())


def hole(side: int = 32) -> Image.Image:
    """A mask with a square in its middle."""
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : -side // 4, side // 4 : -side // 4] = 255
    return Image.fromarray(mask)


def kl(channels: int = 4, cls: Any = diffusers.AutoencoderKL, *, blocks: tuple[int, ...] = (8, 8), **more: Any) -> Any:
    """A small AutoencoderKL, or one of its kin; with two blocks it halves the sides once."""
    down, up = ("DownEncoderBlock2D",) * len(blocks), ("UpDecoderBlock2D",) * len(blocks)
    settings = {"down_block_types": down, "up_block_types": up, "latent_channels": channels, "sample_size": 32, **more}
    return build_model(cls, block_out_channels=blocks, **settings)


def flat_kl(channels: int, blocks: tuple[int, ...] = (8, 8)) -> Any:
    """An AutoencoderKL as the flow models have it: shifted, without the convolutions in the middle."""
    settings = {"use_quant_conv": False, "use_post_quant_conv": False, "shift_factor": 0.06, "scaling_factor": 1.5}
    return kl(channels, blocks=blocks, **settings)


def unet(channels: int = 4, *, out: int = 4, cross: int = 8, **settings: Any) -> Any:
    """A small UNet2DConditionModel."""
    blocks = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    heads = {"attention_head_dim": 4, "num_attention_heads": None}
    sizes = {"in_channels": channels, "out_channels": out, "cross_attention_dim": cross}
    return build_model(diffusers.UNet2DConditionModel, **{**sizes, **heads, **blocks, **settings})


def ddim(**settings: Any) -> Any:
    """A scheduler of the first kind."""
    return diffusers.DDIMScheduler(clip_sample=False, beta_schedule="scaled_linear", **settings)


def flow(**settings: Any) -> Any:
    """A scheduler of flow matching."""
    return diffusers.FlowMatchEulerDiscreteScheduler(**settings)
