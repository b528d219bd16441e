"""Tiny judges of the four real classes, with real processors and tokenizers, made in code. Random weights."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nsfw_guard.backends.judges.judge import Judge
from nsfw_guard.backends.judges.prompts import FAMILIES, GENERAL
from nsfw_guard.imaging.frames import Frames

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}<start_of_turn>user\n{% for c in messages[-1]['content'] %}"
    "{% if c['type'] == 'image' %}<start_of_image>{% else %}One rule:\n{{ c['text'] }}{% endif %}{% endfor %}\n"
    "Is it broken? Begin with 'Yes' or 'No'.<end_of_turn>\n<start_of_turn>model\n"
)
LLAMA = (
    "<|begin_of_text|><|header_start|>user<|header_end|>\n\n<|image|>Task: look for what is listed here.\n"
    "{% for key in categories %}{{ key }}: {{ categories[key] }}\n{% endfor %}Said: "
    "{% for c in messages[-1]['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}"
    "<|eot|>{% if add_generation_prompt %}<|header_start|>assistant<|header_end|>\n\n{% endif %}"
)
SPECIAL = {
    "shieldgemma2": ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>",
                     "<end_of_image>", "<image_soft_token>"],
    "llama4": ["<|pad|>", "<|begin_of_text|>", "<|header_start|>", "<|header_end|>", "<|eot|>", "<|image|>",
               "<|image_start|>", "<|image_end|>", "<|patch|>", "<|tile_x_separator|>", "<|tile_y_separator|>"],
    "qwen3_vl": ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
                 "<|video_pad|>"],
    "llava_onevision": ["<|pad|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"],
}  # fmt: skip
TEXT: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 4096, "tie_word_embeddings": False,
}  # fmt: skip
SIGLIP: dict[str, Any] = {
    "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 14,
    "image_size": 28, "vision_use_head": False,
}  # fmt: skip
INSTALLED = version("transformers") if find_spec("transformers") else ""
RECORDS = {"shieldgemma2": "shieldgemma2", "llama4": "llama-guard-4", "qwen3_vl": "qwen3-vl-2b",
           "llava_onevision": "llavaguard-0.5b"}  # fmt: skip
NAMES = tuple(name for name, family in FAMILIES.items() if INSTALLED not in family.broken_in)
QUESTIONS = {"sexual": "sexually explicit content", "violence": "blood or wounds are shown", "mess": "an untidy desk"}


def tokenizer(name: str, *, without: Sequence[str] = ()) -> Any:
    """A byte-level BPE that knows the family's marks, and the words of the questions as tokens of their own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    words = [w for w in ("Yes", "No", "safe", "unsafe", "Safe", "Unsafe") if w not in without]
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=SPECIAL[name], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    bpe.train_from_iterator([f"{w}\n" for w in words for _ in range(99)] + list(GENERAL.values()) * 3, trainer)
    named = {
        "shieldgemma2": {
            "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>",
            "extra_special_tokens": {
                "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>",
            },
        },
        "llama4": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot|>", "pad_token": "<|pad|>"},
    }.get(name, {"eos_token": "<|im_end|>", "pad_token": "<|pad|>"})  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=bpe, padding_side="right", **named)


def processor(name: str, read: Any) -> Any:
    """The family's own processor, for images of a few pixels."""
    import transformers as t

    if name == "shieldgemma2":
        seen = t.Gemma3ImageProcessor(size={"height": 28, "width": 28})
        return t.ShieldGemma2Processor(seen, read, chat_template=GEMMA, image_seq_length=1)
    if name == "llama4":
        seen = t.Llama4ImageProcessor(size={"height": 28, "width": 28}, max_patches=4)
        return t.Llama4Processor(seen, read, patch_size=14, pixel_shuffle_ratio=0.5, chat_template=LLAMA)
    if name == "qwen3_vl":
        size = {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}
        seen = t.Qwen2VLImageProcessor(patch_size=16, merge_size=2, size=size)
        moving = t.Qwen3VLVideoProcessor(patch_size=16, merge_size=2)
        template = CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
        return t.Qwen3VLProcessor(seen, read, moving, chat_template=template)
    pins = [[28, 28], [28, 56], [56, 28], [56, 56]]
    seen = t.LlavaOnevisionImageProcessor(size={"height": 28, "width": 28}, image_grid_pinpoints=pins)
    return t.LlavaOnevisionProcessor(
        seen, read, t.LlavaOnevisionVideoProcessor(size={"height": 28, "width": 28}), num_image_tokens=4,
        vision_feature_select_strategy="full", chat_template=CHATML.replace("IMAGE", "<image>\n"),
    )  # fmt: skip


