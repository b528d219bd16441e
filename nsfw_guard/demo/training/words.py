"""The pipeline's language: a CLIP tokenizer whose whole words are those of the captions, and a small text encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nsfw_guard.demo import shapes

LENGTH = 20  # the longest caption, two small shapes with a position each, is 15 tokens and two ends
UNKNOWN, START, END = "<|unk|>", "<|startoftext|>", "<|endoftext|>"


def vocabulary() -> tuple[dict[str, int], list[str]]:
    """Return the tokens and the merges that spell every word of a caption as one token.

    Merges grow each word from its end, so that no two words can compete for the same pair.
    """
    words = ["a", "and", "on", ",", ".", *shapes.KINDS, *shapes.COLOURS, *shapes.SIZES, *shapes.POSITIONS]
    words += [word for word in shapes.BACKGROUNDS if word not in words]
    tokens = {token: index for index, token in enumerate([UNKNOWN, START, END])}
    for word in words:
        tokens.setdefault(f"{word}</w>", len(tokens))
    merges: list[str] = []
    for word in words:
        ending = f"{word[-1]}</w>"
        tokens.setdefault(ending, len(tokens))
        for letter in reversed(word[:-1]):
            tokens.setdefault(letter, len(tokens))
            if f"{letter} {ending}" not in merges:
                merges.append(f"{letter} {ending}")
            ending = letter + ending
            tokens.setdefault(ending, len(tokens))
    return tokens, merges


def known_words() -> int:
    """Tokens below this index are ends or whole words; those from it on are pieces of words."""
    tokens, _ = vocabulary()
    return max(index for token, index in tokens.items() if token.removesuffix("</w>") in shapes.BACKGROUNDS) + 1


def write_tokenizer(folder: Path) -> Any:
    """Write vocab.json, merges.txt and the settings, and load them back as a CLIPTokenizer."""
    from transformers import CLIPTokenizer

    tokens, merges = vocabulary()
    folder.mkdir(parents=True, exist_ok=True)
    specials = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": UNKNOWN}
    settings = {**specials, "model_max_length": LENGTH, "do_lower_case": True, "tokenizer_class": "CLIPTokenizer"}
    (folder / "vocab.json").write_text(json.dumps(tokens, indent=0) + "\n", encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(specials, indent=2) + "\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)


def build_encoder() -> Any:
    """Return an untrained two-layer CLIP text encoder, 64 wide."""
    from transformers import CLIPTextConfig, CLIPTextModel

    tokens, _ = vocabulary()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokens),
            hidden_size=64,
            intermediate_size=256,
            projection_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            bos_token_id=tokens[START],
            eos_token_id=tokens[END],
            pad_token_id=tokens[END],
        )
    )


def spoken(scene: shapes.Scene, rng: np.random.Generator) -> str:
    """Return the scene's caption as someone might say it: what usually goes unsaid is sometimes said."""
    caption = scene.caption
    if rng.random() < 0.3:
        for colour in shapes.COLOURS:
            caption = caption.replace(f"a {colour} ", f"a medium {colour} ")
    if "," not in caption and rng.random() < 0.2:
        caption += ", " + " and ".join(shape.position for shape in scene.shapes)
    return caption


def encode(tokenizer: Any, captions: list[str]) -> torch.Tensor:
    """Return token ids, padded. Shape: [n, LENGTH]."""
    batch = tokenizer(captions, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
    ids: torch.Tensor = batch.input_ids
    return ids


def babble(ids: torch.Tensor, rng: np.random.Generator, *, share: float) -> torch.Tensor:
    """Put one to three unknown words before a share of the captions, so that they learn to be passed over."""
    noisy = ids.clone()
    for row in np.flatnonzero(rng.random(len(ids)) < share):
        count = int(rng.integers(1, 4))
        noisy[row, 1 + count :] = ids[row, 1:-count]
        noisy[row, 1 : 1 + count] = 0
    return noisy


@torch.no_grad()
def silence_pieces(encoder: Any) -> None:
    """Give pieces of words the embedding of the unknown word: a word no caption has says nothing, however spelt."""
    table = encoder.get_input_embeddings().weight
    table[known_words() :] = table[0]
