"""Tiny text and vision models of transformers, and tokenizers that know letters only."""

from __future__ import annotations

import string
from typing import Any

from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    XLMRobertaTokenizer,
)

from tests.pipelines.zoo.parts import build_model

LETTERS = string.ascii_lowercase
SMALL = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SCORED = [("\u2581", -1.0), *((letter, -2.0) for letter in LETTERS)]


def clip_text(width: int = 16, *, projected: bool = True) -> Any:
    config = CLIPTextConfig(
        hidden_size=width, projection_dim=width, vocab_size=64, bos_token_id=0, eos_token_id=1, pad_token_id=1, **SMALL
    )
    return build_model(CLIPTextModelWithProjection if projected else CLIPTextModel, config=config)


def clip_tokenizer() -> Any:
    pieces = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    return CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=77)


def clip_texts(end: str = "", *, projected: bool = True) -> dict[str, Any]:
    """A text encoder and its tokenizer."""
    return {f"text_encoder{end}": clip_text(projected=projected), f"tokenizer{end}": clip_tokenizer()}


def t5_texts(end: str = "") -> dict[str, Any]:
    """A T5 encoder and its tokenizer."""
    config = T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=64)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *SCORED]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=16)
    return {f"text_encoder{end}": build_model(T5EncoderModel, config=config), f"tokenizer{end}": tokenizer}


def roberta_tokenizer() -> Any:
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *SCORED, ("<mask>", 0.0)]
    return XLMRobertaTokenizer(vocab=pieces, model_max_length=77)


def vision(side: int = 32) -> Any:
    config = CLIPVisionConfig(hidden_size=16, projection_dim=16, image_size=side, patch_size=side // 2, **SMALL)
    return build_model(CLIPVisionModelWithProjection, config=config)


def vision_processor(side: int = 32) -> Any:
    return CLIPImageProcessor(size=side, crop_size=side)