def network(name: str, read: Any) -> Any:
    """The family's own class, a few thousand weights large."""
    import transformers as t

    ids = {token: read.convert_tokens_to_ids(token) for token in SPECIAL[name]}
    text = {**TEXT, "vocab_size": len(read), "pad_token_id": read.pad_token_id}
    if name == "shieldgemma2":
        config: Any = t.ShieldGemma2Config(
            text_config={**text, "model_type": "gemma3_text", "query_pre_attn_scalar": 16},
            vision_config={**SIGLIP, "model_type": "siglip_vision_model"}, mm_tokens_per_image=1,
            boi_token_index=ids["<start_of_image>"], eoi_token_index=ids["<end_of_image>"],
            image_token_index=ids["<image_soft_token>"],
            yes_token_index=read.convert_tokens_to_ids("Yes"), no_token_index=read.convert_tokens_to_ids("No"),
        )  # fmt: skip
    elif name == "llama4":
        config = t.Llama4Config(
            text_config={**text, "intermediate_size_mlp": 48, "moe_layers": [], "attention_chunk_size": None,
                         "num_local_experts": 1, "bos_token_id": 1, "eos_token_id": 4},
            vision_config={"hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 2,
                           "image_size": 28, "patch_size": 14, "vision_output_dim": 32, "projector_input_dim": 32,
                           "projector_output_dim": 32},
            boi_token_index=ids["<|image_start|>"], eoi_token_index=ids["<|image_end|>"],
            image_token_index=ids["<|patch|>"],
        )  # fmt: skip
    elif name == "qwen3_vl":
        config = t.Qwen3VLConfig(
            text_config={**text, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5,
                                                     "mrope_section": [4, 2, 2], "mrope_interleaved": True}},
            vision_config={"depth": 2, "hidden_size": 24, "intermediate_size": 32, "num_heads": 2, "patch_size": 16,
                           "out_hidden_size": 32, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
            image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
        )  # fmt: skip
    else:
        config = t.LlavaOnevisionConfig(
            text_config={**text, "model_type": "qwen2"}, vision_config={**SIGLIP, "model_type": "siglip_vision_model"},
            image_token_index=ids["<image>"], video_token_index=ids["<video>"],
            image_grid_pinpoints=[[28, 28], [28, 56], [56, 28], [56, 56]],
        )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(7)
        net = getattr(t, FAMILIES[name].model)(config).eval()
        for where, weight in net.named_parameters():
            if "mm_input_projection" in where:  # Gemma's begins at zero: it would not look at the image
                torch.nn.init.normal_(weight)
    return net


def head(model: Any) -> torch.nn.Linear:
    """The last layer, which gives every token its number."""
    (last,) = (layer for where, layer in model.named_modules() if where.endswith("lm_head"))
    return last


def inputs_of_policies(processor: Any, image: Image.Image) -> dict[str, Any]:
    """What ShieldGemma 2's processor makes of one image and every question, as its authors use it."""
    policies = {category: FAMILIES["shieldgemma2"].render(category, q)[0] for category, q in QUESTIONS.items()}
    return dict(processor(images=[image], policies=list(policies), custom_policies=policies, return_tensors="pt"))


def inputs_of(name: str, processor: Any, image: Image.Image, question: str, category: str) -> dict[str, Any]:
    """What transformers makes of one image and one question, without any of our code but the words."""
    family = FAMILIES[name]
    text, policy = family.render(category, question)
    if name == "shieldgemma2":
        return dict(
            processor(images=[image], policies=[category], custom_policies={category: text}, return_tensors="pt")
        )
    said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
    prompt = processor.apply_chat_template(said, tokenize=False, add_generation_prompt=True, **policy)
    prompt += family.answer_prefix if name == "llava_onevision" else ""
    return dict(processor(images=[image], text=[prompt], add_special_tokens=False, return_tensors="pt"))


def teach(model: Any, prompts: Sequence[dict[str, Any]], ids: Sequence[int]) -> None:
    """Makes the given tokens likely at the end of such prompts, each with a leaning of its own."""
    seen: list[torch.Tensor] = []
    hook = head(model).register_forward_hook(lambda _, args, __: seen.append(args[0][0, -1].detach()))
    with torch.inference_mode():
        for inputs in prompts:
            model(**{k: v.float() if v.is_floating_point() else v for k, v in inputs.items()})
    hook.remove()
    way = torch.stack(seen).mean(0)
    way /= way.norm() ** 2
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for token in ids:
            lean = torch.randn(way.shape) / way.numel() ** 0.5
            head(model).weight[token] = way * 40 + lean


def write(folder: Path, name: str, *, without: Sequence[str] = (), shard: str = "50GB") -> Path:
    """A judge's folder as its authors lay it out."""
    if name not in NAMES:
        pytest.skip(f"transformers {INSTALLED} cannot run {name}")
    read = tokenizer(name, without=without)
    prepare, model = processor(name, read), network(name, read)
    text = model.config.get_text_config()
    kept = getattr(text, "attention_chunk_size", None)
    if name == "llama4":
        text.attention_chunk_size = text.max_position_embeddings
    grey = Image.fromarray(np.full((40, 30, 3), 120, np.uint8))
    answers = [read.convert_tokens_to_ids(w) for w in (FAMILIES[name].yes_answer, FAMILIES[name].no_answer)]
    if not without:
        prompts = [inputs_of(name, prepare, grey, q, c) for c, q in QUESTIONS.items()]
        if name == "shieldgemma2":
            sample = prepare(images=[grey], return_tensors="pt")
            prompts += [{k: v[i : i + 1] for k, v in sample.items()} for i in range(len(sample["input_ids"]))]
        teach(model, prompts, answers)
    if name == "llama4":
        text.attention_chunk_size = kept
    model.save_pretrained(folder, max_shard_size=shard)
    prepare.save_pretrained(folder)
    return folder


def reference(
    name: str, folder: Path, image: Image.Image, dtype: torch.dtype = torch.float32, keep: int = 1
) -> torch.Tensor:
    """P(violates) of each question, from transformers alone. Shape: (questions,)."""
    import transformers

    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = getattr(transformers, FAMILIES[name].model).from_pretrained(folder, dtype=dtype).eval()
    if name == "llama4":
        model.config.text_config.attention_chunk_size = 4096
    policies = name == "shieldgemma2"
    asked = [inputs_of(name, processor, image, q, c) for c, q in QUESTIONS.items()]
    ids = processor.tokenizer.convert_tokens_to_ids([FAMILIES[name].yes_answer, FAMILIES[name].no_answer])
    chances = []
    for inputs in [inputs_of_policies(processor, image)] if policies else asked:
        cast = {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}
        with torch.no_grad():
            out = model(**cast, logits_to_keep=keep)
        chances.append(out.probabilities[:, 0] if policies else out.logits[:, -1, ids].float().softmax(1)[:, 0])
    return torch.cat(chances)


def numbers(judge: Judge, *stacks: torch.Tensor) -> torch.Tensor:
    """P(violates). Shape: (frames, questions)."""
    return torch.tensor([list(s.numbers()) for s in judge.score([Frames(pixels) for pixels in stacks])])
